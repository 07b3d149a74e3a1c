"""The client of one connection: who it is, and what it is answered to MAIL and RCPT.

It holds the snapshot that the session goes by, and what was found out about the current transaction: what opened the
relay, and which recipients are stored under another address.
"""

from __future__ import annotations

from dataclasses import replace

from qmtls.access import Peer, Refuse, decide_recipient, decide_sender
from qmtls.net.handshake import facts_of
from qmtls.net.house import MAILBOX_TROUBLE, RECIPIENT_OK, SENDER_OK, House
from qmtls.net.mailboxes import MailboxError
from qmtls.net.reception import Came
from qmtls.net.tlspipe import TlsPipe
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import RcptTo, Transaction
from qmtls.smtp.reply import Reply
from qmtls.tls.clients import ClientRule, match_client


class Guest:
    """One per connection. It answers; what the answer does to the session is the adapter's business."""

    __slots__ = ("_charged", "_house", "_relay_by", "_stored_as", "peer", "snapshot")

    def __init__(self, house: House, client: str) -> None:
        self._house = house
        self.snapshot = house.current()
        self.peer = Peer(client, False, None)
        self._relay_by = ""  # what opened the relay for this transaction
        self._stored_as: dict[Address, tuple[Address, ...]] = {}  # recipients that are stored under other addresses
        self._charged: list[ClientRule] = []  # the rules that this message has paid

    def secured(self, tls: TlsPipe) -> None:
        """The handshake is over. The facts are read once, here; from now on `peer` says who the client is."""
        server = self.snapshot.server
        facts = facts_of(tls.connection, tls.creator.recorder, client=False, crls=server.crls)
        trusted = server.trust is not None
        match = match_client(self.snapshot.settings.access.clients, facts, trusted=trusted, now=self._house.now())
        self.peer = replace(self.peer, tls=True, match=match, tls_summary=facts.summary)

    def mail(self, transaction: Transaction) -> Reply:
        """The answer to MAIL."""
        refusal = decide_sender(self.snapshot.settings.access, self.peer, transaction.reverse_path)
        return SENDER_OK if refusal is None else refusal.reply

    def rcpt(self, transaction: Transaction, event: RcptTo) -> Reply:
        """The answer to RCPT. A refusal is a line of the log."""
        house = self._house
        try:
            decision = decide_recipient(
                self.snapshot.settings.access, self.peer, transaction, event.address, self, charged=self._charged
            )
        except MailboxError as problem:
            house.say(f"mailbox trouble to=<{event.address}> error={problem}")
            return MAILBOX_TROUBLE
        if isinstance(decision, Refuse):
            sender = transaction.reverse_path or ""
            house.say(f"refused client={self.peer.address} from=<{sender}> to=<{event.address}> reply={decision.reply}")
            return decision.reply
        if decision.by:
            self._relay_by = decision.by
        if decision.forward_paths is not None:
            self._stored_as[event.address] = decision.forward_paths
        if decision.rule is not None:
            self._charged.append(decision.rule)
        return RECIPIENT_OK

    # ------------------------------------------------------------ what a decision asks (access.Aids)

    def resolve(self, address: Address) -> tuple[Address, ...] | None:
        if address.host and address.host not in self.snapshot.settings.access.locals:
            return (address,)
        return (address,) if address.host and self._house.is_mailbox(address) else None

    def wait(self, rule: ClientRule) -> float:
        return 0.0

    def now(self) -> float:
        return self._house.now()

    def reached(self, local_address: str) -> None:
        """Our own address that the client connected to; asked for only where mail to it as a literal comes."""
        self.peer = replace(self.peer, local_address=local_address)

    def came(self) -> Came:
        """For the envelope of the message that now begins."""
        return Came(self.peer, self._relay_by, self._house.now(), self.snapshot.settings.me)

    def stored(self, recipients: tuple[Recipient, ...]) -> tuple[Recipient, ...]:
        """The recipients as they go into the envelope."""
        if not self._stored_as:
            return recipients
        meant = ((r, a) for r in recipients for a in self._stored_as.get(r.address, (r.address,)))
        return tuple({a: replace(r, address=a) for r, a in meant}.values())

    def forget_transaction(self) -> None:
        """What was found out belongs to the transaction that is over, or whose content begins."""
        self._relay_by = ""
        self._stored_as.clear()
        self._charged.clear()
