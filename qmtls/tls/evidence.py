"""What DNS and MTA-STS say of a host, as data with its age, and what a rule comes to with it.

Local rules go before DANE, DANE before MTA-STS (docs/tls.md). No records and an insecure answer mean that DANE says
nothing; a look-up that failed, or whose signatures are bad, means that nobody knows: mail waits, or goes to another
host. Records of which none can be used authenticate nobody (RFC 7672 section 2.2): TLS is the least then, and MTA-STS
may ask for more. A message may raise the demand (REQUIRETLS) or give up what only evidence demands (TLS-Required: no).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qmtls.tls.dane import Demand, Tlsas
from qmtls.tls.demand import UNVERIFIED, Level, Policy
from qmtls.tls.names import canonical
from qmtls.tls.policy import with_names
from qmtls.tls.resulttypes import TlsResult
from qmtls.tls.sts import CachedPolicy, StsMode

REQUIRETLS = "REQUIRETLS of the message"
OPTIONAL = "TLS-Required: no of the message"


@dataclass(frozen=True, slots=True)
class DaneEvidence:
    """The TLSA records of one host. `trouble` is the sentence of a look-up that failed: nobody knows them.

    `names` are those of `dane.reference_names`; `mx_secure` False: an unsigned MX record named the host.
    `asked` is when (Unix seconds). No `tlsas` and no `trouble`: nothing was asked (an IP address, a resolver that is
    not trusted).
    """

    tlsas: Tlsas | None = None
    names: tuple[str, ...] = ()
    mx_secure: bool = True
    trouble: str = ""
    asked: float = 0.0


@dataclass(frozen=True, slots=True)
class StsEvidence:
    """The MTA-STS policy of one domain, if a fresh one is known; else `note` says why not: mail then goes without
    (RFC 8461 section 5). `broken`: a record names one, and it cannot be had."""

    policy: CachedPolicy | None = None
    note: str = ""
    broken: TlsResult | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known; None = not asked, because the rule does not."""

    dane: DaneEvidence | None = None
    sts: StsEvidence | None = None


NO_EVIDENCE = Evidence()


def relaxed(policy: Policy) -> Policy:
    """`policy` for a message with "TLS-Required: no" (RFC 8689 section 5): no DANE, no MTA-STS; local rules stay."""
    if not policy.discovers or policy.broken or policy.skip:
        return policy
    level = Level.MAY if policy.level is Level.DANE else policy.level
    return replace(policy, level=level, discovers=False, why=f"{policy.why or policy.origin}, {OPTIONAL}")


def decided(policy: Policy, evidence: Evidence, host: str) -> Policy:
    """What `policy` demands of `host` with this evidence."""
    if policy.broken or policy.skip:
        return policy
    match policy.level:
        case Level.DANE_ONLY:
            return _dane_only(policy, evidence.dane or DaneEvidence(), host)
        case Level.STS:
            return _sts_only(policy, evidence.sts or StsEvidence(), canonical(host))
        case Level.DANE:
            pass
        case _ if not policy.discovers:
            return policy
    dane = evidence.dane
    if dane is not None and dane_decides(policy, dane):
        return _by_dane(policy, dane, host)
    rest = replace(policy, level=Level.MAY) if policy.level is Level.DANE else policy
    least = _encrypted(rest, dane) if dane is not None else rest
    return _by_sts(rest, least, evidence.sts, canonical(host)) if evidence.sts is not None else least


def dane_decides(policy: Policy, dane: DaneEvidence) -> bool:
    """True if nobody needs to ask for an MTA-STS policy any more, which must not come into DANE's way (RFC 8461 section
    2): there are records to match, or nobody can tell."""
    return policy.level is not Level.STS and bool(
        dane.trouble or (dane.tlsas is not None and dane.tlsas.demand is Demand.MATCH)
    )


def _by_dane(policy: Policy, dane: DaneEvidence, host: str) -> Policy:
    rule = policy.why or str(policy.origin)
    if dane.trouble or dane.tlsas is None:
        return replace(policy, level=Level.DANE, broken=_unknown(host, dane, rule), why=f"DANE ({rule})")
    return _matching(policy, dane, f"DANE, TLSA records at {dane.tlsas.owner} (asked for by {rule})")


def _encrypted(rest: Policy, dane: DaneEvidence) -> Policy:
    """What the rule demands anyway, and not less than TLS if there are records that cannot be used."""
    if dane.tlsas is None or dane.tlsas.demand is not Demand.ENCRYPT or rest.level not in UNVERIFIED:
        return rest
    why = f"TLSA records at {dane.tlsas.owner}, of which none can be used ({_reasons(dane.tlsas)})"
    return replace(rest, level=Level.ENCRYPT, why=f"{why}; asked for by {rest.why or rest.origin}")


def _matching(policy: Policy, dane: DaneEvidence, why: str) -> Policy:
    assert dane.tlsas is not None
    level = Level.DANE_ONLY if policy.level is Level.DANE_ONLY else Level.DANE
    # RFC 7672 section 3.2.1: the name to ask for is the one under which the records were found.
    return replace(
        policy, level=level, tlsas=dane.tlsas, names=dane.names, server_name=dane.tlsas.base, anchors=(), why=why
    )


def _dane_only(policy: Policy, dane: DaneEvidence, host: str) -> Policy:
    rule = policy.why or str(policy.origin)
    if dane.trouble:
        return replace(policy, broken=_unknown(host, dane, rule))
    tlsas = dane.tlsas
    if not dane.mx_secure:
        problem = "the MX record that names it is not signed (DNSSEC)"
    elif tlsas is None or not tlsas.secure:
        problem = "its zone is not signed (DNSSEC), or our resolver is not trusted to check it"
    elif tlsas.demand is Demand.NOTHING:
        problem = f"it has no TLSA record at {tlsas.owner}"
    elif tlsas.demand is Demand.ENCRYPT:
        problem = f"of the TLSA records at {tlsas.owner} none can be used ({_reasons(tlsas)})"
    else:
        return _matching(policy, dane, f"{rule}, TLSA records at {tlsas.owner}")
    mend = "its administrator must publish them, or that rule must change; mail waits until then"
    return replace(policy, broken=f"{host} must be verified by DANE, says {rule}, but {problem}; {mend}")


def _unknown(host: str, dane: DaneEvidence, rule: str) -> str:
    return f"{host} may have TLSA records, but nobody can tell: {dane.trouble} ({rule}); mail waits until DNS answers"


def _reasons(tlsas: Tlsas) -> str:
    return "; ".join(tlsas.unusable[:3])


def _by_sts(rest: Policy, least: Policy, sts: StsEvidence, host: str) -> Policy:
    """`rest` is the rule, `least` what DANE has made of it; the demand of a policy contains both."""
    known = sts.policy
    if known is None or known.policy.mode is StsMode.NONE:
        return least
    demand = _by_policy(rest, known, host, f"MTA-STS policy of {known.domain}, id {known.id}")
    if known.policy.mode is StsMode.TESTING:
        return replace(least, wish=demand)
    return demand


def _by_policy(rest: Policy, known: CachedPolicy, host: str, rule: str) -> Policy:
    why = f"{rule} (asked for by {rest.why or rest.origin})"
    if not known.policy.covers(host):
        shown = ", ".join(known.policy.mx[:3]) + ("…" if len(known.policy.mx) > 3 else "")
        mend = "its administrator must mend MX records or policy; mail waits until then"
        skip = f"{host} is passed over: the {why} names only {shown}; {mend}"
        return replace(rest, level=Level.STS, skip=skip.replace("…", ", ..."), why=why)
    anchors = rest.anchors if rest.level is Level.STS else None
    return replace(rest, level=Level.STS, names=(host,), anchors=anchors, why=why)


def _sts_only(policy: Policy, sts: StsEvidence, host: str) -> Policy:
    rule = policy.why or str(policy.origin)
    known = sts.policy
    if known is not None and known.policy.mode is not StsMode.NONE:
        return _by_policy(policy, known, host, f"MTA-STS policy of {known.domain}, id {known.id}")
    note = sts.note or "it has none"
    task = "mend that" if sts.broken is not None else "publish one"
    mend = f"its administrator must {task}, or that rule must change; mail waits until then"
    return replace(policy, broken=f"{host} must be named by an MTA-STS policy, says {rule}, but {note}; {mend}")


def raised(policy: Policy, domain: str, host: str, *, route: str = "", mx_secure: bool = False) -> Policy:
    """A decided `policy` for a message with REQUIRETLS: the host must be verified (RFC 8689 section 4.2.1).

    A demand that verifies is kept as it is, and a policy in testing is enforced. Else the certificate must be that of
    the recipient's domain, as at level `secure`, or, where DNSSEC vouches for the MX record, that of the host: without
    it the name of an MX host is only what an unsigned DNS answer said.
    """
    if policy.level not in UNVERIFIED or policy.broken or policy.skip:
        return policy
    if policy.wish is not None:
        return replace(policy.wish, why=f"{REQUIRETLS} ({policy.wish.why})")
    why = f"{REQUIRETLS} (over {policy.why or policy.origin})"
    demand = replace(policy, level=Level.SECURE, discovers=False, why=why)
    domain, host = canonical(domain), canonical(host)
    match = ("nexthop", "dot-nexthop", "hostname") if mx_secure and not route else ()
    return with_names(demand, match, host, host if route else domain)
