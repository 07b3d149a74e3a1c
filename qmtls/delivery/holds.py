"""Standing holds: rules that keep mail in the queue for as long as their line stands in `control/holds`.

Pure. A rule is asked when mail is about to be attempted, and nothing is written about the answer: so it holds for new
mail as for old, and mail is free as soon as the rule goes or its day has passed. Held mail does not grow too old.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from qmtls.networks import Network, read_address
from qmtls.smtp.address import folded
from qmtls.smtp.envelope import Envelope
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Patterns


@dataclass(frozen=True, slots=True)
class Clients:
    """Where mail came from: networks of the client's address, or what let it in (an e-mail, a rule, a login name)."""

    networks: tuple[Network, ...] = ()
    identities: frozenset[str] = frozenset()  # lower case

    def admit(self, address: str, identity: str) -> bool:
        """True if one of them fits; `address` is "" for mail that was made on this host."""
        if identity and folded(identity) in self.identities:
            return True
        ip = read_address(address) if self.networks else None
        return ip is not None and any(ip in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Hold:
    """One line. All that it names must fit. `text` is the line without its reason; `until` the first moment too late.

    `destination` is a domain of recipients, or a host that mail is taken to.
    """

    origin: Origin
    text: str
    senders: Patterns | None = None
    recipients: Patterns | None = None
    clients: Clients | None = None
    destination: str = ""
    until: float = inf
    reason: str = ""
    sentence: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        because = f": {self.reason}" if self.reason else ""
        object.__setattr__(self, "sentence", f"held by {self.origin} ({self.text}){because}")

    def fits_message(self, envelope: Envelope) -> bool:
        """As far as sender and client go."""
        if self.senders is not None and not self.senders.admit(envelope.reverse_path):
            return False
        arrival = envelope.arrival
        return self.clients is None or self.clients.admit(arrival.client, arrival.identity)

    def fits_recipient(self, envelope: Envelope, index: int) -> bool:
        """As far as the recipient goes. `postmaster` without a domain is nobody's pattern."""
        address = envelope.recipients[index].address
        if self.destination:
            return address.host == self.destination
        return self.recipients is None or self.recipients.admit(address)


@dataclass(frozen=True, slots=True)
class Holds:
    """All lines, in their order: the first that fits counts."""

    rules: tuple[Hold, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def held(self, envelope: Envelope, indices: Iterable[int], now: float) -> dict[int, Hold]:
        """Who of the recipients `indices` is held, and by which rule."""
        rules = [rule for rule in self.rules if now < rule.until and rule.fits_message(envelope)]
        if not rules:
            return {}
        found = {}
        for index in indices:
            for rule in rules:
                if rule.fits_recipient(envelope, index):
                    found[index] = rule
                    break
        return found

    def of_host(self, name: str, now: float) -> Hold | None:
        """The rule that no mail is taken to this host; `name` as DNS or smtproutes has it."""
        host = name.lower().rstrip(".")
        if not host:
            return None  # a socket, or an address literal: no line can name it
        return next((rule for rule in self.rules if rule.destination == host and now < rule.until), None)

    def sentences(self, now: float) -> frozenset[str]:
        """Those of all rules in force."""
        return frozenset(rule.sentence for rule in self.rules if now < rule.until)
