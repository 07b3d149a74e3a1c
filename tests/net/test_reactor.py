"""The clock of the reactor: timers go by one that nobody sets. And its way to accept, one look at a time, never run."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from qmtls.net.reactor import LeanReactor
from tests.net.wire import Lines


@pytest.fixture
def reactor() -> Iterator[Any]:
    make: Any = LeanReactor
    made = make()
    yield made
    for reader in made.removeAll():
        reader.connectionLost(Failure(CONNECTION_DONE))


class Visitors(Factory):
    """Keeps the protocols that it made; `full`: takes nobody; `broken`: fails."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[Lines] = []
        self.full = self.broken = False

    def buildProtocol(self, addr: object) -> Lines | None:
        if self.broken:
            raise ValueError("a fault of ours")
        if self.full:
            return None
        self.made.append(Lines())
        return self.made[-1]


def connect(port: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port.getHost().port), 5)


def test_timers_do_not_go_by_the_time_of_day(reactor: Any) -> None:
    timer = reactor.callLater(1000.0, print)
    left = timer.getTime() - time.monotonic()
    timer.cancel()
    assert 990.0 < left <= 1000.0


def test_all_who_wait_are_taken_in_one_look(reactor: Any) -> None:
    visitors = Visitors()
    port = reactor.listenTCP(0, visitors, interface="127.0.0.1")
    clients = [connect(port) for _ in range(3)]
    reactor.doPoll(5)
    assert [made.transport.getPeer().port for made in visitors.made] == [c.getsockname()[1] for c in clients]  # type: ignore[union-attr]
    clients[1].sendall(b"hello")
    reactor.doPoll(5)
    assert [made.got for made in visitors.made] == [b"", b"hello", b""]
    for client in clients:
        client.close()


def test_an_inherited_socket_is_served_alike(reactor: Any) -> None:
    visitors = Visitors()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        port = reactor.adoptStreamPort(listening.fileno(), socket.AF_INET, visitors)
    with connect(port):
        reactor.doPoll(5)
        assert len(visitors.made) == 1


@pytest.mark.parametrize("trouble", ["full", "broken"])
def test_one_who_is_not_taken_hinders_nobody(reactor: Any, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr("twisted.python.log.err", lambda *args: told.append(args))
    visitors = Visitors()
    port = reactor.listenTCP(0, visitors, interface="127.0.0.1")
    setattr(visitors, trouble, True)
    with connect(port) as client:
        reactor.doPoll(5)
        assert client.recv(1) == b""
    assert len(told) == (trouble == "broken")
    setattr(visitors, trouble, False)
    with connect(port):
        reactor.doPoll(5)
        assert len(visitors.made) == 1


def test_one_whose_session_cannot_begin_hinders_nobody(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all not the next one, who gets the same descriptor."""
    told: list[object] = []
    monkeypatch.setattr("twisted.python.log.err", lambda *args: told.append(args))
    visitors = Visitors()
    port = reactor.listenTCP(0, visitors, interface="127.0.0.1")
    with monkeypatch.context() as broken, connect(port) as client:
        broken.setattr(Lines, "connectionMade", lambda lines: 1 / 0)
        reactor.doPoll(5)
        assert client.recv(1) == b""
    assert len(told) == 1
    with connect(port) as client:
        reactor.doPoll(5)
        client.sendall(b"hello")
        reactor.doPoll(5)
    assert [made.got for made in visitors.made] == [b"", b"hello"]


def test_one_whose_connection_cannot_be_made_is_not_counted_for_ever(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its protocol was made before, and with it a place."""
    monkeypatch.setattr("twisted.python.log.err", lambda *args: None)
    visitors = Visitors()
    port = reactor.listenTCP(0, visitors, interface="127.0.0.1")
    with monkeypatch.context() as full, connect(port) as client:
        full.setattr(reactor, "addReader", lambda reader: os.fstat(-1))
        reactor.doPoll(5)
        assert client.recv(1) == b""
    (made,) = visitors.made
    assert made.lost is not None


def test_a_connection_is_what_twisted_makes_of_it(reactor: Any) -> None:
    """`LeanServer` leaves out nothing that the rest of Twisted's class reads, and keeps its name when it is over."""
    visitors = Visitors()
    port = reactor.listenTCP(0, visitors, interface="127.0.0.1")
    with connect(port):
        reactor.doPoll(5)
        lean: Any = visitors.made[0].transport
        usual = Server(socket.socket(), visitors.made[0], lean.client, port, 1, reactor)
        assert vars(lean).keys() >= vars(usual).keys()
        usual.connectionLost(Failure(CONNECTION_DONE))
        lean.connectionLost(Failure(CONNECTION_DONE))
        assert repr(lean) == lean.logPrefix() == f"Lines,1,{lean.client[0]}"


def test_what_is_no_plain_accept_is_left_to_twisted(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    port = reactor.listenTCP(0, Visitors(), interface="127.0.0.1")
    asked: list[object] = []
    monkeypatch.setattr("twisted.internet.tcp.Port.doRead", lambda self: asked.append(self))

    class NoDescriptors:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "too many open files")

    real, port.socket = port.socket, NoDescriptors()
    port.doRead()
    port.socket = real
    assert asked == [port]


def test_only_a_sleeping_reactor_is_woken(reactor: Any) -> None:
    woken: list[bool] = []
    reactor.wakeUp = lambda: woken.append(True)
    visitors = Visitors()
    port = reactor.listenTCP(0, visitors, interface="127.0.0.1")
    called: list[str] = []
    with connect(port):
        real = visitors.buildProtocol

        def busy(addr: object) -> Lines | None:
            reactor.callFromThread(called.append, "while it works")
            return real(addr)

        visitors.buildProtocol = busy  # type: ignore[method-assign]
        reactor.doPoll(5)
        assert woken == []
        reactor.doPoll(1000)  # does not sleep: somebody called
        reactor.runUntilCurrent()
    assert called == ["while it works"]
    reactor._poller = Asleep(reactor)
    reactor.doPoll(1000)
    assert woken == [True]


class Asleep:
    """Something calls from a thread while the reactor waits."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.real = reactor._poller

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        assert timeout == 1000
        self.reactor.callFromThread(print)
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)
