"""Who may send what to whom: a pure decision per sender and recipient, with its reason in the reply.

The order is qmail-smtpd's: the sender's bad name, then our own domains, then networks, then the client's identities:
the first rule whose scope permits. An identity is looked at only where nothing else opens the way (on a submission
listener nothing else does); where none permits, the refusal says why. A message is charged to its rule last.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from qmtls.lookup import folded, is_listed, nearest
from qmtls.networks import Network, NetworkTable, read_address
from qmtls.smtp.address import Address
from qmtls.smtp.events import Transaction
from qmtls.smtp.reply import Reply, printable, reply
from qmtls.tls.clients import BY_KEY, ClientMatch, ClientRule, ClientRules
from qmtls.tls.identities import Identity
from qmtls.tls.policy import Origin
from qmtls.wording import counted

NOT_ALLOWED = "sorry, that domain isn't in my list of allowed rcpthosts"
NO_CERTIFICATE = "no valid cert for gatewaying"
MAX_REASON = 200  # characters of a reason: a reply line has 512 octets at most (RFC 5321 section 4.5.3.1.5)
POSTMASTER = "postmaster"  # RFC 5321 section 4.5.1: also without a domain, in any case of letters


@dataclass(frozen=True, slots=True)
class SenderRule:
    """One line of `tlssenders`: mail of senders in `domain` ("a.example", ".a.example") comes over TLS, and, unless
    there are no `identities`, from a client whose certificate proves one of them."""

    domain: str
    identities: frozenset[Identity]
    origin: Origin


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What decides about a recipient, from one snapshot of the control directory. Host names in lower case."""

    locals: frozenset[str]
    rcpt_hosts: frozenset[str]  # exact names and ".parent" forms; rcpthosts and morercpthosts together
    networks: tuple[Network, ...] = ()
    clients: ClientRules = field(default_factory=ClientRules)
    bad_mail_from: frozenset[str] = frozenset()  # "user@host" and "@host"
    senders: Mapping[str, SenderRule] = field(default_factory=dict)  # by SenderRule.domain
    local_ip_host: str = ""
    postmaster_host: str = ""  # the local domain of <postmaster> without one; "" = there is no local domain
    relay: NetworkTable[str] = field(init=False, repr=False, compare=False)  # `networks` by their own text

    def __post_init__(self) -> None:
        object.__setattr__(self, "relay", NetworkTable({network: str(network) for network in self.networks}))

    @property
    def any_by_key(self) -> bool:
        """True if some rule names a certificate or key: then certificates are of use even without clientca.pem."""
        return self.clients.any_by_key or any(
            kind in BY_KEY for rule in self.senders.values() for kind, _ in rule.identities
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """The client of one connection; made anew once TLS is up, and when it has logged in."""

    address: str  # its IP address
    tls: bool
    match: ClientMatch | None  # None in plaintext; after AUTH with the user's rule before the others
    tls_summary: str = ""  # TlsFacts.summary, for the trace field and the log
    local_address: str = ""  # our own IP address that it connected to, for mail to user@[IP]
    submission: bool = False  # it came to a listener of that role: nothing without an identity


class Aids(Protocol):
    """What a decision asks of the world outside."""

    def resolve(self, address: Address) -> tuple[Address, ...] | None:
        """What to store for a recipient: the same address alone = as it is. None = no such local recipient."""

    def wait(self, rule: ClientRule) -> float:
        """Takes one message from the rule's rate: 0.0 = taken, else the seconds until one may be had."""

    def now(self) -> float:
        """The time of day, Unix seconds."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The recipient is taken. `by` says what opened the relay: "" for our own domains, else the network or identity.

    `forward_paths` are the addresses to store instead of the one given, None = that one. `rule` is the identity's: the
    transaction is charged with it, and its size limit holds.
    """

    by: str = ""
    forward_paths: tuple[Address, ...] | None = None
    rule: ClientRule | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Sender or recipient are not taken."""

    reply: Reply


Decision = Permit | Refuse

OURS = Permit()
BAD_SENDER = Refuse(reply(553, "5.7.1", "sorry, your envelope sender is in my badmailfrom list"))
NO_MAILBOX = Refuse(reply(550, "5.1.1", "sorry, no mailbox here by that name"))
NOT_ALLOWED_PLAIN = Refuse(reply(553, "5.7.1", NOT_ALLOWED))
IDENTITY_NEEDED = "nothing is accepted here without an identity"
TLS_NEEDED = Refuse(reply(530, "5.7.0", "mail of this sender must come over TLS, issue STARTTLS first"))


def decide_sender(rules: AccessRules, peer: Peer, reverse_path: Address | None) -> Refuse | None:
    """What MAIL is answered with: None = go on.

    The refusal of `badmailfrom` is given at each RCPT instead, as in qmail: some clients send the rest of a pipeline
    after a refused MAIL as if it had been taken.
    """
    if rules.senders and reverse_path is not None:
        refusal = _unproven_sender(rules, peer, reverse_path)
        if refusal is not None:
            return refusal
    return _submitter_refused(peer, reverse_path) if peer.submission else None


def decide_recipient(
    rules: AccessRules,
    peer: Peer,
    transaction: Transaction,
    path: Address,
    aids: Aids,
    *,
    charged: Container[ClientRule] = (),
) -> Decision:
    """What RCPT is answered with, for one recipient. `charged` are the rules that this message has paid already."""
    sender = transaction.reverse_path
    if sender is not None and rules.bad_mail_from and _is_bad_sender(rules, sender):
        return BAD_SENDER
    meant = _stored_path(rules, peer, path) or path
    ours = not path.domain or is_listed(rules.rcpt_hosts, meant.host)
    by, rule = "", None
    if peer.submission or not ours:
        if not peer.submission:
            by = _relay_network(rules, peer.address)
        if not by:
            now = aids.now()
            rule = peer.match.permitting(sender, meant, now) if peer.match is not None else None
            if rule is None:
                return _not_allowed(peer, sender, meant, now)
            by = rule.name
    stored = aids.resolve(meant)
    if stored is None:
        return NO_MAILBOX
    if rule is not None:
        refusal = _beyond_scope(rule, transaction, aids, charged)
        if refusal is not None:
            return refusal
    same = len(stored) == 1 and stored[0] == path
    if same and not by:
        return OURS
    return Permit(by, None if same else stored, rule)


def _unproven_sender(rules: AccessRules, peer: Peer, reverse_path: Address) -> Refuse | None:
    """`tlssenders`: the line for the sender's domain, else that of its nearest parent."""
    rule = nearest(rules.senders, reverse_path.host)
    if rule is None:
        return None
    if not peer.tls:
        return TLS_NEEDED
    if not rule.identities or (peer.match is not None and not rule.identities.isdisjoint(peer.match.identities)):
        return None
    because = _because(_reason(peer))
    return Refuse(reply(550, "5.7.1", f"mail of this sender must come with a certificate of its domain{because}"))


def _submitter_refused(peer: Peer, reverse_path: Address | None) -> Refuse | None:
    match = peer.match
    if match is None or not match.rules:
        return Refuse(reply(530, "5.7.0", f"{IDENTITY_NEEDED}{_because(_reason(peer))}"))
    if match.permits_sender(reverse_path):
        return None
    bound = printable(match.rules[0].scope.sender_bound(), MAX_REASON)
    return Refuse(reply(553, "5.7.1", f"sorry, this sender is outside your scope: {bound}"))


def _beyond_scope(
    rule: ClientRule, transaction: Transaction, aids: Aids, charged: Container[ClientRule]
) -> Refuse | None:
    """What a rule that permits still bounds: the size, and then how often."""
    scope = rule.scope
    if scope.size and transaction.size is not None and transaction.size > scope.size:
        return Refuse(reply(552, "5.3.4", f"sorry, messages of {printable(rule.name, 80)} may have {scope.size} bytes"))
    if scope.rate is not None and rule not in charged:
        seconds = aids.wait(rule)
        if seconds > 0:
            allowed = f"{printable(rule.name, 80)} may send {scope.rate.text}"
            return Refuse(reply(450, "4.7.1", f"too many messages, {allowed}; try again in {ceil(seconds)} seconds"))
    return None


def _is_bad_sender(rules: AccessRules, reverse_path: Address) -> bool:
    host = f"@{reverse_path.host}"
    return host in rules.bad_mail_from or folded(reverse_path.local_part) + host in rules.bad_mail_from


def _stored_path(rules: AccessRules, peer: Peer, path: Address) -> Address | None:
    """Another address for <postmaster> and for user@[our own IP] (qmail: localiphost), else None."""
    domain = path.domain
    if not domain:
        return Address(POSTMASTER if folded(path.local_part) == POSTMASTER else path.local_part, rules.postmaster_host)
    if domain[0] == "[" and rules.local_ip_host and peer.local_address:
        literal = domain[1:-1]
        ours = read_address(peer.local_address)
        if literal[:5].lower() == "ipv6:":  # RFC 5321 section 4.1.3
            literal = literal[5:]
        if ours is not None and read_address(literal) == ours:
            return Address(path.local_part, rules.local_ip_host)
    return None


def _relay_network(rules: AccessRules, address: str) -> str:
    """The most specific network of `relaynetworks` that holds the address, "" if none does."""
    ip = read_address(address) if rules.networks else None
    return (rules.relay.find(ip) or "") if ip is not None else ""


def _not_allowed(peer: Peer, sender: Address | None, recipient: Address, now: float) -> Refuse:
    if not peer.tls:
        return NOT_ALLOWED_PLAIN
    reason, more, rules = _reason(peer), "", peer.match.rules if peer.match is not None else ()
    if rules:
        reason = f"outside its scope {rules[0].scope.objection(sender, recipient, now)}"
        more = f", and {counted(len(rules) - 1, 'more rule')}" if len(rules) > 1 else ""
    return Refuse(reply(553, "5.7.1", f"{NOT_ALLOWED}; {NO_CERTIFICATE}{_because(reason)}{more}"))


def _reason(peer: Peer) -> str:
    """Why no identity of the client's counts."""
    return peer.match.reason if peer.match is not None else ""


def _because(reason: str) -> str:
    return f": {printable(reason, MAX_REASON)}" if reason else ""
