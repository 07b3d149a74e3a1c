"""One message on its way into the spool."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from qmtls.access import Peer
from qmtls.ledger.clients import ClientSeen, ShownClient
from qmtls.net.reception import REMEMBERED, Came, Reception
from qmtls.smtp.envelope import Envelope
from qmtls.smtp.events import MailFrom, RcptTo
from qmtls.smtp.header import MAX_HEADER
from qmtls.smtp.reply import reply
from qmtls.smtp.server import GO_AHEAD, ServerConfig, ServerSession
from qmtls.spool.memory import MemorySpool
from qmtls.tls.clients import ClientMatch, ClientRule
from qmtls.tls.policy import Origin

PEER = Peer("192.0.2.1", False, None)
ID = "0123456789abc00000000"
WHO = ShownClient("alice@a.example", "ab" * 32, 1_900_000_000)
RULE = ClientRule("email", "alice@a.example", Origin("control/tlsclients", 1), "alice@a.example")


def begun(
    peer: Peer, relay_by: str = "", hello: str = "EHLO", recipients: int = 1, rule: ClientRule | None = None
) -> Reception:
    session = ServerSession(ServerConfig("mail.example.org", "hi"))
    session.receive_data(f"{hello} c.example\r\nMAIL FROM:<s@c.example> BODY=8BITMIME\r\n".encode())
    if hello == "HELO":
        session.receive_data(b"MAIL FROM:<s@c.example>\r\n")
    session.receive_data(b"".join(b"RCPT TO:<%d@there.example>\r\n" % n for n in range(recipients)) + b"DATA\r\n")
    while True:
        event = session.next_event()
        if isinstance(event, (MailFrom, RcptTo)):
            session.answer(reply(250, "", "ok"))
        else:
            break
    made = Reception.begin(
        MemorySpool(),
        ID,
        session,
        session.recipients,
        Came(peer, relay_by, 1_800_000_000.0, "mail.example.org", rule, WHO),
    )
    session.answer(GO_AHEAD)
    return made


def head(reception: Reception) -> str:
    reception.end()
    assert reception.remembered is not None
    return reception.remembered.decode()


@pytest.mark.parametrize(
    ("tls", "hello", "protocol"),
    [(False, "EHLO", "ESMTP"), (True, "EHLO", "ESMTPS"), (False, "HELO", "SMTP"), (True, "HELO", "SMTP")],
)
def test_the_protocol_of_the_trace(tls: bool, hello: str, protocol: str) -> None:
    reception = begun(Peer("192.0.2.1", tls, None, "TLSv1.3 X" if tls else ""), hello=hello)
    assert reception.envelope.arrival.protocol == protocol
    assert f"with {protocol}" in head(reception)
    assert ("TLSv1.3 X" in head(reception)) == tls


def test_the_certificate_that_opened_the_relay() -> None:
    opened = begun(Peer("192.0.2.1", True, ClientMatch((RULE,))), "alice@a.example", rule=RULE)
    assert "(cert alice@a.example)" in head(opened)
    assert opened.envelope.arrival.identity == "alice@a.example"
    network = begun(Peer("192.0.2.1", False, None), "192.0.2.0/24")
    assert "cert" not in head(network)
    assert network.envelope.arrival.identity == "192.0.2.0/24"


def test_a_recipient_is_named_only_if_it_is_the_only_one() -> None:
    peer = Peer("192.0.2.1", False, None)
    assert "for <0@there.example>" in head(begun(peer))
    assert "there.example" not in head(begun(peer, recipients=2))


def test_small_content_is_remembered() -> None:
    reception = begun(Peer("192.0.2.1", False, None))
    trace = head(reception)
    reception.write(b"x" * REMEMBERED)
    assert reception.remembered == trace.encode() + b"x" * REMEMBERED
    assert reception.size == REMEMBERED
    reception.write(b"y")
    assert reception.remembered is None


def test_after_trouble_content_is_passed_over() -> None:
    reception = begun(Peer("192.0.2.1", False, None))
    reception.trouble = reply(452, "4.3.1", "full")
    assert reception.write(b"x" * 1_000_000) is False
    assert reception.incoming is None
    assert reception.size == 1_000_000


def test_the_log_line() -> None:
    said: list[str] = []
    reception = begun(Peer("192.0.2.1", True, ClientMatch((RULE,)), "TLSv1.3 X"), "alice@a.example", recipients=3)
    reception.write(b"12345")
    reception.log_accepted(said.append)
    (line,) = said
    assert line.startswith(f"accepted id={ID} client=192.0.2.1 from=<s@c.example> to=<0@there.example> recipients=3")
    assert line.endswith(' size=5 tls="TLSv1.3 X" relay="alice@a.example"')


# ---------------------------------------------------------------- its header


def stored(reception: Reception) -> Envelope:
    """What the spool has after a commit."""
    spool = reception.spool
    assert spool.commit([reception.end()]) == [None]
    (waiting,) = spool.scan()
    return spool.envelope(waiting.id)


WISH = b"Subject: x\r\nTLS-Required: No\r\n\r\nhello\r\n"


@pytest.mark.parametrize("cut", [*range(len(WISH) + 1)])
def test_tls_that_the_sender_does_not_ask_for(cut: int) -> None:
    """RFC 8689 section 5, however the content comes."""
    reception = begun(PEER)
    for piece in (WISH[:cut], WISH[cut:]):
        if piece:
            reception.write(piece)
    assert stored(reception).tls_optional
    assert reception.remembered is not None and reception.remembered.endswith(b"+0000\r\n" + WISH)


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n\r\nTLS-Required: No\r\n",
        b"TLS-Required: Yes\r\n\r\n",
        b"",
        b"\r\n",
    ],
)
def test_a_message_that_does_not_say_so(content: bytes) -> None:
    reception = begun(PEER)
    if content:
        reception.write(content)
    assert not stored(reception).tls_optional


def test_a_header_without_an_end() -> None:
    reception = begun(PEER)
    reception.write(b"Subject: x\r\n")
    reception.write(b"tls-required: no\r\n")
    assert stored(reception).tls_optional


def test_a_header_without_end_is_not_held_without_end() -> None:
    reception = begun(PEER)
    line = b"X: " + b"y" * 995 + b"\r\n"
    for _ in range(MAX_HEADER // len(line) + 2):
        reception.write(line)
    assert reception.incoming is not None
    assert reception.incoming.size > MAX_HEADER
    assert reception.remembered is None


@pytest.mark.parametrize("length", [60, 200])
def test_a_long_header_is_held_once(length: int) -> None:
    """Whoever sends header lines and then waits has one copy of them here, and that is all."""
    reception = begun(PEER)
    tracemalloc.start()
    try:
        for n in range(length // 8):
            reception.write(bytes(bytearray(b"X-%02d: " % n + b"y" * (8192 - 8) + b"\r\n")))
        assert tracemalloc.get_traced_memory()[0] < 1.4 * length * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("submission", [False, True])
@pytest.mark.parametrize("step", [1, 1000])
def test_content_without_a_header_does_not_go_on_in_ours(submission: bool, step: int) -> None:
    content = b" not ours\r\nDate: x\r\nTLS-Required: No\r\n\r\nhello\r\n"
    reception = begun(Peer("192.0.2.1", True, None, submission=submission))
    for n in range(0, len(content), step):
        reception.write(content[n : n + step])
    assert not stored(reception).tls_optional
    assert reception.remembered is not None
    head, _, rest = reception.remembered.partition(b"\r\n\r\n")
    assert rest == content
    names = [b"Received", *([b"Date", b"Message-ID"] if submission else [])]
    assert [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] != b" "] == names
    assert reception.size == len(content)


def test_requiretls_is_stronger_than_the_header() -> None:
    """RFC 8689 section 4.1: the field counts for nothing then."""
    reception = begun(PEER)
    reception.envelope = replace(reception.envelope, requiretls=True)
    reception.write(WISH)
    assert not stored(reception).tls_optional


# ---------------------------------------------------------------- for the ledger


def test_who_was_seen() -> None:
    reception = begun(Peer("192.0.2.1", True, ClientMatch((RULE,))), "alice@a.example", rule=RULE)
    reception.write(b"12345")
    assert reception.seen() == ClientSeen("alice@a.example", WHO, "192.0.2.1", 1_800_000_000.0, 5)
    assert begun(PEER).seen() is None


def test_what_submitted_mail_lacks_is_added() -> None:
    for submission, added in ((True, b"Message-ID: <" + ID.encode() + b"@mail.example.org>\r\n"), (False, b"")):
        reception = begun(Peer("192.0.2.1", True, None, submission=submission))
        reception.write(b"Date: x\r\n\r\nbody\r\n")
        stored = reception.remembered
        assert stored is not None
        assert stored.endswith(b"+0000\r\n" + added + b"Date: x\r\n\r\nbody\r\n")
