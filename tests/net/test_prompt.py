"""Writing in place: the octets and their order are as with the transport's own `write`."""

from __future__ import annotations

import pytest
from twisted.internet.testing import StringTransport

from qmtls.net.prompt import write_and_close, write_at_once
from tests.net.wire import Lines, Reactor


def joined(capacity: int = 1000) -> tuple[Reactor, Lines, Lines]:
    reactor = Reactor()
    reactor.capacity = capacity
    client, server = Lines(), Lines()
    reactor.join(client, server)
    return reactor, client, server


def test_a_small_write_goes_out_in_place() -> None:
    reactor, client, server = joined()
    write_at_once(server.transport, b"hello")
    assert not reactor.writers
    assert bytes(client.transport.socket.inbox) == b"hello"  # type: ignore[union-attr]
    reactor.run()
    assert client.got == b"hello"


@pytest.mark.parametrize("size", [999, 1000, 1001, 500_000])
def test_what_does_not_fit_follows_in_order(size: int) -> None:
    reactor, client, server = joined()
    data = bytes(n % 251 for n in range(size))
    write_at_once(server.transport, data)
    write_at_once(server.transport, b"and more")
    reactor.run()
    assert client.got == data + b"and more"


def test_behind_what_waits_already() -> None:
    reactor, client, server = joined()
    server.transport.write(b"first ")  # type: ignore[union-attr]
    write_at_once(server.transport, b"second")
    reactor.run()
    assert client.got == b"first second"


def test_a_lost_connection() -> None:
    reactor, client, server = joined()
    client.transport.abortConnection()  # type: ignore[union-attr]
    reactor.advance(0)
    write_at_once(server.transport, b"nobody")
    reactor.run()
    assert server.lost is not None
    write_at_once(server.transport, b"nobody")


def test_after_the_close_nothing_goes_out() -> None:
    reactor, client, server = joined()
    write_at_once(server.transport, b"last words")
    server.transport.loseConnection()  # type: ignore[union-attr]
    reactor.run()
    write_at_once(server.transport, b"too late")
    reactor.run()
    assert client.got == b"last words"


def test_any_other_transport() -> None:
    transport = StringTransport()
    write_at_once(transport, b"hello")
    assert transport.value() == b"hello"


def test_the_last_words_and_the_close_are_one_step() -> None:
    reactor, client, server = joined()
    write_at_once(server.transport, b"one ")
    write_and_close(server.transport, b"last words")
    assert server.lost is not None
    reactor.run()
    assert client.got == b"one last words"
    assert client.lost is not None


def test_a_close_without_words() -> None:
    reactor, client, server = joined()
    write_and_close(server.transport, b"")
    assert server.lost is not None
    reactor.run()
    assert client.got == b""
    assert client.lost is not None


@pytest.mark.parametrize("before", [b"", b"x" * 500])
def test_a_close_waits_for_what_does_not_fit(before: bytes) -> None:
    reactor, client, server = joined(capacity=100)
    write_at_once(server.transport, before)
    write_and_close(server.transport, b"y" * 300)
    assert server.lost is None
    reactor.run()
    assert client.got == before + b"y" * 300
    assert server.lost is not None
    write_and_close(server.transport, b"a second time")
    assert client.got == before + b"y" * 300


def test_closing_any_other_transport() -> None:
    transport = StringTransport()
    write_and_close(transport, b"bye")
    assert transport.value() == b"bye"
    assert transport.disconnecting
