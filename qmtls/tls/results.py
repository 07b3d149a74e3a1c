"""What one outbound TLS session came to, in the words of TLS reports (RFC 8460 section 4.3).

The result is that of the policy which the domain published; what our own rules demanded beyond it is nobody else's
business, and is no failure of the domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qmtls.tls.facts import TlsFacts
from qmtls.tls.fallback import NoTls, Trouble
from qmtls.tls.names import name_matches

MAX_REASON = 200  # characters

_DATES = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class PolicyType(Enum):
    """Which kind of policy a session was judged by (section 4.4)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


class TlsResult(Enum):
    """How it ended; all but SUCCESS are result types of section 4.3."""

    SUCCESS = "success"
    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


@dataclass(frozen=True, slots=True)
class TlsSession:
    """One session, or one that did not come about. `domain` is the policy domain, canonical.

    `policy_strings` are the published policy: TLSA records as text, or the lines of an MTA-STS policy, whose patterns
    are `mx_patterns`. Addresses are IP addresses, "" if unknown. `reason` is for people, at most MAX_REASON characters.
    """

    domain: str
    policy_type: PolicyType
    policy_strings: tuple[str, ...]
    mx: str
    sending_ip: str
    receiving_ip: str
    result: TlsResult
    mx_patterns: tuple[str, ...] = ()
    reason: str = ""


def without_tls(no_tls: NoTls) -> TlsResult:
    """The result of a connection that stayed, or would have had to stay, plaintext."""
    if no_tls.trouble in (Trouble.NOT_OFFERED, Trouble.REFUSED):
        return TlsResult.STARTTLS_NOT_SUPPORTED
    return TlsResult.VALIDATION_FAILURE


def by_names(facts: TlsFacts, names: tuple[str, ...]) -> TlsResult:
    """The result where the certificate must be trusted and for one of `names`, as MTA-STS wants it."""
    if facts.leaf is None:
        return TlsResult.CERTIFICATE_NOT_TRUSTED
    if not facts.verified:
        only_dates = bool(facts.errors) and all(error.code in _DATES for error in facts.errors)
        return TlsResult.CERTIFICATE_EXPIRED if only_dates else TlsResult.CERTIFICATE_NOT_TRUSTED
    return TlsResult.SUCCESS if name_matches(facts.leaf, names) else TlsResult.CERTIFICATE_HOST_MISMATCH
