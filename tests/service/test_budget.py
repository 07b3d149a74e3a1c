"""Lanes for each next hop and in all: hosts that hang hold their own, and some are always left for the others."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.window import Window
from qmtls.service.budget import TRIES, Budget, Lanes, Pool
from tests.net.hosts import HANG, Host
from tests.service.office import Office


class Hop:
    """A next hop with `work` for as many lanes."""

    def __init__(self, lanes: Lanes, work: int, limit: int = 20) -> None:
        pool = Pool(frozenset({"mx"}), limit)
        pool.window = Window(limit)
        pool.use(limit)
        self.budget = Budget("a.example", pool, lanes)
        self.work = work
        self.lanes = 0

    def wake(self) -> None:
        while self.work and self.budget.take(self):
            self.work -= 1
            self.lanes += 1

    def end(self) -> None:
        """One of its lanes ends."""
        self.lanes -= 1
        self.budget.rest()
        self.budget.give_back()


def test_few_next_hops_never_hold_all_lanes() -> None:
    lanes = Lanes(limit=100)
    hanging = [Hop(lanes, 50) for _ in range(10)]
    for hop in hanging:
        hop.wake()
    assert [hop.lanes for hop in hanging] == [20, 20, 10] + [1] * 7
    late = Hop(lanes, 1)
    late.wake()
    assert late.lanes == 1


def test_what_ends_goes_to_those_who_wait() -> None:
    lanes = Lanes(limit=4)
    hops = [Hop(lanes, 2) for _ in range(6)]
    for hop in hops:
        hop.wake()
    assert [hop.lanes for hop in hops] == [2, 1, 1, 0, 0, 0]
    assert all(hop.budget.others_wait(hop) for hop in hops)
    hops[0].end()
    assert [hop.lanes for hop in hops] == [1, 1, 1, 1, 0, 0]


def test_who_waits_behind_many_that_need_no_lane_any_more_is_reached() -> None:
    lanes = Lanes(limit=2)
    holders = [Hop(lanes, 1), Hop(lanes, 1)]
    others = [Hop(lanes, 1) for _ in range(5 * TRIES)]
    for hop in (*holders, *others):
        hop.wake()
    for hop in others[:-1]:
        hop.work = 0  # lanes of their own did it
    for hop in holders:
        hop.end()
    assert others[-1].lanes == 1


@given(
    st.integers(2, 12),
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_every_task_gets_its_lane_in_the_end(limit: int, hops: list[tuple[int, int]], chance: object) -> None:
    lanes = Lanes(limit)
    all_hops = [Hop(lanes, work, most) for work, most in hops]
    for hop in all_hops:
        hop.wake()
    for _ in range(1000):
        running = [hop for hop in all_hops if hop.lanes]
        if not running:
            break
        assert lanes.used == sum(hop.lanes for hop in all_hops) <= limit
        assert all(hop.lanes == hop.budget.used == hop.budget.working <= hop.budget.most for hop in all_hops)
        ends = chance.choice(running)  # type: ignore[attr-defined]
        ends.end()
        ends.wake()  # as a destination does when a lane of its own has ended
    assert lanes.used == 0
    assert not any(hop.work for hop in all_hops)


def test_a_message_to_many_domains_takes_a_share_of_the_lanes(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.relayer.lanes.limit = 10
    hosts = [office.host(f"mx.d{n}.example", Host(greeting=HANG)) for n in range(40)]
    office.post(*(f"x@d{n}.example" for n in range(40)))
    office.run()
    assert sum(len(host.visits) for host in hosts) == 10
    for _ in range(5):
        for host in hosts:
            host.greeting = "220 there"
            for visit in host.visits:
                if visit.silent:
                    visit.silent = False
                    visit.reply("220 there")
        office.run()
        office.pass_time(5)
    assert sum(len(host.mail) for host in hosts) == 40
    assert not office.ids_stored


class Asker:
    """Wants lanes without end, and takes none by itself."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.working = self.idle = 0

    def wake(self) -> None:
        """As a destination that has been served meanwhile."""


@given(
    st.lists(st.tuples(st.sampled_from(["take", "resume", "rest", "end", "join", "fail", "good"]), st.integers(0, 5))),
    st.integers(1, 6),
)
def test_pools_and_budgets_agree_whatever_happens(events: list[tuple[str, int]], most: int) -> None:
    lanes = Lanes(limit=12)
    pools = [Pool(frozenset({f"mx{n}"}), most) for n in range(2)]
    askers = [Asker(Budget(f"d{n}.example", pools[n % 2], lanes)) for n in range(6)]
    now = 0.0
    for what, n in events:
        one, now = askers[n], now + 20.0
        budget, pool = one.budget, one.budget.pool
        if what == "take" and budget.take(one):
            one.working += 1
            assert pool.working <= pool.limit
        elif what == "resume" and one.idle and budget.resume(one):
            one.idle, one.working = one.idle - 1, one.working + 1
            assert pool.working <= pool.limit
        elif what == "rest" and one.working:
            budget.rest()
            one.idle, one.working = one.idle + 1, one.working - 1
        elif what == "end" and one.idle:
            budget.give_back()
            one.idle -= 1
        elif what == "join":
            budget.join(pools[0])
        elif what == "fail":
            pool.failed(max(0, pool.working - 1), now)
        elif what == "good":
            pool.succeeded(budget.most, now)
        assert [(a.budget.working, a.budget.used) for a in askers] == [(a.working, a.working + a.idle) for a in askers]
        assert [p.working for p in pools] == [sum(a.working for a in askers if a.budget.pool is p) for p in pools]
        assert lanes.used == sum(a.budget.used for a in askers) <= lanes.limit
        assert all(1 <= p.limit <= most for p in pools)
        assert all(a.budget.used <= most for a in askers)
