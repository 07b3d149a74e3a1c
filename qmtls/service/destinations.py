"""All destinations of a worker: which one a next hop belongs to, which share a budget, and which share hosts.

There is no end of domains, so those with nothing under way are forgotten now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from qmtls.delivery.demands import policy_for
from qmtls.delivery.plan import NextHop
from qmtls.net.snapshot import Snapshot
from qmtls.net.targets import Target
from qmtls.service.attempt import Task
from qmtls.service.budget import Budget, Counts, Lanes, Pool
from qmtls.service.destination import Destination
from qmtls.service.lane import Workshop
from qmtls.tls.policy import Level

MANY_HOPS = 1000  # next hops remembered before those with nothing under way are forgotten
MANY_RESTING = 10_000  # of those, hosts that are down


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the destination of a next hop is found: for a relay its TLS demand is part of the key."""

    relay: str
    port: int
    domain: str
    demand: object


class Destinations:
    """`of` finds the one of a next hop, or makes it. `counts` is what all workers of the host count together."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self.lanes = Lanes()
        self.counts: Counts | None = None
        self.has_room: Callable[[Destination], None] = lambda _: None
        self._all: dict[_Route, Destination] = {}
        self._budgets: dict[str, Budget] = {}
        self._pools: dict[frozenset[str], Pool] = {}
        self._by_hop: dict[NextHop, Destination] = {}
        self._many_hops = MANY_HOPS
        self._hops_of: Snapshot | None = None

    def of(self, next_hop: NextHop, snapshot: Snapshot) -> Destination:
        if snapshot is not self._hops_of:
            self._renew(snapshot)
        found = self._by_hop.get(next_hop)
        if found is None:
            if len(self._by_hop) >= self._many_hops:
                self._forget_idle()
            found = self._by_hop[next_hop] = self._make(next_hop, snapshot)
        return found

    def _renew(self, snapshot: Snapshot) -> None:
        """New settings: no channel of before is used again, other limits hold, and whoever rests may be mended."""
        self._by_hop.clear()
        self._hops_of = snapshot
        for old in self._all.values():
            old.let_go()
            old.resting.look_now(old.budget.pool)
        self._forget_idle()
        settings = snapshot.settings
        for pool in self._pools.values():
            pool.use(settings.concurrency_remote)
        for name, budget in self._budgets.items():
            budget.pool.use(settings.concurrency_remote)
            budget.use(settings.terms.of(*_as_keys(name)), settings.concurrency_remote)

    def _forget_idle(self) -> None:
        """Those that rest are remembered as long as they are not too many."""
        kept = {r: d for r, d in self._all.items() if d.under_way or d.resting.lasts(d.budget.pool)}
        if len(kept) > MANY_RESTING:
            kept = {r: d for r, d in kept.items() if d.under_way}
        known = {id(d) for d in kept.values()}
        self._all = kept
        self._by_hop = {hop: d for hop, d in self._by_hop.items() if id(d) in known}
        budgets = {id(d.budget) for d in kept.values()}
        self._budgets = {name: b for name, b in self._budgets.items() if id(b) in budgets}
        self._forget_pools()
        self._many_hops = max(MANY_HOPS, 2 * len(self._by_hop))

    def _forget_pools(self) -> None:
        """Those that no next hop leads to any more."""
        pools = {id(b.pool) for b in self._budgets.values()}
        self._pools = {hosts: p for hosts, p in self._pools.items() if id(p) in pools}

    def _make(self, next_hop: NextHop, snapshot: Snapshot) -> Destination:
        if next_hop.relay:
            policy = policy_for(next_hop, next_hop.relay, snapshot.settings, self._shop.now())
            demand = (policy, next_hop.requiretls, next_hop.scheme)
            # At level sts the demand is what the policy of each domain says.
            domain = next_hop.domain if policy.level is Level.STS else ""
            route = _Route(next_hop.relay, next_hop.port, domain, demand)
        else:
            route = _Route("", next_hop.port, next_hop.domain, (next_hop.requiretls, next_hop.tls_optional))
        destination = self._all.get(route)
        if destination is None:
            budget = self._budget(next_hop, snapshot)
            destination = self._all[route] = Destination(next_hop, budget, self._shop, self._found)
            destination.has_room = self.has_room
            destination.answered = self._answered
        return destination

    def _budget(self, next_hop: NextHop, snapshot: Snapshot) -> Budget:
        name = f"[{next_hop.relay}]:{next_hop.port}" if next_hop.relay else next_hop.domain
        budget = self._budgets.get(name)
        if budget is None:
            settings = snapshot.settings
            # A relay is one host, whatever its addresses are; the hosts of a domain are still to be found.
            pool = self._pool(frozenset((name,) if next_hop.relay else ()), settings.concurrency_remote)
            budget = self._budgets[name] = Budget(name, pool, self.lanes, self.counts)
            budget.use(settings.terms.of(*_as_keys(name)), settings.concurrency_remote)
        return budget

    def _pool(self, hosts: frozenset[str], most: int) -> Pool:
        if not hosts:
            return Pool(hosts, most)
        pool = self._pools.get(hosts)
        if pool is None:
            if len(self._pools) >= max(MANY_HOPS, 2 * len(self._budgets)):
                self._forget_pools()  # a domain may have other hosts each time it is asked for
            pool = self._pools[hosts] = Pool(hosts, most)
        return pool

    def _found(self, destination: Destination, targets: Sequence[Target]) -> None:
        """Domains with the same hosts share one window."""
        budget = destination.budget
        hosts = frozenset([target.name or target.address for target in targets])
        if hosts != budget.pool.hosts and not destination.next_hop.relay:
            budget.join(self._pool(hosts, budget.pool.most))

    def _answered(self, pool: Pool) -> None:
        """A success ended the rest of hosts: mail of all their domains that waits on the disk may go."""
        for destination in self._all.values():
            if destination.shelved and destination.budget.pool is pool:
                destination.look_when_due()

    # ------------------------------------------------------------ orders

    def reloaded(self) -> None:
        """The settings changed: idle channels close, limits may be higher."""
        snapshot = self._shop.current()
        if snapshot is not self._hops_of:
            self._renew(snapshot)
        for destination in list(self._all.values()):
            if destination.next_hop.relay:
                # Domains whose demands were equal until now may have waited in one line, under one demand.
                for task in destination.hand_over():
                    self.of(task.next_hop, snapshot).submit(task)
            destination.let_go()
            destination.wake()

    def look_at(self, next_hop: NextHop) -> None:
        """Somebody found that its mail would be taken now: it may be tried, also while it rests."""
        found = self._by_hop.get(next_hop)
        if found is not None:
            found.look_now(inf)

    def look_now(self) -> None:
        """All that rest may be looked at."""
        for destination in self._all.values():
            destination.resting.look_now(destination.budget.pool)

    def stop(self, leave: Callable[[Task], None]) -> list[Task]:
        """The tasks in line, which are no longer ours; to `leave` goes what would come back into it."""
        return [task for destination in self._all.values() for task in destination.stop(leave)]


def _as_keys(name: str) -> tuple[str, str]:
    """The domain and the route of a budget's name, as `TermRules.of` takes them."""
    return ("", name) if name.startswith("[") and "]:" in name else (name, "")
