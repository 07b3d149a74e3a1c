"""What would be demanded of each host of a next hop, and by which rule: the relayer's look-ups, no connections."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from qmtls.delivery.plan import NextHop
from qmtls.net.outbound import policy_for
from qmtls.net.snapshot import Snapshot
from qmtls.net.targets import Target, Unreachable
from qmtls.service.oneshot import Bench
from qmtls.tls.evidence import Evidence, StsEvidence, decided, raised, relaxed
from qmtls.tls.explain import Explanation, considered
from qmtls.tls.policy import Policy


@dataclass(frozen=True, slots=True)
class HostView:
    """One host. `demand` is what this mail needs in the end: REQUIRETLS may raise it, TLS-Required: no relax it."""

    host: str
    addresses: tuple[str, ...]
    explanation: Explanation
    evidence: Evidence
    demand: Policy


@dataclass(frozen=True, slots=True)
class View:
    """All hosts of a next hop in the order to try; `trouble` says why there are none, with the status for a report."""

    hosts: tuple[HostView, ...] = ()
    trouble: str = ""
    status: str = ""


async def look(bench: Bench, next_hop: NextHop) -> View:
    """With DNS and MTA-STS."""
    try:
        targets = await bench.finder.targets(next_hop, bench.snapshot)
    except Unreachable as problem:
        return View(trouble=problem.outcome.reason, status=problem.outcome.status)
    found: dict[str, list[Target]] = {}
    for target in targets:
        found.setdefault(target.name, []).append(target)
    views = []
    for name, same in found.items():
        rule = policy_for(next_hop, same[0], bench.snapshot)
        evidence = await bench.witness.about(rule, same[0].vouched, next_hop.domain, same[0].port)
        addresses = tuple(target.address for target in same)
        views.append(_view(bench.snapshot, next_hop, name, addresses, evidence, same[0].vouched.mx_secure))
    return View(tuple(views))


def look_offline(snapshot: Snapshot, next_hop: NextHop, host: str, sts: StsEvidence | None) -> View:
    """Without asking anybody: of `host`, "" if none is known, with a policy that is cached."""
    name = next_hop.relay or host
    return View((_view(snapshot, next_hop, name, (), Evidence(sts=sts), mx_secure=False),))


def _view(
    snapshot: Snapshot, next_hop: NextHop, name: str, addresses: tuple[str, ...], evidence: Evidence, mx_secure: bool
) -> HostView:
    rules = snapshot.settings.tls
    route = f"[{next_hop.relay}]:{next_hop.port}" if next_hop.relay else ""
    explanation = considered(rules, next_hop.domain, name, route, evidence, datetime.now(UTC))
    demand = explanation.policy
    if next_hop.tls_optional:
        demand = decided(relaxed(explanation.rule), evidence, name)
    if next_hop.requiretls:
        demand = raised(demand, next_hop.domain, name, route=route, mx_secure=mx_secure)
    return HostView(name, addresses, explanation, evidence, demand)
