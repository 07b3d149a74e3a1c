"""What would be demanded of each host of a next hop, and by which rule: the relayer's look-ups, no connections."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from qmtls.delivery.demands import ON_THIS_HOST, demand_for, login_of, policy_for, route_of, unsafe_login
from qmtls.delivery.plan import NextHop
from qmtls.net.snapshot import Snapshot
from qmtls.net.targets import Target, Unreachable
from qmtls.service.oneshot import Bench
from qmtls.smtp.login import Login
from qmtls.tls.evidence import NO_EVIDENCE, Evidence, StsEvidence, decided
from qmtls.tls.explain import Considered, Explanation, Standing, considered
from qmtls.tls.policy import Policy


@dataclass(frozen=True, slots=True)
class HostView:
    """One host. `demand` is what this mail needs in the end: its route and REQUIRETLS may raise it, TLS-Required: no
    relax it. `login`: we log in there; `unsafe`: not under this demand, so mail waits, and this sentence says why."""

    host: str
    addresses: tuple[str, ...]
    explanation: Explanation
    evidence: Evidence
    demand: Policy
    login: Login | None = None
    unsafe: str = ""


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
        rule = policy_for(next_hop, name, bench.snapshot.settings, bench.witness.now())
        vouched = same[0].vouched
        evidence, _ = await bench.witness.decide(rule, vouched, name, next_hop.domain, same[0].port)
        addresses = tuple(target.address for target in same)
        views.append(_view(bench.snapshot, next_hop, name, addresses, evidence, vouched.mx_secure))
    return View(tuple(views))


def look_offline(snapshot: Snapshot, next_hop: NextHop, host: str, sts: StsEvidence | None) -> View:
    """Without asking anybody: of `host`, "" if none is known, with a policy that is cached."""
    name = next_hop.relay or host
    return View((_view(snapshot, next_hop, name, (), Evidence(sts=sts), mx_secure=False),))


def _view(
    snapshot: Snapshot, next_hop: NextHop, name: str, addresses: tuple[str, ...], evidence: Evidence, mx_secure: bool
) -> HostView:
    settings, now = snapshot.settings, datetime.now(UTC)
    if next_hop.is_socket:
        why = "it travels no network, so no TLS is asked for"
        only = Considered("socket", next_hop.relay, ON_THIS_HOST.origin, Standing.WINS, why)
        explanation = Explanation((only,), ON_THIS_HOST, ON_THIS_HOST)
        return HostView(next_hop.relay, (), explanation, NO_EVIDENCE, ON_THIS_HOST)
    explanation = considered(settings.tls, next_hop.domain, name, route_of(next_hop), evidence, now)
    rule = policy_for(next_hop, name, settings, now.timestamp())
    demand = demand_for(decided(rule, evidence, name), next_hop, name, mx_secure=mx_secure)
    login = login_of(next_hop, settings)
    unsafe = unsafe_login(demand, login, next_hop) if login is not None else ""
    return HostView(name, addresses, explanation, evidence, demand, login, unsafe)
