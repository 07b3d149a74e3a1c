"""What one outbound TLS session came to, in the words of TLS reports (RFC 8460 section 4.3).

The result is that of the policy which the domain published; what our own rules demanded beyond it is nobody else's
business, and is no failure of the domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qmtls.tls.complaints import worst_words
from qmtls.tls.dane import Demand, Tlsa, judge_dane
from qmtls.tls.demand import Level
from qmtls.tls.evidence import DaneEvidence, Evidence, StsEvidence
from qmtls.tls.facts import TlsFacts
from qmtls.tls.fallback import NoTls, Trouble
from qmtls.tls.names import name_matches, shown_names
from qmtls.tls.resulttypes import PolicyType, TlsResult
from qmtls.tls.sts import StsMode

MAX_REASON = 200  # characters

_DATES = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


@dataclass(frozen=True, slots=True)
class TlsSession:
    """One session, or one that did not come about. `domain` is the policy domain, canonical.

    `policy_strings` are the published policy: TLSA records as text, or the lines of an MTA-STS policy, whose patterns
    are `mx_patterns`. Addresses are IP addresses, "" if unknown. `reason` is for people, at most MAX_REASON characters.
    `helo` is what the host calls itself.
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
    helo: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a session showed: the policy that the domain published, and how the session met it."""

    policy_type: PolicyType
    result: TlsResult
    reason: str = ""
    policy_strings: tuple[str, ...] = ()
    mx_patterns: tuple[str, ...] = ()


def judge_session(
    level: Level, evidence: Evidence, found: TlsFacts | NoTls | None, host: str, now: datetime
) -> tuple[Finding, ...]:
    """One for each policy that applied, none if nothing is to be told. `level` is that of our rule before evidence.

    `found` None: it ended before TLS was tried. That is told only where what was published is the cause, and not the
    connection. Two policies apply where no TLSA record can be used, because MTA-STS has its say then.
    """
    dane = evidence.dane or DaneEvidence()
    demand = dane.tlsas.demand if dane.tlsas is not None else Demand.NOTHING
    about_dane = _by_dane(level, dane, found, now)
    if dane.trouble or demand is Demand.MATCH:
        return about_dane
    if level is Level.DANE_ONLY and demand is Demand.NOTHING:
        return (Finding(PolicyType.TLSA, TlsResult.DANE_REQUIRED, "our rule for this domain demands TLSA records"),)
    about_sts = _by_sts(level, evidence.sts or StsEvidence(), found, host)
    if about_sts is not None:
        return (*about_dane, *about_sts)
    return about_dane or _without_policy(found)


def without_tls(no_tls: NoTls) -> TlsResult:
    """The result of a connection that stayed, or would have had to stay, plaintext."""
    if no_tls.trouble in (Trouble.NOT_OFFERED, Trouble.REFUSED):
        return TlsResult.STARTTLS_NOT_SUPPORTED
    return TlsResult.VALIDATION_FAILURE


def _without_policy(found: TlsFacts | NoTls | None) -> tuple[Finding, ...]:
    match found:
        case None:
            return ()
        case NoTls():
            return (Finding(PolicyType.NONE, without_tls(found), found.words),)
        case _:
            return (Finding(PolicyType.NONE, TlsResult.SUCCESS),)


def _by_dane(level: Level, dane: DaneEvidence, found: TlsFacts | NoTls | None, now: datetime) -> tuple[Finding, ...]:
    tlsas = dane.tlsas
    if dane.trouble:
        return (Finding(PolicyType.TLSA, TlsResult.DNSSEC_INVALID, dane.trouble),)
    if tlsas is None or tlsas.demand is Demand.NOTHING:
        return ()
    result, reason = TlsResult.SUCCESS, ""
    if isinstance(found, NoTls):
        result, reason = without_tls(found), found.words
    elif found is None and (tlsas.demand is Demand.MATCH or level is not Level.DANE_ONLY):
        return ()
    elif tlsas.demand is Demand.ENCRYPT or found is None:
        result, reason = TlsResult.TLSA_INVALID, "; ".join(tlsas.unusable[:3])
    else:
        met, words = judge_dane(tlsas, found, dane.names, now)
        if not met:
            result, reason = TlsResult.VALIDATION_FAILURE, words
    return (Finding(PolicyType.TLSA, result, reason, tuple(map(_record_text, tlsas.usable))),)


def _record_text(record: Tlsa) -> str:
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"


def _by_sts(level: Level, sts: StsEvidence, found: TlsFacts | NoTls | None, host: str) -> tuple[Finding, ...] | None:
    """None = there is no policy."""
    policy = sts.policy.policy if sts.policy is not None else None
    if policy is None or policy.mode is StsMode.NONE:
        if sts.broken is None:
            return None
        return (Finding(PolicyType.STS, sts.broken),) if found is not None or level is Level.STS else ()
    result, reason = TlsResult.SUCCESS, ""
    if not policy.covers(host):
        result, reason = TlsResult.VALIDATION_FAILURE, "the policy does not name this host"
    elif isinstance(found, NoTls):
        result, reason = without_tls(found), found.words
    elif found is None:
        return ()
    else:
        result, reason = _by_name(found, host)
    lines = ("version: STSv1", f"mode: {policy.mode.value}", *(f"mx: {pattern}" for pattern in policy.mx))
    return (Finding(PolicyType.STS, result, reason, (*lines, f"max_age: {policy.max_age}"), policy.mx),)


def _by_name(facts: TlsFacts, host: str) -> tuple[TlsResult, str]:
    """Where the certificate must be trusted and for `host`, as MTA-STS wants it."""
    if facts.leaf is None:
        return TlsResult.CERTIFICATE_NOT_TRUSTED, "no certificate was shown"
    if not facts.verified:
        only_dates = bool(facts.errors) and all(error.code in _DATES for error in facts.errors)
        reason = worst_words(facts.errors) if facts.errors else ""
        return TlsResult.CERTIFICATE_EXPIRED if only_dates else TlsResult.CERTIFICATE_NOT_TRUSTED, reason
    if not name_matches(facts.leaf, (host,)):
        return TlsResult.CERTIFICATE_HOST_MISMATCH, f"it is for {shown_names(facts.leaf)}"
    return TlsResult.SUCCESS, ""
