"""The server's adapter: one Twisted protocol around one ServerSession.

It carries octets, timers, the handshake and the disk; what SMTP means is the session's, who may relay is
`access`'s. Octets go: `dataReceived` -> session -> event -> decision or spool -> `answer` -> transport.
Whatever goes wrong on our side is answered 4xx; a message is answered 250 only after its commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from qmtls.access import Peer, Refuse, decide_recipient, decide_sender
from qmtls.net.handshake import facts_of
from qmtls.net.house import (
    DISK_TROUBLE,
    MAILBOX_TROUBLE,
    OUR_TROUBLE,
    RECIPIENT_OK,
    SENDER_OK,
    SHUTTING_DOWN,
    TOO_SLOW,
    House,
)
from qmtls.net.mailboxes import MailboxError
from qmtls.net.patience import ABORT_AFTER, Patience
from qmtls.net.prompt import write_at_once
from qmtls.net.reception import Came, Reception
from qmtls.net.tlspipe import TlsBroken, TlsPipe
from qmtls.smtp.address import Address
from qmtls.smtp.events import (
    NEED_DATA,
    PAUSED,
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
from qmtls.smtp.reply import Reply, reply
from qmtls.smtp.server import GO_AHEAD, MAX_BUFFERED, Phase, ServerSession
from qmtls.tls.clients import match_client

HANDSHAKE_SECONDS = 30.0  # from 220 to the end of the handshake
CONTENT_GRACE = 60.0  # seconds of content before the pace is asked for
CONTENT_PACE = 100.0  # octets a second that content must average afterwards


@implementer(IPushProducer)
class InboundProtocol(Protocol):
    """One connection of a client."""

    log = Logger()
    _transport: Any

    def __init__(self, house: House, client: str) -> None:
        self.house = house
        self.snapshot = house.current()
        self.peer = Peer(client, False, None)
        self.session = ServerSession(self.snapshot.server_config)
        self.reception: Reception | None = None
        self._tls: TlsPipe | None = None
        self._patience = Patience(house.clock, self._time_is_up)
        self._pumping = False
        self._stalled = False  # content is on its way to the disk
        self._clogged = False  # the client does not read our replies
        self._leaving = False  # the service ends
        self._reading = True
        self._over = False
        self._octets = 0  # that came
        self._octets_before = 0  # and those of them that came before the deadline was set
        self._relay_by = ""  # what opened the relay for this transaction
        self._stored_as: dict[Address, Address] = {}  # recipients that are stored under another address

    # ------------------------------------------------------------ Twisted calls

    def connectionMade(self) -> None:
        self._transport = cast(Any, self.transport)
        self._transport.registerProducer(self, True)
        self.house.connections.add(self)
        self._patience.allow(self.snapshot.settings.timeout_smtpd)
        self._send()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._octets += len(data)
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
        if data:
            self.session.receive_data(data)
            self._pump()
        if self._tls is not None and self._tls.ended and not self._over:
            self.session.receive_eof()
            self._pump()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._over = True
        self.house.connections.discard(self)
        self._patience.end()
        self._drop_reception()

    def _secured(self, tls: TlsPipe) -> None:
        """The handshake is over. The facts are read once, here; from now on `peer` says who the client is."""
        server = self.snapshot.server
        facts = facts_of(tls.connection, tls.creator.recorder, client=False, crls=server.crls)
        trusted = server.trust is not None
        match = match_client(self.snapshot.settings.access.clients, facts, trusted=trusted)
        self.peer = replace(self.peer, tls=True, match=match, tls_summary=facts.summary)
        self.session.tls_established()
        self._clogged = False  # it has read all that was sent before the handshake
        self._allow(self.snapshot.settings.timeout_smtpd)
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
        try:
            while not (self._stalled or self._clogged or self._over):
                event = self.session.next_event()
                if event is NEED_DATA or event is PAUSED:
                    if self._leaving and self._leave():
                        continue
                    break
                _HANDLERS[type(event)](self, event)  # type: ignore[index]
        except Exception:
            self._broke(Failure())
        finally:
            self._pumping = False
        if self._over:
            return
        self._send()
        if self._stalled or self._clogged or self.session.buffered > MAX_BUFFERED:
            self._pause_reading()
        elif not self._reading:
            self._reading = True
            self._transport.resumeProducing()

    def _send(self) -> None:
        data = self.session.data_to_send()
        if data:
            self._write(data)
            if self.session.phase is Phase.COMMAND:
                self._allow(self.snapshot.settings.timeout_smtpd)

    def _pause_reading(self) -> None:
        if self._reading and not self._over:
            self._reading = False
            self._transport.pauseProducing()

    def _answer(self, answer: Reply) -> None:
        self.session.answer(answer)

    # ------------------------------------------------------------ events

    def _on_mail(self, event: MailFrom) -> None:
        refusal = decide_sender(self.snapshot.settings.access, self.peer, event.transaction.reverse_path)
        self._answer(SENDER_OK if refusal is None else refusal.reply)

    def _on_rcpt(self, event: RcptTo) -> None:
        transaction = self.session.transaction
        assert transaction is not None
        if event.address.domain.startswith("[") and not self.peer.local_address:
            self.peer = replace(self.peer, local_address=getattr(self._transport.getHost(), "host", ""))
        try:
            decision = decide_recipient(
                self.snapshot.settings.access, self.peer, transaction.reverse_path, event.address, self.house.is_mailbox
            )
        except MailboxError as problem:
            self.house.say(f"mailbox trouble to=<{event.address}> error={problem}")
            self._answer(MAILBOX_TROUBLE)
            return
        if isinstance(decision, Refuse):
            sender = transaction.reverse_path or ""
            self.house.say(
                f"refused client={self.peer.address} from=<{sender}> to=<{event.address}> reply={decision.reply}"
            )
            self._answer(decision.reply)
            return
        if decision.by:
            self._relay_by = decision.by
        if decision.forward_path is not None:
            self._stored_as[event.address] = decision.forward_path
        self._answer(RECIPIENT_OK)

    def _on_data(self, event: DataStart) -> None:
        house = self.house
        recipients = self.session.recipients
        if self._stored_as:
            recipients = tuple(replace(r, address=self._stored_as.get(r.address, r.address)) for r in recipients)
        came = Came(self.peer, self._relay_by, house.now(), self.snapshot.settings.me)
        self.reception = Reception.begin(house.spool(), house.next_id(), self.session, recipients, came)
        self._forget_transaction()
        self._allow(CONTENT_GRACE)
        self._answer(GO_AHEAD)

    def _on_content(self, event: Content) -> None:
        reception = self.reception
        if reception is not None and reception.write(event.data):
            self._stalled = True
            flushed = self.house.committer.flush(reception.incoming)
            flushed.addCallbacks(self._flushed, self._flush_failed).addErrback(self._broke)

    def _flushed(self, _: object) -> None:
        self._stalled = False
        self._allow(CONTENT_GRACE)  # that time was ours, not the client's
        self._pump()

    def _flush_failed(self, failure: Failure) -> None:
        reception = self.reception
        if reception is not None:
            reception.trouble = self.house.spool_trouble(failure, self.peer.address)
        self._flushed(None)

    def _on_content_end(self, event: ContentEnd) -> None:
        reception, self.reception = self.reception, None
        if reception is None or reception.trouble is not None:
            if reception is not None:
                reception.abort()
            self._answer(DISK_TROUBLE if reception is None else reception.trouble or DISK_TROUBLE)
            return
        spool = reception.spool
        committed = self.house.committer.commit(spool, reception.incoming)
        committed.addCallbacks(self._stored, self._not_stored, callbackArgs=(reception,), errbackArgs=(reception,))
        committed.addErrback(self._broke)

    def _stored(self, _: object, reception: Reception) -> None:
        reception.log_accepted(self.house.say)
        self._answer(reply(250, "2.0.0", f"ok {reception.id}"))
        self._pump()
        # The client has its answer first; delivery starts in the same turn.
        self.house.accepted(reception.spool, reception)

    def _not_stored(self, failure: Failure, reception: Reception) -> None:
        reception.abort()
        self._answer(self.house.spool_trouble(failure, self.peer.address))
        self._pump()

    def _on_gone(self, event: ContentRefused | Reset) -> None:
        self._forget_transaction()
        self._drop_reception()

    def _forget_transaction(self) -> None:
        self._relay_by = ""
        self._stored_as.clear()

    def _on_starttls(self, event: StartTls) -> None:
        self._write(self.session.data_to_send())
        self._forget_transaction()
        self._allow(HANDSHAKE_SECONDS)
        self._tls = TlsPipe(self.snapshot.server.creator(), partial(write_at_once, self._transport), client=False)

    def _decrypted(self, tls: TlsPipe, data: bytes) -> bytes:
        """What the client said under TLS; b"" while the handshake goes on, or if the session broke."""
        shaking = not tls.established
        try:
            plain = tls.receive(data)
        except TlsBroken as problem:
            self.house.say(f"tls broken client={self.peer.address} reason={problem}")
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
        if phase is Phase.ANSWER or self._stalled:
            self._patience.allow(CONTENT_GRACE)  # it waits for us, not we for it
            return
        if phase is Phase.CONTENT:  # also content that is only read past
            earned = (self._octets - self._octets_before) / CONTENT_PACE
            left = self._patience.deadline + earned - self.house.clock.seconds()
            if left > 0:
                self._allow(left)
                return
        self.house.say(f"timeout client={self.peer.address} while={phase.name.lower()}")
        if phase is Phase.HANDSHAKE:
            self._over = True
            self._transport.abortConnection()
            return
        self.session.abort(TOO_SLOW)
        self._close()

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

    def _broke(self, failure: Failure) -> None:
        """A fault of ours. The client may try again."""
        self.log.failure("inbound session with {client}", failure=failure, client=self.peer.address)
        self.session.abort(OUR_TROUBLE)
        self._close()

    def _close(self) -> None:
        if self._over:
            return
        self._drop_reception()
        data = self.session.data_to_send()
        if data:
            self._write(data)
        if self._tls is not None:
            self._tls.close()
        self._over = True
        self._transport.unregisterProducer()
        if not self._reading:
            self._transport.resumeProducing()
        self._transport.loseConnection()
        self._patience.allow(ABORT_AFTER)

    def _drop_reception(self) -> None:
        reception, self.reception = self.reception, None
        if reception is not None:
            reception.abort()


_HANDLERS: dict[type[ServerEvent], Callable[[InboundProtocol, Any], None]] = {
    MailFrom: InboundProtocol._on_mail,
    RcptTo: InboundProtocol._on_rcpt,
    DataStart: InboundProtocol._on_data,
    Content: InboundProtocol._on_content,
    ContentEnd: InboundProtocol._on_content_end,
    ContentRefused: InboundProtocol._on_gone,
    Reset: InboundProtocol._on_gone,
    StartTls: InboundProtocol._on_starttls,
    Closed: InboundProtocol._on_closed,
}
