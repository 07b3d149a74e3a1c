"""What hostile, broken and slow clients get, over real connections; and that others are served meanwhile."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.waiting import wait_for

HELLO = "EHLO client.test"
MAIL = "MAIL FROM:<joe@client.test>"
RCPT = "RCPT TO:<postmaster@mx.test>"


@pytest.fixture(scope="module")
def mx(standing_house: House) -> House:
    standing_house.control("databytes", "100000\n")
    # Our own hosts may do more; here they stand for strangers.
    standing_house.control("limits", "127.0.0.0/8 errors=10 connections=none\n")
    return standing_house.start()


def codes(house: House, data: bytes, size: int = 0) -> list[int]:
    """The codes of all replies to these octets, the greeting's left out, until the server closes."""
    with SmtpClient(house.port) as client:
        try:
            client.send(data, size)
        except ConnectionError:
            pass
        return [answer.code for answer in client.answers_to_end()]


def still_serves(house: House, tls: ssl.SSLContext | None = None) -> None:
    with SmtpClient(house.port) as client:
        if tls is None:
            client.command(HELLO, 250)
        else:
            client.starttls(tls)
        assert client.mail("joe@client.test", "postmaster@mx.test").code == 250


def lines(*commands: str | bytes) -> bytes:
    return b"".join((c.encode() if isinstance(c, str) else c) + b"\r\n" for c in commands)


# ------------------------------------------------------------ STARTTLS


INJECTED = b"RSET\r\nEHLO evil.test\r\nMAIL FROM:<evil@client.test>\r\nRCPT TO:<postmaster@mx.test>\r\n"


@pytest.mark.parametrize("behind", [b"N", b"NOOP", b"NOOP\r\n", INJECTED, b"\r\n", b"\x16\x03\x01"], ids=repr)
def test_octets_behind_starttls_end_the_session(mx: House, behind: bytes) -> None:
    with SmtpClient(mx.port) as client:
        client.command(HELLO, 250)
        client.send(b"STARTTLS\r\n" + behind)
        (answer,) = client.answers_to_end()
    assert answer.code == 501


def test_nothing_said_before_tls_counts_after_it(mx: House, anonymous: ssl.SSLContext) -> None:
    with SmtpClient(mx.port) as client:
        client.command(HELLO, 250)
        client.command("NOOP", 250)
        client.command("STARTTLS", 220)
        client.handshake(anonymous)
        client.command(MAIL, 503)  # no EHLO since
        client.command(HELLO, 250)
        client.command(RCPT, 503)
        client.command("STARTTLS", 503)
        client.command(MAIL, 250)


def test_injection_on_the_way_into_the_handshake(mx: House) -> None:
    """Octets that arrive after the 220 and are no TLS: no reply to them, neither in plaintext nor later."""
    with SmtpClient(mx.port) as client:
        client.command(HELLO, 250)
        client.command("STARTTLS", 220)
        client.send(INJECTED)
        said = client.read_to_end()
    assert b"250" not in said and b"503" not in said
    assert len(said) < 32  # a TLS alert at most


def test_plaintext_behind_a_close_notify_is_not_read(mx: House, anonymous: ssl.SSLContext) -> None:
    with SmtpClient(mx.port) as client:
        client.starttls(anonymous)
        client.command(MAIL, 250)
        client.command("RCPT TO:<postmaster@mx.test>", 250)
        client.command("DATA", 354)
        client.send(b"Subject: cut\r\n\r\nhalf a mess")
        assert isinstance(client.socket, ssl.SSLSocket)
        plain = client.socket.unwrap()
        plain.settimeout(10)
        try:
            plain.sendall(b"age\r\n.\r\nQUIT\r\n")
            assert plain.recv(1000) == b""
        except ConnectionError:
            pass
        plain.close()
    assert not any(b"Subject: cut" in message for message in mx.delivered())


def test_half_handshakes(mx: House, anonymous: ssl.SSLContext) -> None:
    """Cut at any place, reset at any place: the service goes on."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = anonymous.wrap_bio(incoming, outgoing, server_hostname="mx.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    for cut in (0, 1, 5, 6, len(hello) // 2, len(hello) - 1, len(hello)):
        for end in (SmtpClient.close, SmtpClient.reset):
            client = SmtpClient(mx.port)
            client.command(HELLO, 250)
            client.command("STARTTLS", 220)
            client.send(hello[:cut])
            end(client)
    still_serves(mx, anonymous)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_handshake_in_small_pieces(mx: House, anonymous: ssl.SSLContext, size: int) -> None:
    """The client's octets cut into segments, and the first encrypted command in one segment with its Finished."""
    with SmtpClient(mx.port) as client:
        client.command(HELLO, 250)
        client.command("STARTTLS", 220)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = anonymous.wrap_bio(incoming, outgoing, server_hostname="mx.test")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.send(outgoing.read(), size)
                incoming.write(client.socket.recv(65536))
        tls.write(lines(HELLO))
        client.send(outgoing.read(), size)
        said = b""
        while b"250 " not in said:
            try:
                said += tls.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))
        assert said.startswith(b"250-mx.test\r\n")
        assert b"STARTTLS" not in said


# ------------------------------------------------------------ commands


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ((HELLO, "MAIL FROM:<joe\0@client.test>", "QUIT"), [250, 501, 221]),
        ((HELLO, b"\xff\xfe\x80", "QUIT"), [250, 500, 221]),
        ((HELLO, b"M\xc3\x84IL FROM:<a@b>", "QUIT"), [250, 500, 221]),
        ((HELLO, MAIL, b"RCPT TO:<p\xc3\xb6st@mx.test>", "QUIT"), [250, 250, 553, 221]),
        ((HELLO, "N" * 3000, "QUIT"), [250, 500, 221]),
        (("EHLO", "QUIT"), [501, 221]),
        ((HELLO, "STARTTLS now", "QUIT"), [250, 501, 221]),
        ((HELLO, f"{MAIL} SIZE=100000000000", "QUIT"), [250, 552, 221]),
        ((HELLO, f"{MAIL} SIZE=-1", f"{MAIL} SIZE=abc", f"{MAIL} SIZE=1e3", "QUIT"), [250, 501, 501, 501, 221]),
        ((HELLO, f"{MAIL} FOO=bar", f"{MAIL} BODY=xx", "QUIT"), [250, 555, 555, 221]),
        ((HELLO, MAIL, MAIL, "QUIT"), [250, 250, 503, 221]),
        ((HELLO, MAIL, "RCPT TO:<x@elsewhere.test>", "DATA", "QUIT"), [250, 250, 553, 554, 221]),
        ((HELLO, MAIL, "RCPT TO:<postmaster@@mx.test>", "QUIT"), [250, 250, 501, 221]),
        ((HELLO, MAIL, "RCPT TO:<postmaster@mx.test", "QUIT"), [250, 250, 501, 221]),
        ((HELLO, MAIL, "RCPT TO:<postmaster@mx.test>x", "QUIT"), [250, 250, 501, 221]),
        ((HELLO, MAIL, 'RCPT TO:<"a', "QUIT"), [250, 250, 501, 221]),
        ((HELLO, MAIL, f"RCPT TO:<{'a' * 300}@mx.test>", "QUIT"), [250, 250, 501, 221]),
        (("HELO client.test", MAIL, RCPT, "QUIT"), [250, 250, 250, 221]),
        ((MAIL, "QUIT"), [503, 221]),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value[-2])[:40],
)
def test_bad_commands(mx: House, commands: Sequence[str | bytes], expected: list[int]) -> None:
    data = lines(*commands)
    for size in (0, 1):
        assert codes(mx, data, size) == expected


def test_unknown_commands_end_the_session(mx: House) -> None:
    said = codes(mx, lines(*["WHAT"] * 50))
    assert said[-1] == 421
    assert len(said) == 10


def test_a_web_browser(mx: House) -> None:
    assert len(codes(mx, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + lines(HELLO, MAIL, RCPT))) == 1


def test_endless_command_line(mx: House) -> None:
    """Nothing of it is kept: the session ends before a megabyte."""
    assert codes(mx, b"A" * 2_000_000) in ([500, 421], [421], [500])


def test_recipients_beyond_the_limit(mx: House) -> None:
    said = codes(mx, lines(HELLO, MAIL, *[RCPT] * 1003, "QUIT"))
    assert said == [250, 250, *[250] * 1000, *[452] * 3, 221]


# ------------------------------------------------------------ content


def content(house: House, data: bytes) -> str:
    with SmtpClient(house.port) as client:
        client.command(HELLO, 250)
        return str(client.mail("joe@client.test", "postmaster@mx.test", content=data))


def test_content(mx: House) -> None:
    head = b"Subject: x\r\n\r\n"
    assert content(mx, b"no header at all\r\n").startswith("250 ")
    assert content(mx, b"Received: x\r\n" * 120 + head).startswith("554 5.4.6 ")
    assert content(mx, head + b"x" * 70_000 + b"\r\n").startswith(("500 5.5.2 ", "250 "))
    assert content(mx, head + b"x" * 998 + b"\r\n").startswith("250 ")
    assert content(mx, head + b"too large\r\n" * 10_000).startswith("552 5.3.4 ")
    assert content(mx, head + b"a\0b\r\n").startswith("550 ")
    assert content(mx, b"").startswith("250 ")


# ------------------------------------------------------------ time and numbers


@pytest.fixture
def hasty(house: House) -> House:
    house.control("timeoutsmtpd", "1\n")
    return house.start()


def test_silent_peers(hasty: House, anonymous: ssl.SSLContext) -> None:
    """Before a command, in its middle, after MAIL, under TLS: 421 and the end, not before its time."""
    begun = time.monotonic()
    with ExitStack() as stack:
        clients = [stack.enter_context(SmtpClient(hasty.port)) for _ in range(4)]
        clients[1].send(b"EHLO client.te")
        clients[2].send(lines(HELLO, MAIL))
        for _ in range(2):
            clients[2].expect(250)
        clients[3].starttls(anonymous)
        for client in clients:
            client.expect(421)
            assert time.monotonic() - begun > 0.9
            client.read_to_end()
    assert time.monotonic() - begun < 10


def test_slow_drip(hasty: House) -> None:
    """One octet after the other does not prolong the time for a command line."""
    begun = time.monotonic()
    with SmtpClient(hasty.port) as client:
        client.socket.settimeout(0.1)
        said = b""
        while b"421" not in said:
            assert time.monotonic() - begun < 10
            try:
                client.send(b"E")
                said += client.socket.recv(1000)
            except TimeoutError:
                pass
    assert time.monotonic() - begun > 0.9


def test_idle_connections_do_not_stop_service(mx: House, anonymous: ssl.SSLContext) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(SmtpClient(mx.port)) for _ in range(200)]
        for client in idle[::4]:
            client.send(b"EHLO cl")
        for client in idle[1::4]:
            client.starttls(anonymous)
        still_serves(mx)
        still_serves(mx, anonymous)
        for client in idle[2::4]:
            client.command(HELLO, 250)
    mx.wait_for_mail(2)


def test_client_that_reads_nothing(mx: House) -> None:
    """Commands without end, no reply read: it is not read on for ever, and others are served."""
    with SmtpClient(mx.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.command(HELLO, 250)
        client.socket.settimeout(1.0)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += client.socket.send(lines("NOOP") * 10_000)
        except (TimeoutError, ConnectionError):
            pass
        assert sent < 50_000_000
        still_serves(mx)


def test_connections_that_vanish(mx: House) -> None:
    """Closed and reset at every stage of a transaction: nothing is accepted, nothing stays."""
    mx.wait_for_empty_queue()  # what the tests before this one sent
    before = len(mx.delivered())
    stages = [HELLO, MAIL, RCPT, "DATA", "Subject: half"]
    for count in range(len(stages) + 1):
        for end in (SmtpClient.close, SmtpClient.reset):
            client = SmtpClient(mx.port)
            for command in stages[:count]:
                client.send(lines(command))
                if command != stages[-1]:
                    client.answer()
            end(client)
    still_serves(mx)
    mx.wait_for_mail(before + 1)
    assert len(mx.delivered()) == before + 1
    wait_for(lambda: not list(mx.home.glob("queue/*/tmp/*")), "empty tmp directories")
    assert "Traceback" not in mx.log()
