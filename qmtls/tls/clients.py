"""Client identities: the rules of `tlsclients`, and which of them a shown certificate meets.

Rules that name a certificate or key need no CA and ask for no date. The others (e-mail, subject, subjectAltName)
believe a certificate only if its chain to `clientca.pem` was verified without any complaint. A revoked certificate
opens nothing, whichever rule it meets. Whatever cannot be read in a certificate is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509

from qmtls.tls.complaints import REVOKED
from qmtls.tls.facts import TlsFacts
from qmtls.tls.identities import Identity, chained_identities, email_problem, own_identities
from qmtls.tls.pin import is_ca
from qmtls.tls.policy import Origin
from qmtls.tls.scope import UNBOUNDED, Mailbox, Scope
from qmtls.tls.scopeindex import ScopeIndex
from qmtls.tls.verdict import chain_problem

MANY = 16  # rules of one client above which an index beats looking through them

# Kinds of rule that name a certificate or key itself, and so need no CA.
BY_KEY = frozenset({"sha256", "spki"})
USER = "user"  # the kind of a line of control/users: an identity that a password proves


@dataclass(frozen=True, slots=True)
class ClientRule:
    """One identity with its scope: a line of `tlsclients` or `users`.

    `kind` is "email", "sha256", "spki", "dn", "san:email", "san:dns", "san:uri", "san:ip" or "user"; `value` is
    normalised as the certificate's identities are (qmtls.tls.identities).
    """

    kind: str
    value: str
    origin: Origin
    text: str  # the identity as written, for trace and refusals
    scope: Scope = UNBOUNDED

    @property
    def name(self) -> str:
        """What trace, log and listings call it."""
        return self.scope.label or self.text

    @property
    def identity(self) -> Identity:
        return self.kind, self.value


@dataclass(frozen=True, slots=True)
class ClientRules:
    """The rules by identity, for one look-up each. One identity may have several."""

    rules: tuple[ClientRule, ...] = ()
    places: Mapping[Identity, Sequence[int]] = field(init=False, repr=False, compare=False)
    any_by_key: bool = field(init=False, repr=False, compare=False)
    """True if some rule names a certificate or key: then certificates are of use even without clientca.pem."""

    def __post_init__(self) -> None:
        places: dict[Identity, list[int]] = {}
        for place, rule in enumerate(self.rules):
            places.setdefault(rule.identity, []).append(place)
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "any_by_key", any(rule.kind in BY_KEY for rule in self.rules))

    def of(self, identities: Iterable[Identity]) -> tuple[ClientRule, ...]:
        """The rules for any of them, in the order of the file."""
        found = [self.places[identity] for identity in identities if identity in self.places]
        places = found[0] if len(found) == 1 else sorted({place for each in found for place in each})
        return tuple(self.rules[place] for place in places)


@dataclass(frozen=True, slots=True)
class ClientMatch:
    """The rules that a client's certificate meets, in the order of the file; without any, the `reason` for the
    refusal: "" = no certificate was shown. `identities` is all that the certificate proves, named by a rule or not."""

    rules: tuple[ClientRule, ...] = ()
    reason: str = ""
    identities: frozenset[Identity] = frozenset()
    _index: ScopeIndex | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        many = len(self.rules) > MANY
        object.__setattr__(self, "_index", ScopeIndex([rule.scope for rule in self.rules]) if many else None)

    @property
    def rule(self) -> ClientRule | None:
        return self.rules[0] if self.rules else None

    def permitting(self, sender: Mailbox | None, recipient: Mailbox, now: float) -> ClientRule | None:
        """The first rule whose scope permits."""
        places = range(len(self.rules)) if self._index is None else self._index.candidates(sender, recipient)
        for place in places:
            if self.rules[place].scope.permits(sender, recipient, now):
                return self.rules[place]
        return None

    def permits_sender(self, sender: Mailbox | None) -> bool:
        """True if some rule may permit this sender, for some recipient."""
        if self._index is not None:
            return bool(self._index.for_sender(sender))
        return any(rule.scope.permits_sender(sender) for rule in self.rules)


def match_client(rules: ClientRules, facts: TlsFacts | None, *, trusted: bool, now: float) -> ClientMatch:
    """Every rule that the shown certificate meets. Done once per connection, and again when rules have changed.

    `trusted` False = there is no `clientca.pem`: then only rules that name a certificate or key can be met. `now` (Unix
    seconds) because a certificate may expire in a session that began before.
    """
    if facts is None or (facts.leaf is None and not facts.unreadable):
        return ClientMatch()
    if facts.leaf is None:
        return ClientMatch(reason="it cannot be read")
    if any(error.code == REVOKED for error in facts.errors):
        return ClientMatch(reason="revoked")
    if not (facts.verified or facts.errors):
        # The verifier did not run in this handshake (a resumed session): nothing is known, revocation least of all.
        return ClientMatch(reason="not verified in this session")
    distrust = _distrust(facts, now) if trusted else "not in my list of tlsclients"
    identities = own_identities(facts.leaf)
    if not distrust:
        identities |= chained_identities(facts.leaf)
    found = rules.of(identities)
    return ClientMatch(found, "" if found else distrust or _unlisted(rules, facts.leaf), identities)


def _distrust(facts: TlsFacts, now: float) -> str:
    """Why the names in the certificate count for nothing; "" = they count."""
    assert facts.leaf is not None
    if not facts.verified:
        return chain_problem(facts)
    if datetime.fromtimestamp(now, UTC) > facts.leaf.not_valid_after_utc:
        return "expired"
    return "it is a CA's certificate, not a client's" if is_ca(facts.leaf) else ""


def _unlisted(rules: ClientRules, leaf: x509.Certificate) -> str:
    problem = email_problem(leaf)
    if not problem:
        return "email address not in my list of tlsclients"
    return problem if any(rule.kind == "email" for rule in rules.rules) else "not in my list of tlsclients"
