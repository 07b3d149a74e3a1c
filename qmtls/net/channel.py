"""The client's adapter: one Twisted protocol around one ClientSession, used as a channel for many transactions.

`outbound.open_channel` makes it ready (greeting, EHLO, STARTTLS, verdict); `transact` sends one message.
One question is outstanding at a time. Silence ends a channel: every wait has the time limit of its stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qmtls.net.handshake import Creator, facts_of
from qmtls.net.patience import Patience
from qmtls.net.prompt import write_at_once
from qmtls.net.tlspipe import TlsBroken, TlsPipe
from qmtls.smtp.client import ClientSession, Outgoing, time_limit
from qmtls.smtp.events import ClientEvent, Ended, Result, SendContent, Sent, Signal, Stage
from qmtls.spool.api import Malformed, NotInSpool, SpoolError
from qmtls.tls.facts import TlsFacts

HANDSHAKE_SECONDS = 60.0
WINDOW = 128 * 1024  # octets of content handed to the transport before it must have drained
QUIT_SECONDS = 5.0

OffReactor = Callable[[Callable[[], Any]], Deferred[Any]]  # runs a blocking read in a thread


class HandshakeFailed(Exception):
    """The TLS handshake ended without a session; str() says how. `unheard`: the peer closed without a word on our
    hello."""

    def __init__(self, why: str, unheard: bool = False) -> None:
        super().__init__(why)
        self.unheard = unheard


@implementer(IPushProducer)
class Channel(Protocol):
    """A connection to one host. `ended` is set when it can take no more; `host` is its name for people."""

    log = Logger()
    _transport: Any

    def __init__(self, clock: Any, off_reactor: OffReactor, session: ClientSession, patience: float, host: str) -> None:
        self.session = session
        self.host = host
        self.tls = ""  # summary of facts and verdict, for log and trace
        self.ended: Ended | None = None
        self.tls_ended = ""  # OpenSSL's words for how the connection ended, if it was by an alert
        self.on_idle_end: Any = None  # called when the peer ends an idle channel
        self._clock = clock
        self._off_reactor = off_reactor
        self._patience = patience
        self._timer = Patience(clock, self._silent)
        self._waiting: Deferred[ClientEvent] | None = None
        self._kept: ClientEvent | None = None  # an event that nobody waited for; the end, for ever
        self._content: list[bytes] | None = None  # of the transaction under way, if it is small
        self._handshake: Deferred[TlsFacts] | None = None
        self._tls: TlsPipe | None = None
        self._server_name = ""
        self._heard = False  # the peer said something after our hello
        self._drained: Deferred[None] | None = None
        self._full = False
        self._closed = False

    # ------------------------------------------------------------ Twisted calls

    def connectionMade(self) -> None:
        self._transport = cast(Any, self.transport)
        if not isinstance(self._transport.getPeer(), UNIXAddress):
            self._transport.setTcpNoDelay(True)
        self._transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._closed:
            return
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
        if data:
            self.session.receive_data(data)
            replies = self.session.replies
            self._deliver()
            if self._waiting is not None and self.session.replies != replies:
                # Where commands went out as a group each reply may take its time; the pieces of one may not.
                self._be_patient()
        if self._tls is not None and self._tls.ended and not self._closed:
            self.abort()
            self._over("the connection was closed")

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._closed = True
        self._timer.end()
        self._over("the connection was closed")

    def _decrypted(self, tls: TlsPipe, data: bytes) -> bytes:
        """What the peer said under TLS; b"" while the handshake goes on, or if the session broke."""
        self._heard = True
        try:
            plain = tls.receive(data)
        except TlsBroken as problem:
            self._broken(str(problem))
            return b""
        if tls.established and self._handshake is not None:
            # First the facts: an error in them must find the handshake still waited for.
            facts = facts_of(tls.connection, tls.creator.recorder, client=True, server_name=self._server_name)
            handshake, self._handshake = self._handshake, None
            handshake.callback(facts)
        return plain

    def _broken(self, why: str) -> None:
        """The TLS session ended by an alert or by nonsense; nothing that comes after counts."""
        self.tls_ended = why
        self.abort()
        self._over(why)

    def _over(self, why: str) -> None:
        """There is no connection any more: whoever waits is told."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.errback(Failure(HandshakeFailed(why, unheard=not self._heard)))
        if self.ended is None:
            self.session.receive_eof()
            self._deliver()
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def stopProducing(self) -> None:
        """The connection is going: `connectionLost` follows, and until then nobody must take it for drained."""

    # ------------------------------------------------------------ questions, one at a time

    def next(self) -> Deferred[ClientEvent]:
        """The session's next event; sends what is queued first. Silence gives Ended."""
        waiting: Deferred[ClientEvent] = Deferred()
        self._waiting = waiting
        self._be_patient()
        self._deliver()
        return waiting

    @property
    def usable(self) -> bool:
        """True if it can take another question."""
        return self.ended is None and not self._closed

    @property
    def own_address(self) -> str:
        """Our IP address on this connection, "" where there is none."""
        return getattr(self._transport.getHost(), "host", "")

    def start_tls(self, creator: Creator, server_name: str) -> Deferred[TlsFacts]:
        """The handshake, after TlsGo. Errback HandshakeFailed; the connection is then lost."""
        self._server_name = server_name
        handshake = self._handshake = Deferred()
        self._arm(HANDSHAKE_SECONDS)
        self._tls = TlsPipe(creator, partial(write_at_once, self._transport), client=True)
        try:
            self._tls.start()
        except TlsBroken as problem:
            self._broken(str(problem))
        return handshake

    async def transact(self, outgoing: Outgoing, content: Iterator[bytes]) -> tuple[Result, ...]:
        """Sends one message; one result per recipient. Afterwards `ended` says if the channel is over.

        Unsendable if this server cannot take it, with nothing sent.
        """
        self._content = None  # what was left by one that could not be sent
        if outgoing.size <= WINDOW:
            try:
                self._content = list(content)
            except (SpoolError, NotInSpool, Malformed) as problem:
                return _unsent(problem, outgoing)
        self.session.begin(outgoing)
        event = await self.next()
        self._content = None
        if isinstance(event, SendContent):
            try:
                await self._send_large(content)
            except (SpoolError, NotInSpool, Malformed) as problem:
                # Half a message must not be taken for a whole one: without the final dot the peer drops it.
                self.abort()
                return _unsent(problem, outgoing)
            if not self._closed:
                self.session.end_content()
            event = await self.next()
        if isinstance(event, Sent):
            return event.results
        assert isinstance(event, Ended)
        self.close()
        return event.results

    def _send_small(self, content: list[bytes]) -> None:
        """Content that was read beforehand goes out in the turn that brings the 354."""
        self._content = None
        for piece in content:
            self.session.send_content(piece)
        self.session.end_content()
        self._be_patient()
        self._deliver()

    async def _send_large(self, content: Iterator[bytes]) -> None:
        while not self._closed:
            piece = await self._off_reactor(lambda: next(content, None))
            if piece is None:
                return
            self.session.send_content(piece)
            self._flush()
            if self._full and not self._closed:
                self._drained = Deferred()
                self._be_patient()
                await self._drained

    # ------------------------------------------------------------ the loop

    def _deliver(self) -> None:
        """Hands the next event to whoever waits; one that nobody waits for is kept, an end acted upon."""
        event = self._kept or self.session.next_event()
        # The session may have said something by itself: EHLO after the greeting, HELO after a refused EHLO.
        self._flush()
        if isinstance(event, Signal):
            return
        if isinstance(event, SendContent) and self._content is not None:
            self._send_small(self._content)
            return
        self._kept = event
        if isinstance(event, Ended):
            self.ended = event
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if self.ended is None:
                self._kept = None
            waiting.callback(event)
        elif self.ended is not None:
            self.close()
            if self.on_idle_end is not None:
                self.on_idle_end(self)

    def _flush(self) -> None:
        data = self.session.data_to_send()
        if not data or self._closed:
            return
        if self._tls is None:
            write_at_once(self._transport, data)
            return
        try:
            self._tls.send(data)
        except TlsBroken as problem:
            self._broken(str(problem))

    # ------------------------------------------------------------ time and the end

    def _arm(self, seconds: float) -> None:
        if not self._closed:  # else the deadline is the one that cuts the connection
            self._timer.allow(seconds)

    def _be_patient(self) -> None:
        self._arm(min(self._patience, time_limit(self.session.stage)))

    def _silent(self) -> None:
        if self._closed:
            self._transport.abortConnection()
            return
        if self._handshake is not None:
            handshake, self._handshake = self._handshake, None
            self.abort()
            handshake.errback(Failure(HandshakeFailed("it timed out")))
            return
        if self._waiting is None and self._drained is None:
            return
        self.session.give_up("timed out")
        self._deliver()
        self.abort()

    def quit(self) -> None:
        """Ends a channel in good order: QUIT, a moment for the answer, close."""
        if self._closed:
            return
        if self.ended is None and self.session.ready:
            self.session.quit()
            self._flush()
        self.close()

    def close(self) -> None:
        """Closes after what is written."""
        if not self._closed:
            self._closed = True
            if self._tls is not None:
                self._tls.close()
            self._transport.unregisterProducer()
            self._transport.loseConnection()
            self._timer.allow(QUIT_SECONDS)
            self.resumeProducing()  # nobody else would tell whoever waits for the peer to read

    def abort(self) -> None:
        """Cuts the connection at once."""
        if not self._closed:
            self._closed = True
            self._timer.end()
            self._transport.abortConnection()
            self.resumeProducing()


def _unsent(problem: Exception, outgoing: Outgoing) -> tuple[Result, ...]:
    why = f"not sent: the queue file cannot be read ({problem})"
    return tuple(Result(Stage.SENDING, None, why) for _ in outgoing.recipients)
