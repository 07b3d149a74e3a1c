"""How many lanes hosts get: windows that grow and shrink, that domains share, and the lines of `destinations`.

By counts of connections, not by times.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qmtls.delivery.window import HOLD_SECONDS, INITIAL
from qmtls.service.budget import ASK_SECONDS, TURN, Budget, Lanes, Pool
from tests.net import wire
from tests.net.hosts import HANG, Host, Visit
from tests.service.office import Office, taken


def open_at_most(office: Office, *hosts: Host) -> int:
    """Runs until nothing happens any more; the most connections that were open at a time."""
    most = 0
    while office.reactor._turn():
        most = max(most, sum(not visit.lost for host in hosts for visit in host.visits))
    return most


def answer(host: Host, verb: str = ".", text: str = "250 ok") -> None:
    """Those visits that hang are answered."""
    host.replies.pop(verb, None)
    for visit in host.visits:
        if visit.silent:
            visit.silent = False
            if text.startswith("250") and verb == ".":
                visit.reply(text)


# ---------------------------------------------------------------- growth


def test_a_host_that_nobody_knows_gets_few_lanes(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={".": HANG}))
    for n in range(50):
        office.post(f"{n}@a.example")
    office.run()
    assert len(host.visits) == INITIAL


def test_each_round_of_successes_doubles_the_lanes(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={".": HANG}))
    for n in range(100):
        office.post(f"{n}@a.example")
    office.run()
    counts = [len(host.visits)]
    for _ in range(3):
        for visit in [visit for visit in host.visits if visit.silent]:
            visit.silent = False
            visit.reply("250 ok")
        office.run()
        counts.append(len(host.visits))
    assert counts == [5, 10, 20, 20], "concurrencyremote is the end"


def test_quick_hosts_get_no_more_lanes_than_there_is_mail_at_a_time(office: Office) -> None:
    host = office.host("mx.a.example")
    for n in range(100):
        office.post(f"{n}@a.example")
        office.run()
    assert len(host.visits) == 1
    assert len(host.mail) == 100


# ---------------------------------------------------------------- failure


def test_a_host_that_ends_sessions_gets_fewer_lanes(office: Office) -> None:
    """421 in the middle of a message."""
    host = office.host("mx.a.example", Host(replies={".": HANG}))
    for n in range(20):
        office.post(f"{n}@a.example")
    office.run()
    for visit in host.visits[:3]:
        visit.silent = False
        visit.reply("421 4.3.2 going down")
    office.run()
    (pool,) = office.relayer.destinations._pools.values()
    assert pool.limit == 2
    assert sum(not visit.lost for visit in host.visits) == 2
    assert len(host.visits) == 5, "no new ones for those that ended"


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", ["450 4.2.1 later", "550 5.7.1 no"])
def test_what_is_said_of_a_message_is_no_failure_of_the_host(office: Office, verb: str, code: str) -> None:
    office.host("mx.here.example")
    host = office.host("mx.a.example", Host(replies={verb: code}))
    for n in range(30):
        office.post(f"{n}@a.example")
    office.run()
    pool = office.relayer.destinations._pools[frozenset({"mx.a.example"})]
    assert pool.limit >= INITIAL
    assert pool.window.row == 0
    assert not office.said("resting")
    assert sum(visit.verbs.count("MAIL") for visit in host.visits) == 30


def test_a_failure_holds_the_window_for_a_while(tmp_path: Path) -> None:
    """Those lanes that get on serve all; then more are tried."""
    office = Office(tmp_path)
    host = Host()
    limit = [3]

    class Choosy(Visit):
        def connectionMade(self) -> None:
            crowded = sum(not visit.lost for visit in host.visits) >= limit[0]
            host.greeting = "421 too many connections" if crowded else "220 there"
            super().connectionMade()

    office.host("mx.a.example", host)
    office.reactor.hosts[office.names.hosts["mx.a.example"], 25] = lambda: Choosy(host)
    for n in range(100):
        office.post(f"{n}@a.example")
    assert open_at_most(office, host) <= INITIAL
    assert len(host.visits) == INITIAL
    assert len(host.mail) == 100
    limit[0] = 100
    office.pass_time(HOLD_SECONDS + 1)
    host.replies["."] = HANG
    for n in range(100):
        office.post(f"{n}@a.example")
    office.run()
    assert sum(visit.silent for visit in host.visits) == 3


# ---------------------------------------------------------------- shared hosts


def shared(office: Office, host: Host, *domains: str) -> None:
    office.host("mx.a.example", host)
    for domain in domains:
        office.names.mail[domain] = [(10, "mx.a.example")]


def test_domains_with_the_same_hosts_share_a_window(office: Office) -> None:
    host = Host(replies={".": HANG})
    domains = [f"d{n}.example" for n in range(30)]
    shared(office, host, *domains)
    for domain in domains:
        for n in range(3):
            office.post(f"{n}@{domain}")
    office.run()
    assert len([visit for visit in host.visits if not visit.lost]) == INITIAL
    for _ in range(20):
        for visit in [visit for visit in host.visits if visit.silent]:
            visit.silent = False
            visit.reply("250 ok")
        office.run()
        office.pass_time(4)
        assert len([visit for visit in host.visits if not visit.lost]) <= 20
        assert len(office.relayer.destinations._pools) == 1
    host.replies.clear()
    for visit in [visit for visit in host.visits if visit.silent]:
        visit.silent = False
        visit.reply("250 ok")
    office.run()
    office.pass_time(60)
    sent = sum(1 for line in office.said("delivered"))
    assert sent == 90
    assert not office.ids_stored


def test_but_never_a_connection(office: Office) -> None:
    """What one of them demands of TLS is its own affair."""
    host = Host()
    shared(office, host, "b.example", "c.example")
    for n in range(10):
        for domain in ("b.example", "c.example"):
            office.post(f"{n}@{domain}")
    office.run()
    assert len(host.mail) == 20
    for visit in host.visits:
        assert len({line.rpartition("@")[2] for line in visit.lines if line.startswith("RCPT")}) == 1


def test_a_domain_by_itself_keeps_its_connections(tmp_path: Path) -> None:
    """There is nobody to leave a turn to."""
    office = Office(tmp_path, {"concurrencyremote": "3\n"})
    host = office.host("mx.a.example")
    for n in range(30 * TURN):
        office.post(f"{n}@a.example")
    office.run()
    assert len(host.mail) == 30 * TURN
    assert len(host.visits) == 3


def test_a_domain_with_much_mail_leaves_turns_to_another(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = Host()
    shared(office, host, "big.example", "small.example")
    for n in range(10 * TURN):
        office.post(f"{n}@big.example")
    office.post("x@small.example")
    office.run()
    office.pass_time(10)
    order = [mail.recipients[0].rpartition("@")[2] for mail in host.mail]
    assert len(order) == 10 * TURN + 1
    assert order.index("small.example") <= TURN + 1


def test_hosts_that_hang_for_one_domain_take_no_more_for_the_others(tmp_path: Path) -> None:
    office = Office(tmp_path)
    host = Host(greeting=HANG)
    domains = [f"d{n}.example" for n in range(50)]
    shared(office, host, *domains)
    live = office.host("mx.live.example")
    for domain in domains:
        office.post(f"x@{domain}")
    office.post("x@live.example")
    office.run()
    assert len(host.visits) == INITIAL
    assert taken(live) == ["x@live.example"]
    office.pass_time(61)
    assert len(host.visits) == INITIAL, "and when they are found to hang, nobody else connects"
    assert len(office.said("deferred")) == 50
    assert len(office.said("resting")) == INITIAL, "those that found out; the others are told"


def test_a_domain_that_moves_to_other_hosts_leaves_the_window(office: Office) -> None:
    host = Host()
    shared(office, host, "b.example")
    office.post("x@b.example")
    office.run()
    office.pass_time(10)
    new = office.host("mx.new.example")
    office.names.mail["b.example"] = [(10, "mx.new.example")]
    office.post("y@b.example")
    office.run()
    assert taken(host) == ["x@b.example"]
    assert taken(new) == ["y@b.example"]
    assert office.relayer.destinations._budgets["b.example"].pool.hosts == {"mx.new.example"}
    assert all(pool.working == 0 for pool in office.relayer.destinations._pools.values())


# ---------------------------------------------------------------- control/destinations


def test_concurrency(tmp_path: Path) -> None:
    office = Office(tmp_path, {"destinations": "a.example concurrency=2\n"})
    host = office.host("mx.a.example", Host(replies={".": HANG}))
    other = office.host("mx.b.example", Host(replies={".": HANG}))
    for n in range(10):
        office.post(f"{n}@a.example", f"{n}@b.example")
    office.run()
    assert (len(host.visits), len(other.visits)) == (2, INITIAL)
    office.load({"destinations": "a.example concurrency=4\n"})
    office.relayer.reloaded()
    office.run()
    assert len(host.visits) == 4


def test_no_line_goes_beyond_concurrencyremote(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "3\n", "destinations": "a.example concurrency=9\n"})
    host = office.host("mx.a.example", Host(replies={".": HANG}))
    for n in range(10):
        office.post(f"{n}@a.example")
    office.run()
    assert len(host.visits) == 3


def test_the_line_of_a_relay(tmp_path: Path) -> None:
    office = Office(
        tmp_path,
        {
            "smtproutes": ":192.0.2.50:2525\n",
            "destinations": "[192.0.2.50]:2525 concurrency=1\na.example concurrency=3\n",
        },
    )
    host = Host(replies={".": HANG})
    office.reactor.hosts["192.0.2.50", 2525] = host.accept
    for n in range(10):
        office.post(f"{n}@a.example", f"{n}@b.example")
    office.run()
    assert len(host.visits) == 1


def test_messages_per_connection(tmp_path: Path) -> None:
    office = Office(tmp_path, {"destinations": "a.example messages-per-connection=3 concurrency=1\n"})
    host = office.host("mx.a.example")
    for n in range(7):
        office.post(f"{n}@a.example")
    office.run()
    office.pass_time(5)
    assert len(host.mail) == 7
    assert [visit.verbs.count("MAIL") for visit in host.visits] == [3, 3, 1]
    assert all(visit.verbs[-1] == "QUIT" for visit in host.visits)


def test_a_connection_with_its_last_message_does_not_wait_for_more(tmp_path: Path) -> None:
    office = Office(tmp_path, {"destinations": "* messages-per-connection=1\n"})
    host = office.host("mx.a.example")
    office.post("x@a.example")
    office.run()
    assert host.visits[0].verbs[-1] == "QUIT"


def test_a_rate(tmp_path: Path) -> None:
    office = Office(tmp_path, {"destinations": "a.example rate=6/m\n"})
    host = office.host("mx.a.example")
    other = office.host("mx.b.example")
    for n in range(20):
        office.post(f"{n:02}@a.example", f"{n}@b.example")
    office.run()
    assert (len(host.mail), len(other.mail)) == (6, 20), "so many at once after a rest"
    counts = []
    for _ in range(14):
        office.pass_time(10)
        counts.append(len(host.mail))
    assert counts == list(range(7, 21))
    assert taken(host) == [f"{n:02}@a.example" for n in range(20)], "in their order"
    assert not office.said("deferred")


def test_connections_that_rest_count_too(tmp_path: Path) -> None:
    """Two TLS demands, one domain: the channel of the one must close before the other gets its own."""
    office = Office(tmp_path, {"destinations": "a.example connections=1\n"})
    host = office.host("mx.a.example")
    office.post("x@a.example")
    office.run()
    office.post("y@a.example", tls_optional=True)
    office.run()
    assert (len(host.visits), len(host.mail)) == (1, 1)
    office.pass_time(5)
    assert len(host.mail) == 2
    assert len(host.visits) == 2


class Shared:
    """What the workers of a host count together, as net.buckets does."""

    def __init__(self) -> None:
        self.entered = 0
        self.tokens = 10

    def enter(self, key: bytes, most: int) -> bool:
        if self.entered >= most:
            return False
        self.entered += 1
        return True

    def leave(self, key: bytes) -> None:
        self.entered -= 1

    def take(self, key: bytes, rate: Any, tokens: int = 1) -> float:
        self.tokens -= 1
        return 0.0 if self.tokens >= 0 else 2.5


class Hop:
    def __init__(self, counts: Shared, **line: Any) -> None:
        from qmtls.delivery.terms import Terms

        self.budget = Budget("a.example", Pool(frozenset({"mx"}), 20), Lanes(), counts)
        self.budget.use(Terms(**line), 20)

    def wake(self) -> None:
        """It asks when the test says so."""


def test_workers_count_connections_together() -> None:
    counts = Shared()
    one, two = Hop(counts, connections=3), Hop(counts, connections=3)
    assert [one.budget.take(one), two.budget.take(two), two.budget.take(two)] == [True] * 3
    assert not one.budget.take(one)
    assert one.budget.again == ASK_SECONDS, "nobody will tell it"
    two.budget.rest()
    assert not one.budget.take(one), "it rests, and is open"
    two.budget.give_back()
    assert one.budget.take(one)
    for hop, lanes in ((one, 2), (two, 1)):
        for _ in range(lanes):
            hop.budget.rest()
            hop.budget.give_back()
    assert counts.entered == 0


def test_workers_count_messages_together() -> None:
    from qmtls.tls.scope import Rate

    counts = Shared()
    one, two = (Hop(counts, rate=Rate(10, 60.0, "10/m"), connections=20) for _ in range(2))
    assert all([one.budget.take(one), two.budget.take(two)])
    assert all(one.budget.goes_on(one, n) for n in range(8))
    assert not two.budget.take(two)
    assert two.budget.again == 2.5
    assert counts.entered == 2, "no connection without a message"


def test_a_line_that_comes_with_a_reload_counts_lanes_from_then_on() -> None:
    from qmtls.delivery.terms import Terms

    counts = Shared()
    hop = Hop(counts)
    assert hop.budget.take(hop)
    hop.budget.use(Terms(connections=5), 20)
    assert hop.budget.take(hop)
    assert counts.entered == 1
    for _ in range(2):
        hop.budget.rest()
        hop.budget.give_back()
    assert counts.entered == 0


def test_a_host_that_cannot_be_connected_to(office: Office) -> None:
    office.host("mx.a.example")
    office.reactor.hosts[office.names.hosts["mx.a.example"], 25] = wire.HANG
    for n in range(30):
        office.post(f"{n}@a.example")
    office.run()
    assert len(office.reactor.dialled) == INITIAL
