"""Writing in place: the octets and their order are as with the transport's own `write`."""

from __future__ import annotations

import pytest
from twisted.internet.testing import StringTransport

from qmtls.net.prompt import close_at_once, write_at_once
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


def test_a_close_with_nothing_left_to_send_is_in_place() -> None:
    reactor, client, server = joined()
    write_at_once(server.transport, b"last words")
    close_at_once(server.transport)
    assert server.lost is not None
    reactor.run()
    assert client.got == b"last words"
    assert client.lost is not None


def test_a_close_with_something_left_waits_for_it() -> None:
    reactor, client, server = joined(capacity=100)
    write_at_once(server.transport, b"x" * 500)
    close_at_once(server.transport)
    assert server.lost is None
    reactor.run()
    assert client.got == b"x" * 500
    assert server.lost is not None
    close_at_once(server.transport)  # a second time


def test_closing_any_other_transport() -> None:
    transport = StringTransport()
    close_at_once(transport)
    assert transport.disconnecting
