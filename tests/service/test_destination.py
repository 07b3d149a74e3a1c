"""Lanes and budgets: a host that hangs holds its own lanes, and a lane given back goes to whoever waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.delivery.plan import NextHop
from qmtls.service.budget import Budget, Lanes, Pool
from qmtls.service.destination import REMEMBERED_TASKS
from tests.net import certs, wire
from tests.net.hosts import HANG, Host, Visit
from tests.net.house import Files
from tests.service.office import Office, taken


def test_a_host_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "3\n"})
    slow = office.host("mx.slow.example", Host(replies={"EHLO": HANG}))
    quick = office.host("mx.quick.example")
    for n in range(20):
        office.post(f"{n}@slow.example")
    office.run()
    for n in range(20):
        office.post(f"{n:02}@quick.example")
        office.run()
    assert len(slow.visits) == 3
    assert len(quick.mail) == 20
    assert not slow.mail


def test_a_host_that_never_answers_the_connection(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "2\n", "timeoutconnect": "10\n"})
    office.host("mx.slow.example")
    office.reactor.hosts[office.names.hosts["mx.slow.example"], 25] = wire.HANG
    quick = office.host("mx.quick.example")
    ids = [office.post(f"{n}@slow.example") for n in range(5)]
    office.post("x@quick.example")
    office.run()
    assert len(quick.mail) == 1
    assert len(office.reactor.dialled) == 3
    office.pass_time(11)
    # The last to find it out tells the others in line.
    assert all(office.history(id) for id in ids)
    assert len(office.reactor.dialled) == 3


def test_a_host_that_takes_few_connections(office: Office) -> None:
    """It says so in its greeting. Nobody waits for it: those that it took serve all."""
    host = Host()

    class Choosy(Visit):
        def connectionMade(self) -> None:
            crowded = sum(not visit.lost for visit in host.visits) >= 3
            host.greeting = "421 too many connections" if crowded else "220 there"
            super().connectionMade()

    office.host("mx.a.example", host)
    office.reactor.hosts[office.names.hosts["mx.a.example"], 25] = lambda: Choosy(host)
    recipients = [f"{n:03}@a.example" for n in range(100)]
    for recipient in recipients:
        office.post(recipient)
    office.run()
    office.pass_time(5)
    assert taken(host) == recipients
    assert not office.said("deferred")
    assert len(host.visits) < 30, "and it is not asked again and again"


def test_mail_to_a_dead_host_that_keeps_coming(tmp_path: Path) -> None:
    """Each message waits for its next time within a while, although there is always a lane that still tries."""
    office = Office(tmp_path, {"concurrencyremote": "2\n", "timeoutconnect": "10\n"})
    office.host("mx.slow.example")
    office.reactor.hosts[office.names.hosts["mx.slow.example"], 25] = wire.HANG
    ids = []
    for n in range(100):
        ids.append(office.post(f"{n}@slow.example"))
        office.pass_time(1, 1)
    assert all(office.history(id) for id in ids[:-20])


def test_the_limit_of_connections(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "4\n"})
    host = office.host("mx.a.example")
    most = 0
    for n in range(40):
        office.post(f"{n}@a.example")
    for _ in range(1000):
        if not office.reactor._turn():
            break
        most = max(most, sum(not visit.lost for visit in host.visits))
    office.run()
    assert most == 4
    assert len(host.mail) == 40
    assert len(host.visits) == 4


def test_one_budget_for_a_relay_whatever_the_tls_demand(tmp_path: Path) -> None:
    """Two recipient domains with pins of their own share a relay: two destinations, one limit, and both get on."""
    leaf = certs.authority().leaf("relay", names=["a.example", "b.example"])
    office = Office(
        tmp_path,
        {
            "smtproutes": ":192.0.2.50\n",
            "concurrencyremote": "1\n",
            "a.example.pem": leaf.pem,
            "b.example.pem": certs.authority().pem,
        },
    )
    host = Host(leaf)
    office.reactor.hosts["192.0.2.50", 25] = host.accept
    recipients = [f"{n}@{domain}.example" for n in range(3) for domain in ("a", "b", "c")]
    for recipient in recipients:
        office.post(recipient)
    office.run()
    office.pass_time(10)
    assert taken(host) == sorted(recipients)
    assert {mail.tls for mail in host.mail} == {True}
    # A channel of one demand is never used under another.
    for visit in host.visits:
        domains = {line.rpartition("@")[2] for line in visit.lines if line.startswith("RCPT")}
        assert len(domains) == 1


class _Waits:
    def __init__(self, budget: Budget, work: int) -> None:
        self.budget, self.work, self.lanes = budget, work, 0

    def wake(self) -> None:
        while self.work and self.budget.take(self):
            self.work -= 1
            self.lanes += 1


def test_a_lane_given_back_passes_those_who_need_it_no_more() -> None:
    budget = Budget("a.example", Pool(frozenset({"mx"}), 1), Lanes())
    first, idle, hungry = _Waits(budget, 1), _Waits(budget, 1), _Waits(budget, 1)
    for one in (first, idle, hungry):
        one.wake()
    idle.work = 0  # its own lane did it
    assert (first.lanes, idle.lanes, hungry.lanes) == (1, 0, 0)
    budget.rest()
    budget.give_back()
    assert hungry.lanes == 1
    assert budget.used == 1


def test_mail_in_line_gives_its_memory_back_and_gets_it_again(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.a.example", Host(greeting=HANG))
    other = office.host("mx.b.example", Host(greeting=HANG))
    count = REMEMBERED_TASKS + 50
    for n in range(count):
        office.post(f"{n:04}@a.example", f"{n:04}@b.example")
    office.run()
    attempts = list(office.relayer._active.values())
    assert sum(a.envelope is None for a in attempts) == count - REMEMBERED_TASKS - 2
    for each in (host, other):
        each.greeting = "220 there"
        each.visits[0].reply("220 there")
        each.visits[0].silent = False
    office.run()
    office.pass_time(5)
    expected = [f"{n:04}" for n in range(count)]
    assert taken(host) == [f"{n}@a.example" for n in expected]
    assert taken(other) == [f"{n}@b.example" for n in expected]
    assert not office.ids_stored


def test_a_message_removed_while_it_is_in_line_is_not_sent(tmp_path: Path) -> None:
    """It is in memory still, but the operator was told that it is gone."""
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.a.example", Host(greeting=HANG))
    ids = [office.post(f"{n}@a.example") for n in range(3)]
    office.run()
    office.spool.remove([ids[1]])
    host.greeting = "220 there"
    host.visits[0].silent = False
    host.visits[0].reply("220 there")
    office.run()
    office.pass_time(5)
    assert taken(host) == ["0@a.example", "2@a.example"]
    assert office.said("gone")
    assert not office.relayer.busy


def test_a_message_being_sent_keeps_its_memory(tmp_path: Path) -> None:
    """It goes to two domains; while one of them has it in hand, the line of the other grows long."""
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    busy = office.host("mx.busy.example", Host(greeting=HANG))
    for n in range(REMEMBERED_TASKS + 10):
        office.post(f"{n}@busy.example")
    office.run()
    slow = office.host("mx.slow.example", Host(greeting=HANG))
    office.post("x@slow.example", "x@busy.example")
    office.run()
    slow.visits[0].silent = False
    slow.visits[0].reply("220 there")
    office.run()
    assert taken(slow) == ["x@slow.example"]
    assert not busy.mail


def test_a_reload_closes_idle_channels_and_changes_the_demand(office: Office) -> None:
    host = office.host("mx.a.example", Host(certs.server("mx.a.example")))
    office.post("x@a.example")
    office.run()
    assert not host.visits[0].lost
    other = certs.authority("another").leaf(names=["mx.a.example"])
    office.load({"tlshosts/mx.a.example.pem": other.pem})
    office.relayer.reloaded()
    office.run()
    assert host.visits[0].lost
    id = office.post("y@a.example")
    office.run()
    assert len(host.mail) == 1
    assert "does not pin" in office.said("deferred")[0]
    office.load({"tlshosts/mx.a.example.pem": certs.server("mx.a.example").pem})
    office.relayer.reloaded()
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert taken(host) == ["x@a.example", "y@a.example"]
    assert id not in office.ids_stored


def test_a_channel_in_use_is_not_used_again_after_a_reload(office: Office) -> None:
    """The demand of new settings holds for the very next message, also of a lane that was busy at the reload."""
    held: list[bool] = [True]
    host = office.host("mx.a.example", Host(replies={".": lambda *_: HANG if held[0] else ""}))
    office.load({"concurrencyremote": "1\n"})
    office.post("x@a.example")
    office.post("y@a.example")
    office.run()
    office.load({"tlspolicy": "a.example encrypt\n", "concurrencyremote": "1\n"})
    office.relayer.reloaded()
    held[0] = False
    host.visits[0].silent = False
    host.visits[0].reply("250 ok")
    office.run()
    assert host.visits[0].verbs.count("MAIL") == 1
    assert len(host.visits) == 2
    assert "STARTTLS is not offered" in office.said("deferred")[0]


def test_domains_that_share_a_relay_part_at_a_reload(tmp_path: Path) -> None:
    """In line with the same demand when they came; mail of each goes by what its own domain demands now."""
    files: Files = {"smtproutes": ":192.0.2.50\n", "concurrencyremote": "1\n"}
    office = Office(tmp_path, files)
    held: list[bool] = [True]
    host = Host(replies={".": lambda *_: HANG if held[0] else ""})
    office.reactor.hosts["192.0.2.50", 25] = host.accept
    for recipient in ("1@a.example", "2@b.example", "3@a.example", "4@b.example"):
        office.post(recipient)
    office.run()
    office.load({**files, "tlspolicy": "b.example encrypt\n"})
    office.relayer.reloaded()
    held[0] = False
    host.visits[0].silent = False
    host.visits[0].reply("250 ok")
    office.run()
    office.pass_time(1)
    assert not [mail for mail in host.mail if mail.recipients[0].endswith("b.example")]
    assert taken(host) == ["3@a.example"]
    assert len(office.said("delivered")) == 2
    assert all("STARTTLS is not offered" in line for line in office.said("deferred"))
    assert len(office.said("deferred")) == 2


@pytest.mark.parametrize("hold", [True, False])
def test_a_higher_limit_takes_effect(tmp_path: Path, hold: bool) -> None:
    office = Office(tmp_path, {"concurrencyremote": "0\n" if hold else "1\n"})
    host = office.host("mx.a.example", Host(replies={".": HANG}))
    for n in range(5):
        office.post(f"{n}@a.example")
    office.run()
    assert len(host.visits) == (0 if hold else 1)
    office.load({"concurrencyremote": "5\n"})
    office.relayer.reloaded()
    office.run()
    office.pass_time(1)
    # The channel that hangs was opened under the old settings; the others are new.
    assert len([v for v in host.visits if v.verbs.count("DATA")]) == 5


def test_next_hops_with_nothing_under_way_are_forgotten(office: Office) -> None:
    from qmtls.service.destinations import MANY_HOPS

    known = office.relayer.destinations
    office.names.mail["busy.example"] = [(10, "mx.busy.example")]
    office.names.hosts["mx.busy.example"] = "192.0.2.77"
    office.reactor.hosts["192.0.2.77", 25] = Host(greeting=HANG).accept
    office.post("x@busy.example")
    for n in range(MANY_HOPS * 2):
        known.of(NextHop(f"{n}.example"), office.snapshot)
    assert len(known._by_hop) <= MANY_HOPS + 1
    assert len(known._all) <= MANY_HOPS + 1
    assert len(known._budgets) <= MANY_HOPS + 1
    assert NextHop("busy.example") in known._by_hop


def test_hosts_that_no_next_hop_leads_to_are_forgotten(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A domain may have another MX name each time it is asked for."""
    monkeypatch.setattr("qmtls.service.destinations.MANY_HOPS", 10)
    host = office.host("mx.a.example")
    for n in range(30):
        office.names.mail["a.example"] = [(1, f"mx{n}.a.example")]
        office.names.hosts[f"mx{n}.a.example"] = office.names.hosts["mx.a.example"]
        office.post(f"{n}@a.example")
        office.run()
        office.pass_time(5)
    assert len(host.mail) == 30
    assert len(office.relayer.destinations._pools) <= 10


def test_how_a_next_hop_reads() -> None:
    assert str(NextHop("a.example")) == "a.example"
