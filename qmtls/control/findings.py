"""What a check finds, and the findings that every kind of certificate has in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509

from qmtls.tls.demand import Origin
from qmtls.tls.names import shown_dn

AHEAD = timedelta(days=14)  # how long before an end it is warned of


class FindingLevel(Enum):
    """Only errors keep the service from taking the directory."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check's output."""

    level: FindingLevel
    origin: Origin
    text: str

    def __str__(self) -> str:
        return f"{self.level.value}: {self.origin}: {self.text}"


def expiry(origin: Origin, certificates: Iterable[x509.Certificate], now: datetime) -> Iterator[Finding]:
    """Of certificates whose dates count."""
    for certificate in certificates:
        name = shown_dn(certificate.subject)
        if certificate.not_valid_after_utc <= now:
            text = f"the certificate {name} expired {day_of(certificate)}; renew it"
            yield Finding(FindingLevel.ERROR, origin, text)
        elif certificate.not_valid_after_utc <= now + AHEAD:
            text = f"the certificate {name} expires {day_of(certificate)}; renew it before"
            yield Finding(FindingLevel.WARNING, origin, text)
        elif certificate.not_valid_before_utc > now:
            text = f"the certificate {name} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}"
            yield Finding(FindingLevel.WARNING, origin, f"{text}; use the present one until then, or set the clock")


def day_of(certificate: x509.Certificate) -> str:
    """The last day of a certificate."""
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
