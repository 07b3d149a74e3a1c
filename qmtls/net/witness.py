"""Evidence about one host: its TLSA records, and the MTA-STS policy of the domain that names it.

Asked while the connection is being made, and only as far as the rule lets it decide anything. MTA-STS is asked for only
once DANE has nothing to say. A look-up that fails is evidence too: DANE's makes mail wait, MTA-STS's does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from qmtls.net.danelookup import tlsas_of_host
from qmtls.net.resolver import DnsTrouble, HostAddresses, Resolver
from qmtls.net.stscache import StsEvidence as StsFindings
from qmtls.tls.dane import reference_names
from qmtls.tls.demand import Level, Policy
from qmtls.tls.evidence import DaneEvidence, Evidence, StsEvidence, dane_decides, decided
from qmtls.tls.resulttypes import TlsResult
from qmtls.tls.sts import CachedPolicy, StsPolicy


class Policies(Protocol):
    """The part of qmtls.net.stscache.StsCache that is needed here."""

    async def policy(self, domain: str) -> StsPolicy | None: ...

    async def recheck(self, domain: str) -> StsPolicy | None: ...

    def broken(self, domain: str) -> TlsResult | None: ...

    async def evidence(self, domain: str) -> StsFindings: ...


@dataclass(frozen=True, slots=True)
class Vouched:
    """How we came to a host: `host` None = by its IP address, of which there is nothing to ask.

    `domain` is what its name was found for: the recipients' domain, with `mx` True if MX records named the host
    (`mx_secure`: signed ones), or the relay itself. `routed`: it is one that smtproutes names.
    """

    host: HostAddresses | None = None
    domain: str = ""
    mx: bool = False
    mx_secure: bool = False
    canonical_domain: str = ""
    routed: bool = False


UNKNOWN = Vouched()


def asks_sts(policy: Policy, vouched: Vouched) -> bool:
    """A domain's policy is about its MX hosts. Of a relay of ours it says nothing, unless a rule wants it to."""
    return policy.asks_sts and (not vouched.routed or policy.level is Level.STS)


def asks_nobody(policy: Policy, vouched: Vouched) -> bool:
    """True if there is nothing to look up: `about` would be as good as NO_EVIDENCE."""
    return (vouched.host is None or not policy.asks_dane) and not asks_sts(policy, vouched)


@dataclass(frozen=True, slots=True)
class Witness:
    """`now` is wall-clock time. Without `policies` there is no MTA-STS."""

    resolver: Resolver
    policies: Policies | None
    now: Callable[[], float]

    async def decide(
        self, rule: Policy, vouched: Vouched, host: str, domain: str, port: int
    ) -> tuple[Evidence, Policy]:
        """What is known of `host`, and what `rule` demands of it for mail to `domain`."""
        evidence = await self.about(rule, vouched, domain, port)
        policy = decided(rule, evidence, host)
        if policy.level is Level.STS and policy.skip:
            # It may be the policy that is old, not the host that is new.
            evidence = replace(evidence, sts=await self.sts(rule, domain, again=True))
            policy = decided(rule, evidence, host)
        return evidence, policy

    async def about(self, policy: Policy, vouched: Vouched, domain: str, port: int) -> Evidence:
        """What `policy` may be decided by, for mail to `domain`."""
        dane = await self.dane(vouched, port) if policy.asks_dane else None
        if not asks_sts(policy, vouched) or (dane is not None and dane_decides(policy, dane)):
            return Evidence(dane)
        return Evidence(dane, await self.sts(policy, domain))

    async def dane(self, vouched: Vouched, port: int) -> DaneEvidence:
        """The TLSA records of a host."""
        host = vouched.host
        mx_secure = vouched.mx_secure or not vouched.mx
        if host is None:
            return DaneEvidence(mx_secure=mx_secure)
        try:
            tlsas = await tlsas_of_host(self.resolver, host, port)
        except DnsTrouble as trouble:
            return DaneEvidence(mx_secure=mx_secure, trouble=str(trouble), asked=self.now())
        names = reference_names(
            tlsas,
            vouched.domain,
            mx=vouched.mx,
            mx_secure=vouched.mx_secure,
            canonical_domain=vouched.canonical_domain,
        )
        return DaneEvidence(tlsas, names, mx_secure, asked=self.now())

    async def sts(self, policy: Policy, domain: str, *, again: bool = False) -> StsEvidence:
        """The domain's policy. `again`: a host did not meet it, so there may be another by now."""
        if self.policies is None:
            return StsEvidence(note="MTA-STS is not asked for here")
        found = await (self.policies.recheck(domain) if again else self.policies.policy(domain))
        broken = self.policies.broken(domain)
        if found is None and policy.level is not Level.STS:
            return StsEvidence(broken=broken)
        known = await self.policies.evidence(domain)
        if found is None:
            return StsEvidence(note=known.sentence, broken=broken)
        cached = known.cached
        if cached is None or cached.policy != found:  # never less than what was found
            cached = CachedPolicy(domain, "unknown", found, self.now(), self.now(), self.now())
        return StsEvidence(cached)
