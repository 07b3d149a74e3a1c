"""The client of one connection: who it is, and what it is answered to AUTH, MAIL and RCPT.

It goes by the newest settings: at each MAIL a reload since the last one counts, and the client's identity is judged
again, as it is from time to time in a session that lasts. Within a transaction nothing changes. What was found out
about the transaction under way is here too: what opened the relay, and what is stored instead of its recipients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from qmtls.access import Peer, Refuse, decide_recipient, decide_sender
from qmtls.ledger.clients import ShownClient, shown_client
from qmtls.net.doorkeeper import Visit
from qmtls.net.doors import Caller, Role
from qmtls.net.handshake import facts_of
from qmtls.net.house import (
    LOGIN_FAILED,
    LOGIN_LATER,
    LOGIN_OK,
    MAILBOX_TROUBLE,
    NO_ROOM,
    RECIPIENT_OK,
    SENDER_OK,
    House,
)
from qmtls.net.mailboxes import MailboxError
from qmtls.net.passwords import CannotTell
from qmtls.net.reception import Came
from qmtls.net.recheck import recheck
from qmtls.net.servertls import ServerTls
from qmtls.net.tlspipe import TlsPipe
from qmtls.smtp.address import Address, folded
from qmtls.smtp.envelope import Recipient, joined
from qmtls.smtp.events import Authenticate, RcptTo, Transaction
from qmtls.smtp.reply import Reply, printable
from qmtls.smtp.server_replies import TOO_MANY_RECIPIENTS
from qmtls.tls.clients import USER, ClientMatch, ClientRule, match_client
from qmtls.tls.facts import TlsFacts

# Recipients of one message that aliases stand for; what the head of a queue file can hold beside as many others.
MOST_EXPANDED = 10_000
MAX_NAME = 128  # characters of a name that failed, in the log: no user has a longer one
JUDGED_SECONDS = 3600.0  # after which a session's identity is judged again: certificates and CRLs expire


class Guest:
    """One per connection. It answers; what the answer does to the session is the adapter's business."""

    __slots__ = (
        "_charged",
        "_expanded",
        "_facts",
        "_house",
        "_judged_at",
        "_login",
        "_relay_by",
        "_shown",
        "_stored_as",
        "_visit",
        "peer",
        "size_limit",
        "snapshot",
    )

    def __init__(self, house: House, caller: Caller, visit: Visit) -> None:
        self._house = house
        self._visit = visit
        self.snapshot = house.current()
        self.peer = Peer(
            caller.address,
            False,
            None,
            local_address=caller.local_address,
            submission=caller.role is Role.SUBMISSION,
        )
        self._facts: TlsFacts | None = None
        self._judged_at = 0.0
        self._login: tuple[str, str] | None = None  # user and hash, once a password was right
        self._shown: ShownClient | None = None  # made when the first message is accepted
        self._relay_by = ""  # what opened the relay for this transaction
        self._stored_as: dict[Address, tuple[Address, ...]] = {}  # recipients that are stored under other addresses
        self._expanded = 0  # how many those others are
        self._charged: list[ClientRule] = []  # the rules that permitted this message; each is charged once
        self.size_limit = 0  # of this transaction's content, by these rules; 0 = none of theirs

    def leave(self) -> None:
        """The connection is over."""
        self._visit.leave()

    def commands(self, number: int) -> Reply | None:
        """That many commands were answered; the last words if it is too many for its address."""
        return self._visit.commands(number)

    # ------------------------------------------------------------ who it is

    def secured(self, tls: TlsPipe, server: ServerTls) -> tuple[str, ...]:
        """The handshake with `server` is over: its facts are read once, here. The SASL mechanisms for it."""
        facts = facts_of(tls.connection, tls.creator.recorder, client=False, crls=server.crls)
        self._facts = facts
        before = self.peer
        self.peer = Peer(
            before.address, True, self._match(facts), facts.summary, before.local_address, before.submission
        )
        return self._mechanisms()

    def _match(self, facts: TlsFacts) -> ClientMatch:
        """What the certificate opens under the settings of the moment, and the user's rule before it."""
        house, settings = self._house, self.snapshot.settings
        self._judged_at = house.now()
        trusted = settings.client_trust is not None
        match = match_client(settings.access.clients, facts, trusted=trusted, now=self._judged_at)
        if self._login is not None:
            user = settings.users.get(self._login[0])
            if user is not None and user.hash == self._login[1]:  # nor has the password changed
                return replace(match, rules=(user.rule, *match.rules))
        return match

    def _judge_again(self) -> None:
        """Against whom we trust now. What was lost or gained is worth a line of the log."""
        facts = self._facts
        if facts is None:
            return
        before = self.peer.match or ClientMatch()
        after = self._match(recheck(facts, self.snapshot.server))
        self.peer = replace(self.peer, match=after)
        if [rule.name for rule in before.rules] != [rule.name for rule in after.rules]:
            names = ",".join(rule.name for rule in after.rules)
            because = f" reason={after.reason}" if after.reason else ""
            self._house.say(f'identity judged again client={self.peer.address} rules="{names}"{because}')

    def _mechanisms(self) -> tuple[str, ...]:
        external = ("EXTERNAL",) if self.peer.match is not None and self.peer.match.rules else ()
        return external + (("PLAIN", "LOGIN") if self.snapshot.settings.users else ())

    def authenticate(self, claim: Authenticate) -> Reply | Deferred[Reply]:
        """The answer to AUTH. Nobody may act for another identity than his own (RFC 4422 section 3.4.1)."""
        if claim.mechanism == "EXTERNAL":
            return self._logged_in(self._external(claim.identity), claim)
        refusal = self._visit.login()
        if refusal is not None:
            return refusal
        name = folded(claim.user)
        if folded(claim.identity) not in ("", name):
            return self._logged_in(None, claim)
        looking = self._house.passwords.verify(self.snapshot.settings.users, name, claim.password)
        return looking.addCallbacks(self._logged_in, self._cannot_tell, callbackArgs=(claim,))

    def _external(self, identity: str) -> ClientRule | None:
        """A rule for the certificate that was shown, one of those that it may act for."""
        rules = self.peer.match.rules if self.peer.match is not None else ()
        wanted = folded(identity)
        return next((rule for rule in rules if not wanted or wanted in (rule.value, folded(rule.name))), None)

    def _logged_in(self, rule: ClientRule | None, claim: Authenticate) -> Reply:
        # Whoever knocks chooses the name: it must not write a line of the log, or another word of this one.
        named = printable(claim.user, MAX_NAME).replace('"', "?")
        who = f' user="{named}"' if named else ""
        if rule is None:
            self._house.say(f"login refused client={self.peer.address} mechanism={claim.mechanism}{who}")
            return LOGIN_FAILED
        if rule.kind == USER:
            self._visit.logged_in()
            self._login = rule.value, self.snapshot.settings.users[rule.value].hash
            match = self.peer.match or ClientMatch()
            self.peer = replace(self.peer, match=replace(match, rules=(rule, *match.rules)))
        return LOGIN_OK

    def _cannot_tell(self, failure: Failure) -> Reply:
        failure.trap(CannotTell)
        self._visit.logged_in()
        self._house.say(f"login put off client={self.peer.address} error={failure.value}")
        return LOGIN_LATER

    # ------------------------------------------------------------ what it wants

    def mail(self, transaction: Transaction) -> Reply:
        """The answer to MAIL."""
        house = self._house
        current = house.current()
        if current is not self.snapshot or (self._facts is not None and house.now() - self._judged_at > JUDGED_SECONDS):
            self.snapshot = current
            self._judge_again()
        refused = decide_sender(self.snapshot.settings.access, self.peer, transaction.reverse_path)
        if refused is not None:
            self._say_refused(transaction, "", refused.reply)
            return refused.reply
        if transaction.size is not None and transaction.size > house.room():
            house.say(f"no room client={self.peer.address} size={transaction.size}")
            return NO_ROOM
        if self._visit.limits.messages is not None:
            return self._visit.message() or SENDER_OK
        return SENDER_OK

    def rcpt(self, transaction: Transaction, event: RcptTo) -> Reply:
        """The answer to RCPT. A refusal is a line of the log."""
        settings = self.snapshot.settings
        meant = settings.recipients.rewritten(event.address)
        try:
            decision = decide_recipient(settings.access, self.peer, transaction, meant, self, charged=self._charged)
        except MailboxError as problem:
            self._house.say(f"mailbox trouble to=<{event.address}> error={problem}")
            return MAILBOX_TROUBLE
        if isinstance(decision, Refuse):
            self._say_refused(transaction, f" to=<{event.address}>", decision.reply)
            return decision.reply
        if decision.forward_paths is not None or meant is not event.address:
            paths = decision.forward_paths or (meant,)
            if event.address not in self._stored_as:
                if self._expanded + len(paths) > MOST_EXPANDED:
                    self._say_refused(transaction, f" to=<{event.address}>", TOO_MANY_RECIPIENTS)
                    return TOO_MANY_RECIPIENTS
                self._expanded += len(paths)
            self._stored_as[event.address] = paths
        if decision.by:
            self._relay_by = decision.by
        rule = decision.rule
        if rule is not None:
            if rule not in self._charged:
                self._charged.append(rule)
            if rule.scope.size:
                self.size_limit = min(self.size_limit or rule.scope.size, rule.scope.size)
        return RECIPIENT_OK

    def _say_refused(self, transaction: Transaction, to: str, answer: Reply) -> None:
        sender = transaction.reverse_path or ""
        self._house.say(f"refused client={self.peer.address} from=<{sender}>{to} reply={answer}")

    def reached(self, ask: Callable[[], str]) -> None:
        """Our own address that the client connected to; asked for only where mail to it as a literal comes."""
        if not self.peer.local_address:
            self.peer = replace(self.peer, local_address=ask())

    # ------------------------------------------------------------ what a decision asks (access.Aids)

    def resolve(self, address: Address) -> tuple[Address, ...] | None:
        return self.snapshot.settings.recipients.resolve(address, self._house.is_mailbox)

    def wait(self, rule: ClientRule) -> float:
        return self._house.doorkeeper.wait(rule)

    def now(self) -> float:
        return self._house.now()

    # ------------------------------------------------------------ what is stored

    def came(self) -> Came:
        """For the envelope of the message that now begins."""
        rule = self._charged[0] if self._charged else None
        shown = None
        if rule is not None:
            shown = ShownClient(rule.value) if rule.kind == USER else self._shown_client()
        return Came(self.peer, self._relay_by, self._house.now(), self.snapshot.settings.me, rule, shown)

    def _shown_client(self) -> ShownClient | None:
        if self._shown is None and self._facts is not None and self._facts.leaf is not None:
            self._shown = shown_client(self._facts.leaf)
        return self._shown

    def stored(self, recipients: tuple[Recipient, ...]) -> tuple[Recipient, ...]:
        """The recipients as they go into the envelope."""
        if not self._stored_as:
            return recipients
        stored: dict[Address, Recipient] = {}
        for recipient in recipients:
            for address in self._stored_as.get(recipient.address, (recipient.address,)):
                meant, other = replace(recipient, address=address), stored.get(address)
                stored[address] = meant if other is None else joined(other, meant)
        return tuple(stored.values())

    def forget_transaction(self) -> None:
        """What was found out belongs to the transaction that is over, or whose content begins."""
        self._relay_by = ""
        self.size_limit = 0
        self._stored_as.clear()
        self._expanded = 0
        self._charged.clear()
