"""Client identities: the rules of `tlsclients`, and which of them a shown certificate meets."""

from __future__ import annotations

from dataclasses import dataclass

from qmtls.tls.policy import Origin


@dataclass(frozen=True, slots=True)
class ClientRule:
    """One line of `tlsclients`: kind "email", "sha256" or "spki"; value normalised (lower case, raw hex digest)."""

    kind: str
    value: str
    origin: Origin
    text: str  # as written, for trace and refusals


@dataclass(frozen=True, slots=True)
class ClientRules:
    """The rules by kind and value, for one look-up each."""

    rules: tuple[ClientRule, ...] = ()

    @property
    def any_by_key(self) -> bool:
        """True if some rule names a certificate or key: then certificates are of use even without clientca.pem."""
        return any(rule.kind in ("sha256", "spki") for rule in self.rules)
