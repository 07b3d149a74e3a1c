"""DSN, SMTPUTF8, REQUIRETLS and 8-bit text on their way out: to servers that know them, and to those that don't.

The messages are put into the queue as programs of this host do it, so that nothing but the way out is tried.
"""

from __future__ import annotations

import email
import re
import time
from pathlib import Path

import pytest

from qmtls.net.ids import Ids
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.bins import INJECT
from qmtls.spool.maildir import MaildirSpool
from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import EXTENSIONS, Do, FakeMx, Message
from tests.system.outbound import peers
from tests.system.outbound.handing import open_to_all
from tests.system.outbound.peers import running
from tests.system.outbound.sink import Sink
from tests.system.pki import Authority
from tests.system.waiting import wait_for

HELLO = (
    b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@a.test>\r\nFrom: ann@a.test\r\nTo: bob@peer.test\r\n"
    b"Subject: hello\r\n\r\nsecret text\r\n"
)
EIGHT = HELLO.replace(b"Subject", b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nSubject").replace(
    b"secret", b"gr\xc3\xbc\xc3\x9fe"
)
POSTMASTER = Address("postmaster", "mx.test")
BOB = Address("bob", "peer.test")
TLS_ONLY = ("PIPELINING", "8BITMIME", "REQUIRETLS")


def post(
    house: House, *recipients: Recipient, sender: Address = POSTMASTER, content: bytes = HELLO, **more: object
) -> str:
    """A message into the bin of this host's programs; its id."""
    spool = MaildirSpool(house.home / "queue" / INJECT)
    envelope = Envelope(sender, recipients, Arrival(time.time(), protocol="local"), **more)  # type: ignore[arg-type]
    id = Ids().next()
    incoming = spool.begin(id, envelope)
    incoming.write(content)
    assert spool.commit([incoming]) == [None]
    return id


def asking(address: Address, notify: str, orcpt: str = "") -> Recipient:
    return Recipient(address, (("NOTIFY", notify), *((("ORCPT", orcpt),) if orcpt else ())))


@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_a_server_with_dsn_tells_the_sender_itself(
    house: House, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It reads our parameters as they came in: they stand in the report that it makes."""
    monkeypatch.setattr(peers, "EXIM", peers.EXIM.replace("host_lookup =", "dsn_advertise_hosts = *\nhost_lookup ="))
    server = authority.server("peer.test", "127.0.0.1")
    with Sink() as sink, running(name, server, tmp_path / name, sink.port) as peer:
        open_to_all(house, f"peer.test:127.0.0.1:{peer.port}").control("peer.test.pem", server.pem)
        house.start()
        recipients = [
            asking(BOB, "SUCCESS", "rfc822;Bob+2Bx@orig.test"),
            asking(Address("never", "peer.test"), "NEVER"),
        ]
        id = post(house, *recipients, sender=Address("ann", "a.test"), parameters=(("RET", "HDRS"), ("ENVID", "QQ314")))
        taken = sink.wait_for(2)
        house.wait_for_empty_queue()
    (report,) = [t.content.decode() for t in taken if b"multipart/report" in t.content]
    assert re.search(r"Original-Recipient: rfc822; ?Bob\+(2B)?x@orig\.test", report)
    assert re.search("Action: (relayed|delivered)", report)
    assert name == "exim" or "Original-Envelope-Id: QQ314" in report, "Exim has no place for it"
    assert "never@peer.test" not in report
    assert "secret text" not in report
    assert f"about={id}" not in house.log(), "it is the peer's to tell"


def test_a_server_without_dsn_leaves_it_to_us(house: House) -> None:
    with FakeMx({"RCPT": [Do(), Do(b"550 5.1.1 nobody\r\n"), Do(b"550 5.1.1 nobody\r\n")]}) as mx:
        open_to_all(house, f":127.0.0.1:{mx.port}").start()
        id = post(
            house,
            asking(BOB, "SUCCESS,FAILURE", "rfc822;Bob@orig.test"),
            asking(Address("quiet", "peer.test"), "NEVER"),
            asking(Address("loud", "peer.test"), "FAILURE"),
            parameters=(("ENVID", "QQ+2B314"),),
        )
        reports = [email.message_from_bytes(report) for report in house.wait_for_mail(2)]
        house.wait_for_empty_queue()
    assert not any("NOTIFY" in command or "ENVID" in command for command in mx.commands)
    fields = {str(report["Subject"]): report.as_string() for report in reports}
    assert set(fields) == {"failure notice", "delivery notice"}
    for text in fields.values():
        assert "Original-Envelope-Id: QQ+314" in text and id in text and "quiet@peer.test" not in text
    news, failure = fields["delivery notice"], fields["failure notice"]
    assert "Action: relayed" in news and "Original-Recipient: rfc822; Bob@orig.test" in news
    assert "secret text" not in news
    assert "Final-Recipient: rfc822; loud@peer.test" in failure and "Action: failed" in failure
    assert "secret text" in failure


def test_what_a_client_asks_for_is_done(house: House) -> None:
    """From one end to the other: taken by our server, kept in the queue, said or done on the way out."""
    with FakeMx(extensions=(*EXTENSIONS, "DSN")) as dsn, FakeMx() as old:
        open_to_all(house, f"dsn.test:127.0.0.1:{dsn.port}", f"old.test:127.0.0.1:{old.port}").start()
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            client.command("MAIL FROM:<postmaster@mx.test> RET=HDRS ENVID=QQ314", 250)
            client.command("RCPT TO:<bob@dsn.test> NOTIFY=SUCCESS ORCPT=rfc822;Bob@orig.test", 250)
            client.command("RCPT TO:<eve@old.test> NOTIFY=SUCCESS,DELAY", 250)
            client.command("DATA", 354)
            client.send(HELLO + b".\r\n")
            client.expect(250)
        (report,) = house.wait_for_mail()
        house.wait_for_empty_queue()
    mail, rcpt = (next(c for c in dsn.commands if c.startswith(verb)) for verb in ("MAIL", "RCPT"))
    assert "RET=HDRS" in mail and "ENVID=QQ314" in mail
    assert rcpt == "RCPT TO:<bob@dsn.test> NOTIFY=SUCCESS ORCPT=rfc822;Bob@orig.test"
    assert b"Final-Recipient: rfc822; eve@old.test" in report and b"bob@dsn.test" not in report
    assert b"Original-Envelope-Id: QQ314" in report


@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_an_international_address_to_a_real_server(
    house: House, authority: Authority, tmp_path: Path, name: str
) -> None:
    server = authority.server("peer.test", "127.0.0.1")
    with Sink() as sink, running(name, server, tmp_path / name, sink.port) as peer:
        open_to_all(house, f"peer.test:127.0.0.1:{peer.port}").control("peer.test.pem", server.pem)
        house.start()
        content = EIGHT.replace(b"hello", b"gr\xc3\xbc\xc3\x9fe")
        id = post(house, Recipient(Address("jörg", "peer.test")), content=content, smtputf8=True, body="8BITMIME")
        house.wait_for_log(rf"delivered id={id} to=<j.*rg@peer\.test>")


def test_eight_bit_text_for_a_server_of_old(house: House) -> None:
    """Converted where it can be, returned where not; never sent as it is."""
    with FakeMx(extensions=()) as mx:
        open_to_all(house, f":127.0.0.1:{mx.port}").start()
        post(house, Recipient(BOB), content=EIGHT)
        (message,) = mx.wait_for_messages()
        post(house, Recipient(BOB), content=EIGHT.replace(b"hello", b"gr\xc3\xbc\xc3\x9fe"))
        (report,) = house.wait_for_mail()
        house.wait_for_empty_queue()
    assert message.content.isascii()
    parsed = email.message_from_bytes(message.content)
    assert parsed.get_payload(decode=True) == "grüße text\r\n".encode()
    assert b"Status: 5.6.3" in report and b"a header field holds 8-bit text" in report.replace(b"\n", b" ")
    assert len(mx.messages) == 1


def guarded(mx: FakeMx) -> Message:
    """The only message that came: under TLS, and said to need it."""
    (message,) = mx.wait_for_messages()
    assert message.session.tls.startswith("TLS")
    assert "REQUIRETLS" in message.sender
    return message


def test_requiretls(house: House, authority: Authority, tmp_path: Path) -> None:
    server = authority.server("peer.test", "other.test")
    context = server.server_context(tmp_path / "server.pem")
    with FakeMx(tls=context, extensions=TLS_ONLY) as mx, FakeMx(tls=context) as other:
        open_to_all(house, f"peer.test:127.0.0.1:{mx.port}", f"other.test:127.0.0.1:{other.port}")
        for domain in ("peer.test", "other.test"):
            house.control(f"{domain}.pem", server.pem)
        house.start()
        post(house, Recipient(BOB), Recipient(Address("eve", "other.test")), requiretls=True)
        guarded(mx)
        (report,) = house.wait_for_mail()
        house.wait_for_empty_queue()
    assert not [command for command in other.commands if "MAIL" in command]
    assert b"Status: 5.7.30" in report and b"Subject: hello" in report
    assert b"secret text" not in report, "headers only"


def test_guarded_mail_waits_for_a_host_that_is_verified(house: House, authority: Authority, tmp_path: Path) -> None:
    """The policy would send it to anyone; the message says no."""
    server = authority.server("peer.test")
    with FakeMx(tls=server.server_context(tmp_path / "server.pem"), extensions=TLS_ONLY) as mx:
        open_to_all(house, f"peer.test:127.0.0.1:{mx.port}").start()
        id = post(house, Recipient(BOB), requiretls=True)
        house.wait_for_log(rf"deferred id={id} .*status=4\.7\.5 .*REQUIRETLS")
        assert not [command for command in mx.commands if "MAIL" in command]
        house.control("peer.test.pem", server.pem)
        guarded(mx)
        wait_for(lambda: not house.queue(), "an empty queue")
