"""The backend holds together with dnspython, whose base classes are called internal."""

from __future__ import annotations

import errno
import inspect
import socket
from typing import Any

import dns._asyncbackend
import dns.exception
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from qmtls.net import dnsbackend
from qmtls.net.dnsbackend import TwistedBackend
from tests.net.wire import HANG, Lines, Reactor

PAIRS: list[tuple[type, type]] = [
    (dns._asyncbackend.Backend, TwistedBackend),
    (dns._asyncbackend.DatagramSocket, dnsbackend._UdpSocket),
    (dns._asyncbackend.StreamSocket, dnsbackend._TcpSocket),
]
NOT_NEEDED = {"get_transport_class", "getpeercert"}  # DNS over HTTPS and TLS


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_every_method_is_there_with_its_parameters(theirs: type, ours: type) -> None:
    for name, method in inspect.getmembers(theirs, inspect.isfunction):
        if name.startswith("_") or name in NOT_NEEDED:
            continue
        mine = getattr(ours, name)
        assert mine is not method, f"{name} is not ours"
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(method).parameters), name
        assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(method), name


def outcome(coroutine: Any) -> list[Any]:
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


def test_a_limit_in_time() -> None:
    clock = Clock()
    found = outcome(dnsbackend._limited(clock, Deferred(), 2.0))
    clock.advance(1.9)
    assert not found
    clock.advance(0.2)
    assert isinstance(found[0], dns.exception.Timeout)
    done: Deferred[str] = Deferred()
    found = outcome(dnsbackend._limited(clock, done, 2.0))
    done.callback("in time")
    assert found == ["in time"]
    assert not clock.getDelayedCalls()


def test_sleep_and_wait_for() -> None:
    clock = Clock()
    backend = TwistedBackend(clock)
    slept = outcome(backend.sleep(1.0))
    clock.advance(1.0)
    assert slept == [None]
    waited = outcome(backend.wait_for(backend.sleep(10.0), 1.0))
    clock.advance(1.0)
    assert isinstance(waited[0], dns.exception.Timeout)
    assert backend.name() == "twisted"
    assert backend.datagram_connection_required()


class Udp:
    """The reactor's side of a datagram port."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.stopped = False

    def listenUDP(self, port: int, protocol: Any, interface: str) -> Udp:
        protocol.makeConnection(self)
        self.protocol, self.interface = protocol, interface
        return self

    def connect(self, host: str, port: int) -> None:
        self.sent.append((host, port))

    def write(self, data: bytes, address: Any = None) -> None:
        self.sent.append((data, address))

    def stopListening(self) -> None:
        self.stopped = True

    def getHost(self) -> Any:
        return type("Host", (), {"host": "127.0.0.1", "port": 5})


class UdpReactor(Clock, Udp):
    def __init__(self) -> None:
        Clock.__init__(self)
        Udp.__init__(self)


def test_datagrams_to_one_server() -> None:
    reactor = UdpReactor()
    backend = TwistedBackend(reactor)
    (sock,) = outcome(backend.make_socket(socket.AF_INET, socket.SOCK_DGRAM, destination=("192.0.2.53", 53)))
    assert outcome(sock.sendto(b"question", ("192.0.2.53", 53), 1.0)) == [8]
    assert reactor.sent == [("192.0.2.53", 53), (b"question", None)]
    got = outcome(sock.recvfrom(512, 5.0))
    assert not got
    reactor.protocol.datagramReceived(b"answer", ("192.0.2.53", 53))
    assert got == [(b"answer", ("192.0.2.53", 53))]
    for before in (True, False):
        if before:
            reactor.protocol.connectionRefused()
        refused = outcome(sock.recvfrom(512, 5.0))
        if not before:
            reactor.protocol.connectionRefused()
        assert isinstance(refused[0], OSError) and refused[0].errno == errno.ECONNREFUSED
    closed = outcome(sock.recvfrom(512, 5.0))
    reactor.protocol.doStop()
    assert isinstance(closed[0], OSError)
    late = outcome(sock.recvfrom(512, 5.0))
    reactor.advance(5.1)
    assert isinstance(late[0], dns.exception.Timeout)
    outcome(sock.close())
    assert reactor.stopped
    assert outcome(sock.getsockname()) == [("127.0.0.1", 5)]


def test_datagrams_to_anybody() -> None:
    reactor = UdpReactor()
    backend = TwistedBackend(reactor)
    (sock,) = outcome(backend.make_socket(socket.AF_INET6, socket.SOCK_DGRAM))
    outcome(sock.sendto(b"question", ("2001:db8::53", 53, 0, 0), None))
    assert reactor.sent == [(b"question", ("2001:db8::53", 53))]
    assert reactor.interface == "::"


def stream(reactor: Reactor, server: Lines | str | None) -> list[Any]:
    if server is not None:
        reactor.hosts["192.0.2.53", 53] = server if isinstance(server, str) else lambda: server
    backend = TwistedBackend(reactor)
    found = outcome(
        backend.make_socket(socket.AF_INET, socket.SOCK_STREAM, destination=("192.0.2.53", 53), timeout=3.0)
    )
    reactor.run()
    return found


def test_a_stream() -> None:
    reactor, server = Reactor(), Lines()
    (sock,) = stream(reactor, server)
    outcome(sock.sendall(b"question", 1.0))
    reactor.run()
    assert server.got == b"question"
    first = outcome(sock.recv(4, 5.0))
    assert not first
    server.transport.write(b"answer")  # type: ignore[union-attr]
    reactor.run()
    assert first == [b"answ"]
    assert outcome(sock.recv(100, 5.0)) == [b"er"]
    end = outcome(sock.recv(100, 5.0))
    server.transport.loseConnection()  # type: ignore[union-attr]
    reactor.run()
    assert end == [b""]
    assert outcome(sock.recv(100, 5.0)) == [b""]


def test_a_stream_that_says_nothing() -> None:
    reactor, server = Reactor(), Lines()
    (sock,) = stream(reactor, server)
    found = outcome(sock.recv(4, 2.0))
    reactor.pass_time(3)
    assert isinstance(found[0], dns.exception.Timeout)
    server.transport.write(b"too late")  # type: ignore[union-attr]
    reactor.run()
    outcome(sock.close())
    reactor.run()
    assert server.lost is not None


def test_nobody_to_connect_to() -> None:
    assert isinstance(stream(Reactor(), None)[0], Exception)
    reactor = Reactor()
    found = stream(reactor, HANG)
    reactor.pass_time(5)
    assert isinstance(found[0], Exception)
    assert not isinstance(found[0], Failure)
    assert not reactor.getDelayedCalls()
