"""A reactor without a clock and a network of its own: Twisted's real TCP transports over sockets in memory.

What goes over a `Socket` pair is kept in two buffers of limited size, so back-pressure, half-read segments, resets and
peers that never read are as real as they get. Nothing happens by itself: `Reactor.run` moves octets until nothing
moves any more, `Reactor.advance` (Clock) moves time.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from twisted.internet import error
from twisted.internet._newtls import ClientMixin
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection, Server
from twisted.python.failure import Failure

KERNEL = 64 * 1024  # octets that a socket holds for a peer that does not read
PATIENCE = 20.0  # seconds of real time until a test that waits for a thread fails

Address = tuple[str, int]


class Socket:
    """One end. `reading` False: the peer's program takes nothing from it."""

    numbers = count(1000)

    def __init__(self, own: Address, capacity: int) -> None:
        self.own = own
        self.capacity = capacity
        self.inbox = bytearray()
        self.ended = self.reset = self.closed = False
        self.peer: Socket
        self.number = next(self.numbers)
        self.options: dict[tuple[int, int], Any] = {}

    @property
    def readable(self) -> bool:
        return not self.closed and bool(self.inbox or self.ended or self.reset)

    @property
    def writable(self) -> bool:
        return not self.closed and (self.reset or self.peer.closed or len(self.peer.inbox) < self.capacity)

    def recv(self, size: int) -> bytes:
        if self.reset:
            raise OSError(errno.ECONNRESET, "reset")
        if not self.inbox and not self.ended:
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing there")
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def send(self, data: memoryview, flags: int = 0) -> int:
        if self.reset or self.peer.closed:
            raise OSError(errno.EPIPE, "nobody reads")
        room = self.capacity - len(self.peer.inbox)
        if room <= 0:
            raise BlockingIOError(errno.EWOULDBLOCK, "full")
        sent = bytes(data[:room])
        self.peer.inbox += sent
        return len(sent)

    def shutdown(self, how: int) -> None:
        self.peer.ended = True

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> Any:
        return self.options.get((level, option), 0)

    def close(self) -> None:
        self.closed = True
        self.peer.ended = True
        if (socket.SOL_SOCKET, socket.SO_LINGER) in self.options:
            self.peer.reset = True

    def setblocking(self, flag: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1 if self.closed else self.number

    def getsockname(self) -> Address:
        return self.own

    def getpeername(self) -> Address:
        return self.peer.own


def pair(one: Address, other: Address, capacity: int = KERNEL) -> tuple[Socket, Socket]:
    a, b = Socket(one, capacity), Socket(other, capacity)
    a.peer, b.peer = b, a
    return a, b


class ClientTransport(ClientMixin, Connection):
    """`twisted.internet.tcp.Client` without its connecting."""

    _base = Connection

    def __init__(self, sock: Socket, protocol: Protocol, reactor: Any) -> None:
        super().__init__(sock, protocol, reactor)  # type: ignore[arg-type]
        self.logstr = "client"
        self.connected = 1
        self.startReading()  # type: ignore[no-untyped-call]

    def getHost(self) -> Any:
        return IPv4Address("TCP", *self.socket.getsockname())

    def getPeer(self) -> Any:
        return IPv4Address("TCP", *self.socket.getpeername())


class _Port:
    _realPortNumber = 25


Accept = Callable[[], Protocol]
HANG = "hang"  # a host that never answers the SYN


class Reactor(Clock):
    """Time, sockets in memory, and calls from threads."""

    newest: Reactor | None = None

    def __init__(self) -> None:
        super().__init__()
        Reactor.newest = self
        self.readers: list[Any] = []
        self.writers: list[Any] = []
        self.hosts: dict[Address, Accept | str] = {}  # who answers where; anything else is refused
        self.dialled: list[Address] = []
        self.connections: list[tuple[Any, Any]] = []  # client's and server's transport
        self.from_threads: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.segment = 0  # octets of a segment at most; 0 = whatever is there
        self.capacity = KERNEL
        self.errors: list[Exception] = []  # what came out of a protocol, as the real reactor would log it

    # ------------------------------------------------------------ Twisted calls

    def addReader(self, reader: Any) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def addWriter(self, writer: Any) -> None:
        if writer not in self.writers:
            self.writers.append(writer)

    def removeWriter(self, writer: Any) -> None:
        if writer in self.writers:
            self.writers.remove(writer)

    def callFromThread(self, f: Callable[..., object], *args: object) -> None:
        self.from_threads.put(lambda: f(*args))

    def getThreadPool(self) -> Reactor:
        return self

    def callInThreadWithCallback(self, done: Callable[[bool, Any], object], f: Callable[..., Any], *args: Any) -> None:
        """Work for the thread pool is done at once."""
        try:
            result = f(*args)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: object = None
    ) -> _Connector:
        self.dialled.append((host, port))
        connector = _Connector(self, (host, port), factory)
        factory.doStart()
        factory.startedConnecting(connector)
        answer = self.hosts.get((host, port))
        if answer == HANG:
            connector.timer = self.callLater(timeout, connector.fail, error.TimeoutError())
        else:
            connector.timer = self.callLater(0, connector.connected, answer)
        return connector

    def connectUNIX(self, address: str, factory: Any, timeout: float = 30, checkPID: int = 0) -> _Connector:
        return self.connectTCP(address, 0, factory, timeout)

    # ------------------------------------------------------------ for the test

    def join(
        self,
        client: Protocol,
        server: Protocol,
        address: Address = ("192.0.2.25", 25),
        source: str = "192.0.2.1",
        says: bytes = b"",
    ) -> None:
        """Connects two protocols. What the client `says` is there before the server looks."""
        near, far = pair((source, 40000), address, self.capacity)
        far.inbox += says
        transport = ClientTransport(near, client, self)
        accepted = Server(far, server, near.own, _Port(), 1, self)  # type: ignore[arg-type]
        self.connections.append((transport, accepted))
        server.makeConnection(accepted)
        client.makeConnection(transport)

    def run(self, until: Callable[[], object] | None = None) -> None:
        """Until nothing moves; with `until` it waits for calls from threads until that is true."""
        while True:
            while self._turn():
                pass
            if until is None or until():
                return
            try:
                self.from_threads.get(timeout=PATIENCE)()
            except Empty:
                raise AssertionError("waited in vain for a thread") from None

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Time goes by in steps, and octets move after each."""
        while seconds > 0:
            self.advance(min(step, seconds))
            seconds -= step
            self.run()

    def _turn(self) -> bool:
        moved = False
        while not self.from_threads.empty():
            self.from_threads.get()()
            moved = True
        if self._due():
            self.advance(0)
            moved = True
        for writer in list(self.writers):
            if writer in self.writers and writer.socket.writable:
                self._do(writer, writer.doWrite)
                moved = True
        for reader in list(self.readers):
            if reader in self.readers and reader.socket.readable:
                if self.segment:
                    reader.bufferSize = self.segment
                self._do(reader, reader.doRead)
                moved = True
        return moved

    def _due(self) -> bool:
        return any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())

    def _do(self, descriptor: Any, work: Callable[[], Any]) -> None:
        """As `PosixReactorBase._disconnectSelectable` does."""
        try:
            why = work()
        except Exception as problem:
            self.errors.append(problem)
            why = problem
        if why is not None:
            self.removeReader(descriptor)
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))


class _Connector:
    def __init__(self, reactor: Reactor, address: Address, factory: Any) -> None:
        self.reactor = reactor
        self.address = address
        self.factory = factory
        self.timer: Any = None

    def connected(self, answer: Any) -> None:
        if answer is None:
            self.fail(error.ConnectionRefusedError(errno.ECONNREFUSED))
            return
        client = self.factory.buildProtocol(None)
        self.reactor.join(client, answer(), self.address)

    def fail(self, problem: Exception) -> None:
        self.factory.clientConnectionFailed(self, Failure(problem))

    def stopConnecting(self) -> None:
        if self.timer.active():
            self.timer.cancel()

    def getDestination(self) -> Address:
        return self.address


class Lines(Protocol):
    """A peer that does what the test says: keeps what it got, and may do a handshake of its own."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = reason

    @property
    def replies(self) -> list[str]:
        return self.got.decode("ascii").splitlines()


class OneProtocol(Factory):
    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        return self._protocol
