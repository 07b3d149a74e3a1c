"""Mail of ours is signed on its way to other hosts, once for each form of it, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from qmtls.cli.pem import key_pem
from qmtls.smtp.envelope import Arrival, Envelope
from tests.net.hosts import Host
from tests.service.office import Office, address, recipient

KEY = {"dkim/here.example.s1.key": key_pem(Ed25519PrivateKey.generate())}
MAIL = b"From: s@here.example\r\nSubject: hello\r\nMIME-Version: 1.0\r\n\r\nbody\r\n"
TEXT = b"Content-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"
EIGHT = b"From: s@here.example\r\n" + TEXT
LOCAL: Any = Arrival(1.8e9, protocol="local")


@pytest.fixture
def signing(tmp_path: Path) -> Office:
    return Office(tmp_path, {**KEY, "tlsdefault": "may\n"})


def post(office: Office, content: bytes, arrival: Arrival, *recipients: str, remember: bool = True) -> None:
    """As `Office.post`, but it came otherwise."""
    envelope = Envelope(address("s@here.example"), tuple(map(recipient, recipients)), arrival)
    id = office.ids.next()
    incoming = office.spool.begin(id, envelope)
    incoming.write(content)
    assert office.spool.commit([incoming]) == [None]
    office.relayer.offer(office.spool, id, envelope, content if remember else None)


@pytest.mark.parametrize("arrival", [LOCAL, Arrival(1.8e9, "192.0.2.7", protocol="ESMTPS", identity="joe@x")])
@pytest.mark.parametrize("remember", [True, False], ids=["in memory", "on the disk"])
def test_mail_of_ours_is_signed(signing: Office, arrival: Arrival, remember: bool) -> None:
    hosts = [signing.host(f"mx.{domain}.example") for domain in "ab"]
    post(signing, MAIL, arrival, "x@a.example", "y@b.example", remember=remember)
    signing.run()
    (one,), (two,) = (host.mail for host in hosts)
    assert one.content == two.content  # made once
    assert one.content.startswith(b"DKIM-Signature: v=1;")
    assert one.content.endswith(MAIL)
    assert f"SIZE={len(one.content)}" in str([visit.lines for visit in hosts[0].visits])


def test_it_is_believed(signing: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dkim.time, "time", lambda: 1.9e9)
    host = signing.host("mx.a.example")
    post(signing, MAIL, LOCAL, "x@a.example")
    signing.run()
    (mail,) = host.mail
    (key,) = signing.snapshot.settings.dkim["here.example"]
    name, text = key.record
    assert dkim.DKIM(mail.content).verify(dnsfunc=lambda asked, timeout=5: {f"{name}.".encode(): text.encode()}[asked])


def test_what_is_converted_gets_its_own(signing: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dkim.time, "time", lambda: 1.9e9)
    old = signing.host("mx.a.example", Host(ehlo=("there", "PIPELINING")))
    new = signing.host("mx.b.example", Host(ehlo=("there", "PIPELINING", "8BITMIME")))
    post(signing, EIGHT, LOCAL, "x@a.example", "y@b.example")
    signing.run()
    signing.pass_time(1)
    (key,) = signing.snapshot.settings.dkim["here.example"]
    text = key.record[1].encode()
    for host in (old, new):
        (mail,) = host.mail
        assert dkim.DKIM(mail.content).verify(dnsfunc=lambda asked, timeout=5: text)
    assert old.mail[0].content.isascii()
    assert new.mail[0].content.endswith(EIGHT)


def test_mail_of_others_is_not(signing: Office) -> None:
    host = signing.host("mx.a.example")
    post(signing, MAIL, Arrival(1.8e9, "192.0.2.7", protocol="ESMTPS"), "x@a.example")
    signing.run()
    assert [mail.content for mail in host.mail] == [MAIL]


def test_what_cannot_be_signed_goes_unsigned(signing: Office) -> None:
    host = signing.host("mx.a.example")
    odd = MAIL.replace(b"Subject", b"From: x@y\r\nSubject")
    post(signing, odd, LOCAL, "x@a.example")
    signing.run()
    assert [mail.content for mail in host.mail] == [odd]
    (line,) = signing.said("not signed")
    assert line.endswith("reason=it has two From fields")
