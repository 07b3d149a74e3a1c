"""The epoll reactor without its logging context, and with a clock that nobody sets.

Twisted runs every event of every descriptor in a logging context of its own: five calls in Python around each read,
a tenth of all that a message costs. Our log lines name what they are about themselves, so this reactor calls
`doRead` straight away. What is not a plain read takes the usual way.

Accepting is in place too: Twisted's port makes a logger, a generator and two more system calls for each look at it.
An accepted connection is `LeanServer`: it begins and reads in fewer calls.

Who calls from a thread wakes a reactor that sleeps, and no other: each wake-up is a write, a read and a turn.

Twisted's timers go by the time of day: set back by an hour, it would stop every one of them for an hour, and with them
retries, reloads and time limits. Here `seconds` only measures; who wants to know the time of day asks for it.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from select import EPOLLIN
from socket import AF_UNIX, NI_NUMERICHOST, NI_NUMERICSERV, getnameinfo, socket
from time import monotonic
from typing import Any

from twisted.internet.address import IPv6Address
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST, installReactor
from twisted.internet.tcp import Port, Server
from twisted.python import log
from twisted.python.failure import Failure

READ = 64 * 1024  # octets taken off a socket at a time
ACCEPTS = 20  # connections taken before others have their turn


class LeanReactor(EPollReactor):
    """Promises what EPollReactor does: an exception in a protocol is logged and ends its connection only."""

    seconds = staticmethod(monotonic)
    _sleeping = True  # also before it runs: a wake-up too many does no harm

    def doPoll(self, timeout: float | None) -> None:
        selectables = self._selectables
        self._sleeping = True
        if self.threadCallQueue:  # came since it was looked at, and found us awake
            timeout = 0
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        finally:
            self._sleeping = False
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is None:
                continue
            if event != EPOLLIN:
                self._doReadOrWrite(selectable, fd, event)
                continue
            why: Any
            try:
                why = selectable.doRead()
            except BaseException:
                why = sys.exc_info()[1]
                log.err()
            if why:
                self._disconnectSelectable(selectable, why, True)

    doIteration = doPoll

    def callFromThread(self, f: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        self.threadCallQueue.append((f, args, kwargs))
        if self._sleeping:
            self.wakeUp()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        made = LeanPort(port, factory, backlog, interface, self)
        made.startListening()
        return made

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        if addressFamily == AF_UNIX:
            return super().adoptStreamPort(fileDescriptor, addressFamily, factory)
        made = LeanPort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        made.startListening()
        return made


class LeanServer(Server):
    """An accepted connection that begins and reads without detours.

    The close is Twisted's: without its shutdown(2), what we had not read would take back our last words.
    """

    reactor: Any

    def __init__(self, sock: socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any) -> None:
        self.reactor = reactor
        self._tempDataBuffer = []
        self._tempDataLen = 0
        sock.setblocking(False)
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        if len(client) != 2:
            self._addressType = IPv6Address
        self.client = client
        self.server = server
        self.sessionno = sessionno
        self.hostname = client[0]
        self.logstr = self.repstr = f"{type(protocol).__name__},{sessionno},{client[0]}"
        self.connected = 1
        reactor.addReader(self)

    def stopWriting(self) -> None:
        if self.reactor._writes:  # nearly always none: a reply is sent in place
            super().stopWriting()

    def doRead(self) -> Any:
        try:
            data = self.socket.recv(READ)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None


class LeanPort(Port):
    """A listening socket. What is not a plain accept (no more descriptors, say) takes the usual way."""

    transport = LeanServer

    def doRead(self) -> None:
        for _ in range(ACCEPTS):
            try:
                accepted, peer = self.socket.accept()
            except BlockingIOError:
                return
            except OSError:
                super().doRead()
                return
            try:
                self._serve(accepted, peer)
            except Exception:  # one client's trouble is nobody else's
                log.err()
                accepted.close()

    def _serve(self, accepted: socket, peer: Any) -> None:
        factory: Any = self.factory
        if len(peer) == 4 and peer[3]:  # a link-local address is one of its interface
            peer = (getnameinfo(peer, NI_NUMERICHOST | NI_NUMERICSERV)[0], *peer[1:])
        protocol = factory.buildProtocol(self._buildAddr(peer))
        if protocol is None:
            accepted.close()
            return
        self.sessionno = number = self.sessionno + 1
        try:
            transport = self.transport(accepted, protocol, peer, self, number, self.reactor)
        except Exception:
            protocol.connectionLost(Failure(CONNECTION_LOST))  # it was counted already
            raise
        try:
            protocol.makeConnection(transport)
        except Exception:
            # The reactor has it already: closed behind its back, the next with its number would pass for it.
            log.err()
            transport.connectionLost(Failure(CONNECTION_LOST))


def install() -> None:
    """Makes it this process's reactor, unless there is one already (an option of twistd's, a test's)."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(LeanReactor())
