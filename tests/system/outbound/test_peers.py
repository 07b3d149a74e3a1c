"""Mail to other people's servers: over TLS to a pinned key, and octet for octet what was handed in."""

from __future__ import annotations

import email
import re
from pathlib import Path

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import FakeMx
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.peers import running, smtp_sink
from tests.system.outbound.sink import Sink, without_trace
from tests.system.pki import Authority
from tests.system.waiting import wait_for

CONTENTS = {
    "plain": b"From: ann@a.test\r\nSubject: plain\r\n\r\nhello\r\n",
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\n\r\n.\r\n"
    + b"".join(b"." * n + b"\r\n" for n in range(1, 60)),
    "long lines": b"Subject: long\r\n\r\n" + b"".join(b"%d" % (n % 10) * 998 + b"\r\n" for n in range(200)),
    "eight bit": b"Subject: 8bit\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "empty body": b"Subject: nothing\r\n\r\n",
    "header only": b"Subject: header only\r\n",
    "trailing lines": b"Subject: blank\r\n\r\n\r\n\r\n  \r\n\t\r\n\r\n\r\n",
}
# What other servers add where it is missing, so that the rest can be compared.
COMPLETE = (
    b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%d@a.test>\r\nFrom: ann@a.test\r\nTo: bob@peer.test\r\n"
)


def complete(content: bytes, number: int) -> bytes:
    kept = content.replace(b"From: ann@a.test\r\n", b"", 1) if content.startswith(b"From: ") else content
    return COMPLETE % number + kept


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "pinned"])
def test_every_octet_arrives(house: House, authority: Authority, tmp_path: Path, tls: bool) -> None:
    server = authority.server("sink.test")
    with Sink(server.server_context(tmp_path / "sink.pem") if tls else None) as sink:
        open_to_all(house, f"peer.test:127.0.0.1:{sink.port}")
        if tls:
            house.control("peer.test.pem", server.pem)
        house.start()
        contents = [*CONTENTS.values(), b"Subject: very long\r\n\r\n" + b"x" * 300_000 + b"\r\n", b"\r\n", b"\r\n.\r\n"]
        hand_in(house, "bob@peer.test", contents=contents)
        taken = sink.wait_for(len(contents))
    assert {t.tls for t in taken} == {"TLSv1.3" if tls else ""}
    assert sorted(without_trace(t.content) for t in taken) == sorted(contents)
    assert all(t.content.startswith(b"Received: from client.test") for t in taken)
    house.wait_for_empty_queue()


@pytest.mark.parametrize("name", ["exim", "postfix", "opensmtpd", "opensmtpd-7"])
def test_relays_over_tls_to_a_pinned_server(house: House, authority: Authority, tmp_path: Path, name: str) -> None:
    server = authority.server("peer.test", "127.0.0.1")
    with Sink() as sink, running(name, server, tmp_path / name, sink.port) as peer:
        open_to_all(house, f"peer.test:127.0.0.1:{peer.port}")
        house.control("peer.test.pem", server.pem)
        house.start()
        contents = [complete(content, n) for n, content in enumerate(CONTENTS.values()) if b"\r\n\r\n" in content]
        hand_in(house, "bob@peer.test", contents=contents)
        if not peer.has_working_tls:
            assert name == "opensmtpd"
            # Its handshakes fail for everyone: a pin must hold mail back, and without one it goes in plaintext.
            house.wait_for_log("deferred .*TLS handshake failed")
            house.control("peer.test.pem", None)
            house.reload()
        taken = sink.wait_for(len(contents))
        house.wait_for_empty_queue()
        assert sorted(without_trace(t.content) for t in taken) == sorted(contents)
        if peer.has_working_tls:
            pinned = re.compile(r'delivered .*tls="TLSv1\.[23] [^"]* pin"')
            wait_for(lambda: len(pinned.findall(house.log())) == len(contents), "a line for each delivery")


@pytest.mark.parametrize("name", ["exim", "postfix", "opensmtpd", "opensmtpd-7"])
def test_takes_from_a_foreign_server(house: House, authority: Authority, tmp_path: Path, name: str) -> None:
    """The other side: each of them relays to us what it was given, and hears at once who is unknown here."""
    house.start()
    with running(name, authority.server("peer.test", "127.0.0.1"), tmp_path / name, house.port) as peer:
        contents = [complete(content, n) for n, content in enumerate(CONTENTS.values()) if b"\r\n\r\n" in content]
        with SmtpClient(peer.port) as client:
            client.command("EHLO client.test", 250)
            for content in contents:
                client.command("MAIL FROM:<ann@a.test> BODY=8BITMIME", 250)
                client.command("RCPT TO:<postmaster@mx.test>", 250)
                client.command("DATA", 354)
                client.send((b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
                client.expect(250)
            assert client.mail("postmaster@mx.test", "nobody@mx.test", content=complete(b"\r\nx\r\n", 99)).code == 250
        mail = house.wait_for_mail(len(contents) + 1)
    taken = sorted(without_trace(m).replace(b"\r\n", b"\n") for m in mail if b"nobody@mx.test" not in m)
    assert taken == sorted(content.replace(b"\r\n", b"\n") for content in contents)
    (report,) = [m for m in mail if b"nobody@mx.test" in m]
    assert b"550" in report and b"5.1.1" in report


def test_relays_to_smtp_sink(house: House, tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    with smtp_sink(dumps) as port:
        open_to_all(house, f":127.0.0.1:{port}")
        house.start()
        hand_in(house, "bob@peer.test", contents=CONTENTS.values())
        house.wait_for_empty_queue()
    found = [path.read_bytes() for path in dumps.iterdir()]
    assert len(found) == len(CONTENTS)
    for content in CONTENTS.values():
        written = b"\n" + content.replace(b"\r\n", b"\n") + b"\n"  # it writes LF, and an empty line at the end
        assert any(dump.endswith(written) for dump in found)


def test_a_server_for_seven_bits_gets_ascii_and_nothing_else(house: House) -> None:
    """Clients declare 8BITMIME whatever they send; real 8-bit text goes as quoted-printable."""
    with FakeMx(extensions=()) as mx:
        open_to_all(house, f":127.0.0.1:{mx.port}").start()
        hand_in(house, "bob@peer.test", sender="postmaster@mx.test", contents=[CONTENTS["dots"], CONTENTS["eight bit"]])
        messages = mx.wait_for_messages(2)
        house.wait_for_empty_queue()
    assert all(message.content.isascii() for message in messages)
    dots, eight = sorted((without_trace(m.content) for m in messages), key=lambda c: b"8bit" in c)
    assert dots == CONTENTS["dots"]
    parsed, original = email.message_from_bytes(eight), email.message_from_bytes(CONTENTS["eight bit"])
    assert parsed.get_payload(decode=True) == original.get_payload(decode=True)
    assert messages[0].sender == "<postmaster@mx.test>"
