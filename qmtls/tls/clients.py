"""Client identities: the rules of `tlsclients`, and which of them a shown certificate meets.

Rules that name a certificate or key need no CA and ask for no date. E-mail rules believe a certificate only if its
chain to `clientca.pem` was verified without any complaint. A revoked certificate opens nothing, whichever rule it
meets. Whatever cannot be read in a certificate is as if it were not there: it opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID

from qmtls.tls.facts import TlsFacts
from qmtls.tls.pin import certificate_digest, key_digest
from qmtls.tls.policy import Origin
from qmtls.tls.verdict import chain_problem

REVOKED = 23  # OpenSSL's X509_V_ERR_CERT_REVOKED

# An address that a rule may name: printable ASCII, no blanks. NUL and line ends are outside of it, so an address cut
# short by one in another parser never looks equal here.
EMAIL = re.compile(r"[!-?A-~]+@[!-?A-~]+\Z")


@dataclass(frozen=True, slots=True)
class ClientRule:
    """One line of `tlsclients`: kind "email", "sha256" or "spki"; value normalised (lower case, raw hex digest)."""

    kind: str
    value: str
    origin: Origin
    text: str  # as written, for trace and refusals


@dataclass(frozen=True, slots=True)
class ClientRules:
    """The rules by kind and value, for one look-up each. Of several with one value the first counts."""

    rules: tuple[ClientRule, ...] = ()
    places: Mapping[tuple[str, str], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places: dict[tuple[str, str], int] = {}
        for place, rule in enumerate(self.rules):
            places.setdefault((rule.kind, rule.value), place)
        object.__setattr__(self, "places", places)

    @property
    def any_by_key(self) -> bool:
        """True if some rule names a certificate or key: then certificates are of use even without clientca.pem."""
        return any(rule.kind in ("sha256", "spki") for rule in self.rules)


@dataclass(frozen=True, slots=True)
class ClientMatch:
    """The rule that a client's certificate meets, or None and the reason for the refusal: "" = none was shown."""

    rule: ClientRule | None
    reason: str = ""


def match_client(rules: ClientRules, facts: TlsFacts | None, *, trusted: bool = True) -> ClientMatch:
    """The first rule that the shown certificate meets. Done once per connection.

    `trusted` False = there is no `clientca.pem`: then only rules that name a certificate or key can be met.
    """
    if facts is None or facts.leaf is None:
        return ClientMatch(None)
    if any(error.code == REVOKED for error in facts.errors):
        return ClientMatch(None, "revoked")
    if not facts.verified and not facts.errors:
        # The verifier did not run in this handshake (a resumed session): nothing is known, revocation least of all.
        return ClientMatch(None, "not verified in this session")
    chained = trusted and facts.verified
    emails = certificate_emails(facts.leaf) if chained else ()
    found = [rules.places[key] for key in _identities(facts.leaf, emails) if key in rules.places]
    if found:
        return ClientMatch(rules.rules[min(found)])
    if not trusted:
        return ClientMatch(None, "not in my list of tlsclients")
    if not chained:
        return ClientMatch(None, chain_problem(facts))
    return ClientMatch(None, "email address not in my list of tlsclients" if emails else "contains no email address")


def _identities(leaf: x509.Certificate, emails: tuple[str, ...]) -> list[tuple[str, str]]:
    identities = [("email", email.lower()) for email in emails]
    identities.append(("sha256", certificate_digest(leaf).hex()))
    try:
        identities.append(("spki", key_digest(leaf).hex()))
    except (ValueError, IndexError):
        pass
    return identities


def certificate_emails(cert: x509.Certificate) -> tuple[str, ...]:
    """The addresses that the certificate vouches for, as written in it: its SAN rfc822Names if it has any, else its one
    subject emailAddress; several there are ambiguous and give none, as does anything that cannot be read."""
    try:
        names = _san_emails(cert)
        if names is None:
            attributes = cert.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
            names = [str(attributes[0].value)] if len(attributes) == 1 else []
    except Exception:
        # The parser's errors for malformed extensions and names are many; none of them may become an identity.
        return ()
    return tuple(name for name in names if EMAIL.match(name))


def _san_emails(cert: x509.Certificate) -> list[str] | None:
    """None = there is no rfc822Name."""
    try:
        san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return san.get_values_for_type(x509.RFC822Name) or None
