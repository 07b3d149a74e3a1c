"""The server's adapter: one Twisted protocol around one ServerSession.

It carries octets, timers and the handshake. What SMTP means is the session's, who the client is and what it may is
`Guest`'s, and messages go to the disk by `Storing`. Octets go: `dataReceived` -> session -> event -> one of these two
-> `answer` -> transport.
Whatever goes wrong on our side is answered 4xx; a message is answered 250 only after its commit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qmtls.net.doorkeeper import Visit
from qmtls.net.doors import Caller, Role
from qmtls.net.early import spoke_first
from qmtls.net.guest import Guest
from qmtls.net.house import EARLY, OUR_TROUBLE, SHUTTING_DOWN, TOO_SLOW, House
from qmtls.net.patience import ABORT_AFTER, Patience
from qmtls.net.prompt import write_and_close, write_at_once
from qmtls.net.reception import Reception
from qmtls.net.storing import Storing
from qmtls.net.tlspipe import TlsBroken, TlsPipe
from qmtls.smtp.events import (
    NEED_DATA,
    PAUSED,
    Authenticate,
    Closed,
    Content,
    ContentEnd,
    ContentRefused,
    DataStart,
    MailFrom,
    RcptTo,
    Reset,
    ServerEvent,
    StartTls,
)
from qmtls.smtp.reply import Reply
from qmtls.smtp.server import GO_AHEAD, MAX_BUFFERED, Phase, ServerSession

HANDSHAKE_SECONDS = 30.0  # from 220 to the end of the handshake
HURRIED_SECONDS = 10.0  # for the next command, while connections are scarce
HURRIED_TRANSACTION_SECONDS = 60.0  # the same behind MAIL: a word that costs nothing must not hold a place for long
CONTENT_GRACE = 60.0  # seconds of content before the pace is asked for
CONTENT_PACE = 100.0  # octets a second that content must average afterwards


@implementer(IPushProducer)
class InboundProtocol(Protocol):
    """One connection of a client."""

    log = Logger()
    _transport: Any

    def __init__(self, house: House, caller: Caller, visit: Visit) -> None:
        self.house = house
        self.guest = Guest(house, caller, visit)
        self.session = ServerSession(self.guest.snapshot.config(caller.role, visit.limits))
        self.storing = Storing(house, self, caller.address)
        self._caller = caller
        self._server = self.guest.snapshot.server  # whatever is reloaded: it was what EHLO promised
        self._tls: TlsPipe | None = None
        self._patience = Patience(house.clock, self._time_is_up)
        self._timeout = self.guest.snapshot.settings.timeout_smtpd
        self._counts = visit.limits.commands is not None
        self._pumping = False
        self._clogged = False  # the client does not read our replies
        self._leaving = False  # the service ends
        self._reading = True
        self._over = False
        self._octets = 0  # that came
        self._octets_before = 0  # and those of them that came before the deadline was set

    # ------------------------------------------------------------ Twisted calls

    def connectionMade(self) -> None:
        self._transport = cast(Any, self.transport)
        self._transport.registerProducer(self, True)
        self.house.connections.add(self)
        if self._caller.role is Role.SMTPS:
            self._begin_tls()
        elif self._caller.early or spoke_first(self._transport):
            self._refuse_early()
        else:
            self._patience.allow(self._timeout)
            self._send()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._octets += len(data)
        tls = self._tls
        if tls is not None:
            data = self._decrypted(tls, data)
        if data:
            self.session.receive_data(data)
            self._pump()
        if tls is not None and tls.ended and not self._over:
            self.session.receive_eof()
            self._pump()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._over = True
        self.house.connections.discard(self)
        self._patience.end()
        self.storing.drop()
        self.guest.leave()

    def _secured(self, tls: TlsPipe) -> None:
        """The handshake is over."""
        self.session.tls_established(self.guest.secured(tls, self._server))
        self._clogged = False  # it has read all that was sent before the handshake
        self._allow(self._timeout)
        self._pump()

    def pauseProducing(self) -> None:
        self._clogged = True
        self._pause_reading()

    def resumeProducing(self) -> None:
        self._clogged = False
        self._pump()

    def stopProducing(self) -> None:
        self._pause_reading()

    # ------------------------------------------------------------ the loop

    def _pump(self) -> None:
        """Takes every event that can be had, then sends the replies in one write."""
        if self._pumping or self._over:
            return
        self._pumping = True
        session, storing = self.session, self.storing
        try:
            while not (storing.stalled or self._clogged or self._over):
                event = session.next_event()
                if event is NEED_DATA or event is PAUSED:
                    if self._leaving and self._leave():
                        continue
                    break
                _HANDLERS[type(event)](self, event)  # type: ignore[index]
        except Exception:
            self.broke(Failure())
        finally:
            self._pumping = False
        if self._over:
            return
        if session.out:
            self._send()
            if self._over:
                return
        if storing.stalled or self._clogged or session.buffered > MAX_BUFFERED:
            self._pause_reading()
        elif not self._reading:
            self._reading = True
            self._transport.resumeProducing()

    def _send(self) -> None:
        session = self.session
        if self._counts:
            too_many = self.guest.commands(len(session.out))  # a reply for each
            if too_many is not None:
                self._counts = False
                session.abort(too_many)
                self._close()
                return
        self._write(session.data_to_send())
        if session.phase is Phase.COMMAND:
            self._octets_before = self._octets
            self._patience.allow(self._timeout)

    def _pause_reading(self) -> None:
        if self._reading and not self._over:
            self._reading = False
            self._transport.pauseProducing()

    def _refuse_early(self) -> None:
        self.house.say(f"refused client={self._caller.address} reply={EARLY}")
        self.session.data_to_send()  # the greeting, which nobody waits for
        self.session.abort(EARLY)
        self._close()

    # ------------------------------------------------------------ events

    def _on_mail(self, event: MailFrom) -> None:
        self.session.answer(self.guest.mail(event.transaction))

    def _on_rcpt(self, event: RcptTo) -> None:
        transaction = self.session.transaction
        assert transaction is not None
        if event.address.domain.startswith("["):
            self.guest.reached(self._local_address)
        self.session.answer(self.guest.rcpt(transaction, event))

    def _local_address(self) -> str:
        return getattr(self._transport.getHost(), "host", "")  # a unix socket has none

    def _on_authenticate(self, event: Authenticate) -> None:
        answer = self.guest.authenticate(event)
        if isinstance(answer, Deferred):
            answer.addCallback(self.on_result).addErrback(self.broke)
        else:
            self.session.answer(answer)

    def _on_data(self, event: DataStart) -> None:
        house, guest = self.house, self.guest
        recipients = guest.stored(self.session.recipients)
        self.storing.reception = Reception.begin(house.spool(), house.next_id(), self.session, recipients, guest.came())
        if guest.size_limit:
            self.session.limit_content(guest.size_limit)
        guest.forget_transaction()
        self._allow(CONTENT_GRACE)
        self.session.answer(GO_AHEAD)

    def _on_content(self, event: Content) -> None:
        self.storing.write(event.data)

    def _on_content_end(self, event: ContentEnd) -> None:
        self.storing.end()

    def on_room(self) -> None:
        self._allow(CONTENT_GRACE)  # that time was ours, not the client's
        self._pump()

    def on_result(self, answer: Reply) -> None:
        self.session.answer(answer)
        self._pump()

    def _on_gone(self, event: ContentRefused | Reset) -> None:
        self.guest.forget_transaction()
        self.storing.drop()

    def _on_starttls(self, event: StartTls) -> None:
        self._write(self.session.data_to_send())
        self.guest.forget_transaction()
        self._begin_tls()

    def _begin_tls(self) -> None:
        self._allow(HANDSHAKE_SECONDS)
        self._tls = TlsPipe(self._server.creator(), partial(write_at_once, self._transport), client=False)

    def _decrypted(self, tls: TlsPipe, data: bytes) -> bytes:
        """What the client said under TLS; b"" while the handshake goes on, or if the session broke."""
        shaking = not tls.established
        try:
            plain = tls.receive(data)
        except TlsBroken as problem:
            self.house.say(f"tls broken client={self._caller.address} reason={problem}")
            self._over = True
            self._transport.abortConnection()
            return b""
        if shaking and tls.established:
            self._secured(tls)
        return plain

    def _write(self, data: bytes) -> None:
        if self._tls is None:
            write_at_once(self._transport, data)
            return
        try:
            self._tls.send(data)
        except TlsBroken:
            self._transport.abortConnection()

    def _on_closed(self, event: Closed) -> None:
        self._close()

    # ------------------------------------------------------------ time and the end

    def _allow(self, seconds: float) -> None:
        self._octets_before = self._octets
        self._patience.allow(seconds)

    def _time_is_up(self) -> None:
        if self._over:
            self._transport.abortConnection()
            return
        phase = self.session.phase
        if phase is Phase.ANSWER or self.storing.stalled:
            self._patience.allow(CONTENT_GRACE)  # it waits for us, not we for it
            return
        if phase is Phase.CONTENT:  # also content that is only read past
            earned = (self._octets - self._octets_before) / CONTENT_PACE
            left = self._patience.deadline + earned - self.house.clock.seconds()
            if left > 0:
                self._allow(left)
                return
        self.house.say(f"timeout client={self._caller.address} while={phase.name.lower()}")
        if phase is Phase.HANDSHAKE:
            self._over = True
            self._transport.abortConnection()
            return
        self.session.abort(TOO_SLOW)
        self._close()

    def hurry(self) -> None:
        """Connections are scarce: one that does nothing gets little time, one in a transaction a little more."""
        phase = self.session.phase
        if phase is Phase.COMMAND and self.session.transaction is not None:
            self._patience.hurry(HURRIED_TRANSACTION_SECONDS)
        elif phase is Phase.COMMAND or phase is Phase.HANDSHAKE:
            self._patience.hurry(HURRIED_SECONDS)

    def shut_down(self) -> None:
        """The service ends: a client between transactions is told 421, one in the middle when it has finished."""
        self._leaving = True
        self._pump()

    def _leave(self) -> bool:
        """Ends the session if nothing is under way in it."""
        if self.session.phase is not Phase.COMMAND or self.session.transaction is not None:
            return False
        self.session.abort(SHUTTING_DOWN)
        return True

    def cut_off(self) -> None:
        """The time for finishing is over."""
        self._transport.abortConnection()

    def broke(self, failure: Failure) -> None:
        """A fault of ours. The client may try again."""
        self.log.failure("inbound session with {client}", failure=failure, client=self._caller.address)
        self.session.abort(OUR_TROUBLE)
        self._close()

    def _close(self) -> None:
        if self._over:
            return
        self.storing.drop()
        data = self.session.data_to_send()
        if self._tls is not None:
            data = self._tls.farewell(data)
        self._over = True
        self._transport.unregisterProducer()
        if not self._reading:
            self._transport.resumeProducing()
        self._patience.allow(ABORT_AFTER)
        write_and_close(self._transport, data)


_HANDLERS: dict[type[ServerEvent], Callable[[InboundProtocol, Any], None]] = {
    MailFrom: InboundProtocol._on_mail,
    RcptTo: InboundProtocol._on_rcpt,
    Authenticate: InboundProtocol._on_authenticate,
    DataStart: InboundProtocol._on_data,
    Content: InboundProtocol._on_content,
    ContentEnd: InboundProtocol._on_content_end,
    ContentRefused: InboundProtocol._on_gone,
    Reset: InboundProtocol._on_gone,
    StartTls: InboundProtocol._on_starttls,
    Closed: InboundProtocol._on_closed,
}
