"""dnspython on the Twisted reactor: the sockets, the sleep and the time limit that its asynchronous resolver asks for.

The base classes come from a module that dnspython calls internal; tests/net/test_dnsbackend.py holds the two together.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable
from typing import Any, cast

import dns._asyncbackend
import dns.exception
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure


async def _limited(reactor: Any, awaitable: Deferred[Any], timeout: float | None) -> Any:
    """The result of `awaitable`, or dns.exception.Timeout after `timeout` seconds."""
    if timeout is not None:
        awaitable.addTimeout(max(timeout, 0.001), reactor)
    try:
        return await awaitable
    except (DeferredTimeout, CancelledError) as ended:
        raise dns.exception.Timeout(timeout=timeout) from ended


class _Datagrams(DatagramProtocol):
    noisy = False  # else Twisted says of each question that it begins, which is a tenth of what it costs

    def __init__(self) -> None:
        self.queue: DeferredQueue[Any] = DeferredQueue()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.queue.put((datagram, addr))

    def connectionRefused(self) -> None:
        self.queue.put(Failure(OSError(errno.ECONNREFUSED, "refused")))

    def stopProtocol(self) -> None:
        # With epoll a refused datagram is an error without anything to read, and Twisted only closes the port.
        self.connectionRefused()


class _UdpSocket(dns._asyncbackend.DatagramSocket):
    def __init__(self, reactor: Any, family: int, destination: tuple[str, int] | None) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self._reactor = reactor
        self._protocol = _Datagrams()
        try:
            self._port = reactor.listenUDP(0, self._protocol, interface="::" if family == socket.AF_INET6 else "")
        except CannotListenError as problem:  # no file is left: trouble of the moment, not a fault of the program
            raise OSError(errno.EMFILE, str(problem)) from problem
        self._transport = cast(Any, self._protocol.transport)
        self._connected = destination is not None
        if destination is not None:
            # A connected socket takes datagrams of this peer only, and learns when its port is closed.
            self._transport.connect(destination[0], destination[1])

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        if self._connected:
            self._transport.write(what)
        else:
            self._transport.write(what, (destination[0], destination[1]))
        return len(what)

    async def recvfrom(self, size: int, timeout: float | None) -> Any:
        got = await _limited(self._reactor, self._protocol.queue.get(), timeout)
        if isinstance(got, Failure):
            got.raiseException()
        return got

    async def close(self) -> None:
        self._port.stopListening()

    async def getpeername(self) -> Any:
        return None

    async def getsockname(self) -> Any:
        address = self._port.getHost()
        return (address.host, address.port)


class _Stream(Protocol):
    def __init__(self) -> None:
        self.buffer = bytearray()
        self.waiting: Deferred[None] | None = None
        self.ended = False

    def _wake(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        self._wake()

    def connectionLost(self, reason: Failure = Failure(Exception("closed"))) -> None:  # noqa: B008
        self.ended = True
        self._wake()


class _TcpSocket(dns._asyncbackend.StreamSocket):
    def __init__(self, reactor: Any, family: int, stream: _Stream) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._reactor = reactor
        self._stream = stream

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        assert self._stream.transport is not None
        self._stream.transport.write(what)

    async def recv(self, size: int, timeout: float | None) -> bytes:
        stream = self._stream
        if not stream.buffer and not stream.ended:
            stream.waiting = Deferred()
            await _limited(self._reactor, stream.waiting, timeout)
        data = bytes(stream.buffer[:size])
        del stream.buffer[:size]
        return data

    async def close(self) -> None:
        if self._stream.transport is not None:
            self._stream.transport.abortConnection()  # type: ignore[attr-defined]

    async def getpeername(self) -> Any:
        return None

    async def getsockname(self) -> Any:
        return None


class TwistedBackend(dns._asyncbackend.Backend):
    """Give it as `backend=` to dns.asyncresolver.Resolver.resolve."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def name(self) -> str:
        return "twisted"

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: Any = None,
    ) -> Any:
        if socktype == socket.SOCK_DGRAM:
            return _UdpSocket(self._reactor, af, destination)
        kind = TCP6ClientEndpoint if af == socket.AF_INET6 else TCP4ClientEndpoint
        endpoint = kind(self._reactor, destination[0], destination[1], timeout=int(timeout or 30) + 1)
        connecting = connectProtocol(endpoint, _Stream())
        return _TcpSocket(self._reactor, af, await _limited(self._reactor, connecting, timeout))

    def datagram_connection_required(self) -> bool:
        # So that a closed port is told at once and stray datagrams of others are never seen.
        return True

    async def sleep(self, interval: float) -> None:
        await deferLater(self._reactor, interval)

    async def wait_for(self, awaitable: Awaitable[Any], timeout: float) -> Any:
        return await _limited(self._reactor, Deferred.fromCoroutine(awaitable), timeout)  # type: ignore[arg-type]
