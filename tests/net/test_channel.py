"""The client's adapter: waiting, time limits, content at the peer's pace, and how a connection ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from qmtls.net.channel import HANDSHAKE_SECONDS, QUIT_SECONDS, WINDOW, Channel
from qmtls.smtp.address import Address
from qmtls.smtp.client import Outgoing, Unsendable
from qmtls.smtp.client_states import CONTENT_LIMIT, MAIL_LIMIT
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import Result, Stage
from qmtls.spool.api import Malformed, NotInSpool, SpoolError
from tests.net import certs
from tests.net.doubles import off_reactor
from tests.net.hosts import CLOSE, HANG, Host
from tests.net.wayout import WayOut

TO = (Address("x", "there.example"), Address("y", "there.example"))
LARGE = b"z" * 98 + b"\r\n"


class Line:
    """A channel to one host."""

    def __init__(self, path: Path, host: Host | None = None, patience: int = 100_000) -> None:
        tls: dict[str, Any] = {"tlspolicy": "there.example encrypt\n"} if host and host.leaf else {}
        self.way = WayOut(path, {"timeoutremote": f"{min(patience, 86400)}\n", **tls})
        self.host = self.way.host(host or Host())
        self.reactor = self.way.reactor
        (channel,) = self.way.dial()
        assert isinstance(channel, Channel), channel
        self.channel = channel

    def send(
        self, content: bytes | Iterator[bytes] = b"hello\r\n", size: int | None = None, to: tuple[Address, ...] = TO
    ) -> list[Any]:
        """Where the results will be."""
        octets = len(content) if isinstance(content, bytes) else size or 0
        pieces = iter((content,)) if isinstance(content, bytes) else content
        return self.way.result(self.channel.transact(Outgoing(None, tuple(map(Recipient, to)), octets), pieces))


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def codes(found: list[Any]) -> list[tuple[Stage, int]]:
    assert len(found) == 1, "not done yet"
    assert isinstance(found[0], tuple), found
    return [(result.stage, result.reply.code if result.reply else 0) for result in found[0]]


def pieces(octets: int, taken: list[int]) -> Iterator[bytes]:
    """Content that notes how much of it was asked for."""
    piece = LARGE * 600
    for n in range(0, octets, len(piece)):
        taken.append(n + len(piece))
        yield piece


def test_transactions(line: Line) -> None:
    for _ in range(3):
        assert codes(line.send()) == [(Stage.CONTENT, 250)] * 2
        assert line.channel.usable
    assert len(line.host.mail) == 3
    assert len(line.host.visits) == 1


def test_content_waits_for_a_peer_that_does_not_read(line: Line) -> None:
    visit = line.host.visits[0]
    line.host.replies["DATA"] = lambda v, _: deaf_after_354(v)
    taken: list[int] = []
    found = line.send(pieces(20_000_000, taken), 20_000_000)
    assert not found
    assert WINDOW // 2 < taken[-1] < 1_000_000
    line.reactor.pass_time(60)
    assert taken[-1] < 1_000_000
    visit.transport.resumeProducing()  # type: ignore[union-attr]
    line.reactor.run()
    assert codes(found) == [(Stage.CONTENT, 250)] * 2
    assert len(line.host.mail[0].content) == taken[-1]


def deaf_after_354(visit: Any) -> str:
    visit.content = []
    visit.transport.pauseProducing()
    return "354 go on"


def test_a_peer_that_stops_reading_is_given_up(line: Line) -> None:
    line.host.replies["DATA"] = lambda v, _: deaf_after_354(v)
    found = line.send(pieces(20_000_000, []), 20_000_000)
    line.reactor.pass_time(170, 5)
    assert not found
    line.reactor.pass_time(30, 5)
    assert codes(found) == [(Stage.SENDING, 0)] * 2
    assert not line.channel.usable
    line.reactor.pass_time(QUIT_SECONDS + 1)
    assert not line.reactor.getDelayedCalls()


def test_a_peer_that_refuses_in_the_middle(line: Line) -> None:
    line.host.replies["DATA"] = lambda v, _: deaf_after_354(v)
    found = line.send(pieces(20_000_000, []), 20_000_000)
    line.host.visits[0].reply("552 5.3.4 enough")
    line.reactor.run()
    line.reactor.pass_time(1)
    assert codes(found) == [(Stage.SENDING, 552)] * 2
    assert not line.channel.usable


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_peer_that_goes_in_the_middle(tmp_path: Path, large: bool, tls: bool) -> None:
    line = Line(tmp_path, Host(certs.server("mx.there.example") if tls else None))
    line.host.replies["DATA"] = lambda v, _: deaf_after_354(v) if large else CLOSE
    found = line.send(pieces(5_000_000, []), 5_000_000) if large else line.send()
    line.host.visits[0].transport.abortConnection()  # type: ignore[union-attr]
    line.reactor.run()
    assert codes(found) == [(Stage.SENDING if large else Stage.DATA, 0)] * 2
    assert not line.channel.usable
    assert not line.reactor.getDelayedCalls()


@pytest.mark.parametrize("problem", [SpoolError("I/O error"), NotInSpool("gone"), Malformed("cut")])
@pytest.mark.parametrize("size", [100, 1_000_000])
def test_content_that_cannot_be_read(line: Line, problem: Exception, size: int) -> None:
    """Half a message is never ended with a dot."""

    def broken() -> Iterator[bytes]:
        yield b"Subject: half\r\n"
        raise problem

    (found,) = line.send(broken(), size)
    assert all(isinstance(result, Result) and result.reply is None for result in found)
    assert {result.stage for result in found} == {Stage.SENDING}
    assert "cannot be read" in found[0].why
    line.reactor.run()
    assert not line.host.mail
    if line.channel.usable:
        assert codes(line.send()) == [(Stage.CONTENT, 250)] * 2


def test_what_cannot_be_sent_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither on the channel nor in it: the next message is its own."""
    line = Line(tmp_path, Host(ehlo=("there", "SIZE 50")))
    with pytest.raises(Unsendable):
        raise line.send(b"x" * 60)[0]
    assert line.channel.usable
    line.channel.session.extensions["SIZE"] = "0"
    large = b"Subject: large\r\n\r\n" + LARGE * 5000
    assert codes(line.send(iter((large,)), len(large))) == [(Stage.CONTENT, 250)] * 2
    assert line.host.mail[0].content == large


# ---------------------------------------------------------------- time


def test_silence_ends_a_channel(line: Line) -> None:
    line.host.replies["MAIL"] = HANG
    found = line.send()
    line.reactor.pass_time(MAIL_LIMIT - 2, 20)
    assert not found
    line.reactor.pass_time(4)
    assert codes(found) == [(Stage.MAIL, 0)] * 2
    assert found[0][0].why == "timed out"
    assert not line.channel.usable
    line.reactor.pass_time(QUIT_SECONDS + 1)
    assert line.host.visits[0].lost
    assert not line.reactor.getDelayedCalls()


def test_our_own_limit_may_be_shorter(tmp_path: Path) -> None:
    line = Line(tmp_path, patience=20)
    line.host.replies["MAIL"] = HANG
    found = line.send()
    line.reactor.pass_time(21)
    assert codes(found) == [(Stage.MAIL, 0)] * 2


def test_the_end_of_content_has_a_longer_limit(line: Line) -> None:
    line.host.replies["."] = HANG
    found = line.send()
    line.reactor.pass_time(CONTENT_LIMIT - 2, 20)
    assert not found
    line.reactor.pass_time(4)
    assert codes(found) == [(Stage.CONTENT, 0)] * 2


def test_each_reply_to_a_group_of_commands_may_take_its_time(line: Line) -> None:
    """100 recipients at 60 seconds each are slow, not silent."""
    recipients = tuple(Address(f"r{n}", "there.example") for n in range(20))
    line.host.replies["RCPT"] = HANG
    found = line.send(to=recipients)
    visit = line.host.visits[0]
    visit.silent, visit.host.replies = False, {}
    visit.buffer = b""
    for n in range(20):
        line.reactor.pass_time(200, 50)
        assert not found
        visit.recipients.append(f"r{n}")
        visit.reply("250 ok")
        line.reactor.run()
    visit.content = []
    visit.reply("354 go on")
    line.reactor.run()
    assert codes(found) == [(Stage.CONTENT, 250)] * 20


def test_our_own_slow_disk_is_not_the_peers_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(tmp_path)
    waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def slow(work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        waiting.append((done, work))
        return done

    line.channel._off_reactor = slow
    found = line.send(pieces(200_000, []), 200_000)
    line.reactor.pass_time(5000, 100)
    assert not found
    line.channel._off_reactor = off_reactor
    done, work = waiting.pop()
    done.callback(work())
    line.reactor.run()
    assert codes(found) == [(Stage.CONTENT, 250)] * 2


def test_a_handshake_that_hangs(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {"tlspolicy": "there.example encrypt\n"})
    host = way.host(Host(certs.server("x.example"), handshake=HANG))
    found = way.dial()
    way.reactor.pass_time(HANDSHAKE_SECONDS - 2, 5)
    assert not found
    way.reactor.pass_time(4)
    assert found
    assert host.visits[0].lost
    way.reactor.pass_time(QUIT_SECONDS + 1)
    assert not way.reactor.getDelayedCalls()


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_quit(tmp_path: Path, tls: bool) -> None:
    line = Line(tmp_path, Host(certs.server("mx.there.example") if tls else None))
    line.send()
    line.channel.quit()
    line.reactor.run()
    assert line.host.said()[-1] == "QUIT"
    assert line.host.visits[0].lost
    line.reactor.pass_time(QUIT_SECONDS + 1)
    assert not line.reactor.getDelayedCalls()
    line.channel.quit()
    line.channel.abort()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_peer_that_never_closes_is_cut(tmp_path: Path, tls: bool) -> None:
    line = Line(tmp_path, Host(certs.server("mx.there.example") if tls else None))
    line.host.visits[0].transport.pauseProducing()  # type: ignore[union-attr]
    line.channel.quit()
    line.reactor.run()
    line.reactor.pass_time(QUIT_SECONDS + 1)
    assert not line.channel.transport.connected  # type: ignore[union-attr]
    assert not line.reactor.getDelayedCalls()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["421", "close", "reset", "nonsense"])
def test_an_idle_channel_that_the_peer_ends(tmp_path: Path, how: str, tls: bool) -> None:
    line = Line(tmp_path, Host(certs.server("mx.there.example") if tls else None))
    line.send()
    told: list[Channel] = []
    line.channel.on_idle_end = told.append
    visit = line.host.visits[0]
    if how == "421":
        visit.reply("421 idle")
    elif how == "nonsense":
        visit.reply("250 did you call?")
    elif how == "close":
        visit.transport.loseConnection()  # type: ignore[union-attr]
    else:
        visit.transport.abortConnection()  # type: ignore[union-attr]
    line.reactor.run()
    assert told == [line.channel]
    assert not line.channel.usable
    line.reactor.pass_time(QUIT_SECONDS + 1)
    assert not line.reactor.getDelayedCalls()


def test_an_aborted_channel_takes_no_more_questions(line: Line) -> None:
    line.channel.abort()
    assert not line.channel.usable
    line.reactor.run()
    assert line.channel.ended is not None


def test_nothing_waits_for_the_socket(tmp_path: Path) -> None:
    """TCP_NODELAY: a command is a segment."""
    line = Line(tmp_path)
    assert line.channel.transport.getTcpNoDelay()  # type: ignore[union-attr]
