"""The TLS connection under one HTTPS request: to one of a host's addresses, its certificate checked before anything
is sent, and no more octets taken than an answer may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from qmtls.net.handshake import Creator, facts_of
from qmtls.net.tlspipe import TlsBroken, TlsPipe
from qmtls.tls.names import name_matches, shown_names
from qmtls.tls.verdict import chain_problem

MAX_ADDRESSES = 4  # that are tried
CONNECT_SECONDS = 8  # for one of them, so that the next gets its turn
MAX_OCTETS = 256 * 1024  # on the wire: 64 KiB of policy in chunks, header, certificates


class HttpsTrouble(Exception):
    """There is no answer that counts; str() is the sentence. `certificate`: that of the host is not good."""

    def __init__(self, sentence: str, *, certificate: bool = False) -> None:
        super().__init__(sentence)
        self.certificate = certificate


@implementer(IStreamClientEndpoint)
class HttpsLine:
    """Connects once. `trouble` is why the connection was ended by us, if it was."""

    def __init__(self, reactor: Any, context: SSL.Context, host: str, addresses: Sequence[str], port: int) -> None:
        self._reactor = reactor
        self._context = context
        self._host = host
        self._addresses = addresses[:MAX_ADDRESSES]
        self._port = port
        self._tls: _Tls | None = None

    @property
    def trouble(self) -> HttpsTrouble | None:
        """Known once the connection has ended."""
        return self._tls.trouble if self._tls is not None else None

    def abort(self) -> None:
        """Ends the connection, if there is one."""
        if self._tls is not None:
            self._tls.abortConnection()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Fires with the factory's protocol when the host has shown a good certificate; fails with HttpsTrouble."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        trouble = HttpsTrouble(f"the policy host {self._host} has no address")
        for address in self._addresses:
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            endpoint = kind(self._reactor, address, self._port, timeout=CONNECT_SECONDS)
            self._tls = _Tls(Creator(self._context, ask=True, server_name=self._host), self._host)
            try:
                await connectProtocol(endpoint, self._tls)
                await self._tls.secured
            except (ConnectError, OSError):
                trouble = HttpsTrouble(f"https://{self._host} cannot be connected to at {address}")
            except HttpsTrouble as problem:
                trouble = problem
            else:
                return self._tls.carry(factory)
        raise trouble


@implementer(ITransport)
class _Tls(Protocol):
    """A protocol below and a transport above. Nothing goes up or down before the certificate was found good."""

    disconnecting = False

    def __init__(self, creator: Creator, host: str) -> None:
        self.secured: Deferred[None] = Deferred()
        self.trouble: HttpsTrouble | None = None
        self._pipe = TlsPipe(creator, self._send, client=True)
        self._host = host
        self._inner: Any = None
        self._early = b""  # what came with the end of the handshake
        self._octets = 0
        self._over = False

    def _send(self, data: bytes) -> None:
        if self.transport is not None and not self._over:
            self.transport.write(data)

    def connectionMade(self) -> None:
        try:
            self._pipe.start()
        except TlsBroken as broken:
            self._fail(f"the TLS handshake with https://{self._host} failed: {broken}")

    def dataReceived(self, data: bytes) -> None:
        if self._over or self.disconnecting:
            return
        self._octets += len(data)
        if self._octets > MAX_OCTETS:
            self._fail(f"https://{self._host} sends more than {MAX_OCTETS} octets")
            return
        try:
            plain = self._pipe.receive(data)
        except TlsBroken as broken:
            what = "the TLS session" if self.secured.called else "the TLS handshake"
            self._fail(f"{what} with https://{self._host} failed: {broken}")
            return
        if not self.secured.called and self._pipe.established:
            self._judge()
        if plain and not self._over:
            if self._inner is not None:
                self._inner.dataReceived(plain)
            else:
                self._early += plain
        if self._pipe.ended and not self._over:
            self._end(Failure(ConnectionDone()))

    def _judge(self) -> None:
        pipe = self._pipe
        facts = facts_of(pipe.connection, pipe.creator.recorder, client=True, server_name=self._host)
        if facts.leaf is None or not facts.verified:
            what = f"https://{self._host} showed a certificate that cannot be trusted ({chain_problem(facts)})"
            self._fail(what, certificate=True)
        elif not name_matches(facts.leaf, (self._host,)):
            what = f"https://{self._host} showed a certificate for {shown_names(facts.leaf)}"
            self._fail(what, certificate=True)
        else:
            self.secured.callback(None)

    def _fail(self, sentence: str, *, certificate: bool = False) -> None:
        self.trouble = self.trouble or HttpsTrouble(sentence, certificate=certificate)
        self._end(Failure(self.trouble))

    def _end(self, reason: Failure) -> None:
        """Once: tells above, and closes below."""
        if self._over:
            return
        self._over = True
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connectionLost(reason)
        elif not self.secured.called:
            self.secured.errback(self.trouble or HttpsTrouble(f"https://{self._host} broke off in the TLS handshake"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(Failure(ConnectionLost()))

    def carry(self, factory: IProtocolFactory) -> Any:
        """Puts the factory's protocol on top."""
        inner: Any = factory.buildProtocol(self.getPeer())
        if self._over:
            raise self.trouble or HttpsTrouble(f"https://{self._host} broke off after the TLS handshake")
        self._inner = inner
        inner.makeConnection(self)
        if self._early:
            inner.dataReceived(self._early)
        return inner

    # The transport of the protocol on top.

    def write(self, data: bytes) -> None:
        if not self._over:
            try:
                self._pipe.send(data)
            except TlsBroken as broken:
                self.trouble = HttpsTrouble(f"the TLS session with https://{self._host} failed: {broken}")
                self.abortConnection()

    def writeSequence(self, iovec: Sequence[bytes]) -> None:  # type: ignore[override]
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        self.abortConnection()  # the answer is complete, or of no more use

    def abortConnection(self) -> None:
        """The end is told above when it comes from below, never within this call."""
        if not self._over and self.transport is not None:
            self.disconnecting = True
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def pauseProducing(self) -> None:
        if not self._over:
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def resumeProducing(self) -> None:
        if not self._over:
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def stopProducing(self) -> None:
        self.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Of the body of a request."""
        if not self._over:
            self.transport.registerProducer(producer, streaming)  # type: ignore[union-attr]

    def unregisterProducer(self) -> None:
        if not self._over:
            self.transport.unregisterProducer()  # type: ignore[union-attr]

    def getPeer(self) -> IAddress:
        return self.transport.getPeer()  # type: ignore[union-attr]

    def getHost(self) -> IAddress:
        return self.transport.getHost()  # type: ignore[union-attr]
