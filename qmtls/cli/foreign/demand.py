"""A TLS demand in a form in which two servers can be compared: what must be true before mail goes to one host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from qmtls.tls.pin import certificate_digest
from qmtls.tls.policy import Level, Policy

VERSIONS = ("TLSv1.2", "TLSv1.3")  # older ones are nobody's demand any more: we never use them
SYSTEM = frozenset({"system"})  # the system's certificate authorities
NOTHING = "0" * 64  # a digest that no certificate and no key has: what stands in for a rule that could not be carried
NOBODY: frozenset[str] = frozenset()  # no authority at all: no certificate verifies

_WORDS = {
    "none": "plaintext",
    "may": "TLS if the host offers it, whatever certificate",
    "encrypt": "TLS, whatever certificate",
    "dane": "DANE where the host has TLSA records, else TLS if it offers it",
    "dane-only": "DANE, or mail waits",
    "half-dane": "DANE also for hosts of unsigned MX records, else TLS if it offers it",
    "sts": "a host of the domain's MTA-STS policy, verified",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """`pins` are SHA-256 digests in hexadecimal digits, of certificate or key; `waits`: no host can meet it."""

    level: str
    names: frozenset[str] = frozenset()
    pins: frozenset[str] = frozenset()
    anchors: frozenset[str] = SYSTEM
    versions: frozenset[str] = frozenset(VERSIONS)
    waits: str = ""

    def __str__(self) -> str:
        if self.waits:
            return f"mail waits: {self.waits}"
        text = _WORDS.get(self.level) or self._identity()
        missing = [version for version in VERSIONS if version not in self.versions]
        return f"{text}, without {' and '.join(missing)}" if missing and self.level != "none" else text

    def _identity(self) -> str:
        if self.level == "pin":
            count = len(self.pins)
            return f"TLS and the pinned certificate or key ({'one' if count == 1 else f'one of {count}'})"
        names = " or ".join(f"a name below {n[1:]}" if n.startswith(".") else n for n in sorted(self.names))
        if self.anchors == SYSTEM:
            return f"TLS and a certificate for {names} by the system's authorities"
        count = len(self.anchors)
        return f"TLS and a certificate for {names} by {'an authority' if count == 1 else f'{count} authorities'} given"


def anchors_of(certificates: Iterable[x509.Certificate]) -> frozenset[str]:
    return frozenset(certificate_digest(certificate).hex() for certificate in certificates)


def demand_of(policy: Policy) -> Demand:
    """Ours. What DNS or MTA-STS may add is the same for both servers, and left out."""
    if policy.broken or policy.skip:
        return Demand("pin", waits=policy.broken or policy.skip)
    level = policy.level.value
    verifies = policy.level in (Level.VERIFY, Level.SECURE)
    pins = frozenset(d.hex() for d in (*policy.pins.certificates, *policy.pins.keys)) if level == "pin" else frozenset()
    if pins == {NOTHING}:
        return Demand("pin", waits="nothing that exists is pinned, until somebody mends that line")
    return Demand(
        level="verify" if verifies else level,
        names=frozenset(policy.names) if verifies else frozenset(),
        pins=pins,
        anchors=anchors_of(policy.anchors) if verifies and policy.anchors is not None else SYSTEM,
        versions=_versions(policy),
    )


def _versions(policy: Policy) -> frozenset[str]:
    if policy.level is Level.NONE:
        return frozenset(VERSIONS)
    least = VERSIONS.index(policy.min_version or VERSIONS[0])
    most = VERSIONS.index(policy.max_version or VERSIONS[-1])
    return frozenset(VERSIONS[least : most + 1])
