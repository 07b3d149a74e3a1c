"""All destinations of a worker: which one a next hop belongs to, and which of them share a budget.

There is no end of domains, so those with nothing under way are forgotten now and then.
"""

from __future__ import annotations

from dataclasses import dataclass

from qmtls.delivery.demands import policy_for
from qmtls.delivery.plan import NextHop
from qmtls.net.snapshot import Snapshot
from qmtls.service.attempt import Task
from qmtls.service.budget import Budget, Lanes
from qmtls.service.destination import Destination
from qmtls.service.lane import Workshop
from qmtls.tls.policy import Level

MANY_HOPS = 1000  # next hops remembered before those with nothing under way are forgotten


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the destination of a next hop is found: for a relay its TLS demand is part of the key."""

    relay: str
    port: int
    domain: str
    demand: object


class Destinations:
    """`of` finds the one of a next hop, or makes it."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self.lanes = Lanes()
        self._all: dict[_Route, Destination] = {}
        self._budgets: dict[tuple[str, int], Budget] = {}
        self._by_hop: dict[NextHop, Destination] = {}
        self._many_hops = MANY_HOPS
        self._hops_of: Snapshot | None = None

    def of(self, next_hop: NextHop, snapshot: Snapshot) -> Destination:
        if snapshot is not self._hops_of:
            self._by_hop.clear()
            self._hops_of = snapshot
            for old in self._all.values():
                old.let_go()
            self._forget_idle()
        found = self._by_hop.get(next_hop)
        if found is None:
            if len(self._by_hop) >= self._many_hops:
                self._forget_idle()
            found = self._by_hop[next_hop] = self._make(next_hop, snapshot)
        return found

    def _forget_idle(self) -> None:
        self._all = {r: d for r, d in self._all.items() if d.lanes or len(d)}
        self._by_hop = {hop: d for hop, d in self._by_hop.items() if d.lanes or len(d)}
        budgets = {id(d.budget) for d in self._all.values()}
        self._budgets = {group: b for group, b in self._budgets.items() if id(b) in budgets}
        self._many_hops = max(MANY_HOPS, 2 * len(self._by_hop))

    def _make(self, next_hop: NextHop, snapshot: Snapshot) -> Destination:
        if next_hop.relay:
            policy = policy_for(next_hop, next_hop.relay, snapshot.settings, self._shop.now())
            demand = (policy, next_hop.requiretls, next_hop.scheme)
            # At level sts the demand is what the policy of each domain says.
            domain = next_hop.domain if policy.level is Level.STS else ""
            route = _Route(next_hop.relay, next_hop.port, domain, demand)
            group = (next_hop.relay, next_hop.port)
        else:
            route = _Route("", next_hop.port, next_hop.domain, (next_hop.requiretls, next_hop.tls_optional))
            group = (next_hop.domain, 0)
        budget = self._budgets.get(group)
        if budget is None:
            budget = self._budgets[group] = Budget(self._connections, self.lanes)
        destination = self._all.get(route)
        if destination is None:
            destination = self._all[route] = Destination(next_hop, budget, self._shop)
        return destination

    def _connections(self) -> int:
        return self._shop.current().settings.concurrency_remote

    def reloaded(self) -> None:
        """The settings changed: idle channels close, limits may be higher."""
        snapshot = self._shop.current()
        for destination in list(self._all.values()):
            if destination.next_hop.relay:
                # Domains whose demands were equal until now may have waited in one line, under one demand.
                for task in destination.stop():
                    self.of(task.next_hop, snapshot).submit(task)
            destination.let_go()
            destination.wake()

    def stop(self) -> list[Task]:
        """The tasks in line, which are no longer ours."""
        return [task for destination in self._all.values() for task in destination.stop()]
