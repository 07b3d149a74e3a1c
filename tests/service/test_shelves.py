"""Due mail that its destinations cannot take: it waits on the disk, and stands before nobody else's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent

from qmtls.delivery.plan import NextHop
from qmtls.delivery.window import INITIAL
from qmtls.service.attempt import Attempt
from qmtls.service.destination import LINE, Destination
from qmtls.service.shelves import FRESH_LINE, LOW, REFILL, Shelves, until
from qmtls.spool.api import DELAY, Filing, SpoolError
from qmtls.spool.api import Attempt as Entry
from tests.net.hosts import HANG, Host
from tests.service.office import Office, taken
from tests.service.test_orders import order
from tests.service.test_resting import alive, dead


def read_envelopes(office: Office, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of messages whose envelopes are read from now on."""
    found: list[str] = []
    real = office.spool.envelope

    def envelope(id: str) -> object:
        found.append(id)
        return real(id)

    monkeypatch.setattr(office.spool, "envelope", envelope)
    return found


def all_due(office: Office) -> None:
    """As after a start: all times on the disk are over."""
    for id in office.ids_stored:
        office.spool.record([Filing(id, Entry(office.now(), deferred=(0,)), office.now() - 10)])


def restart(office: Office) -> None:
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(3, 0.01)


# ---------------------------------------------------------------- fair turns


def test_mail_for_a_host_that_hangs_does_not_stand_before_that_of_others(office: Office) -> None:
    """All of it comes from the disk, the hanging host's first."""
    slow = office.host("mx.slow.example", Host(greeting=HANG))
    live = office.host("mx.live.example")
    for n in range(2000):
        office.post(f"{n}@slow.example", offer=False)
    for n in range(100):
        office.post(f"{n:03}@live.example", offer=False)
    restart(office)
    assert taken(live) == [f"{n:03}@live.example" for n in range(100)]
    assert len(slow.visits) == INITIAL
    assert office.relayer.busy <= LINE + INITIAL, "the others are on the disk only"
    assert len(office.relayer._shelves) == 2000 - office.relayer.busy


def test_mail_for_a_host_that_is_down_does_not_either(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    dead(office, "dead.example")
    live = office.host("mx.live.example")
    for n in range(2000):
        office.post(f"{n}@dead.example", offer=False)
    for n in range(100):
        office.post(f"{n:03}@live.example", offer=False)
    all_due(office)
    filed: list[Filing] = []
    real = office.spool.record

    def record(batch: Sequence[Filing]) -> list[SpoolError | None]:
        filed.extend(batch)
        return real(batch)

    monkeypatch.setattr(office.spool, "record", record)
    restart(office)
    assert len(taken(live)) == 100
    assert office.reactor.dialled.count((office.names.hosts["mx.dead.example"], 25)) <= INITIAL
    assert len(filed) <= LINE + REFILL, "nothing is written of those that were not tried"
    assert office.relayer.busy == 0


def test_fresh_mail_for_a_host_that_hangs_is_kept_out_of_memory(office: Office) -> None:
    office.host("mx.slow.example", Host(greeting=HANG))
    for n in range(FRESH_LINE + 500):
        office.post(f"{n}@slow.example")
    office.run()
    assert FRESH_LINE <= office.relayer.busy <= FRESH_LINE + INITIAL
    assert len(office.relayer._shelves) + office.relayer.busy == FRESH_LINE + 500


def test_what_waits_on_the_disk_goes_when_there_is_room(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "2\n"})
    host = office.host("mx.slow.example", Host(greeting=HANG))
    for n in range(600):
        office.post(f"{n:03}@slow.example", offer=False)
    restart(office)
    assert not host.mail
    assert len(office.relayer._shelves) == 600 - office.relayer.busy
    host.greeting = "220 there"
    for visit in host.visits:
        visit.silent = False
        visit.reply("220 there")
    office.run()
    office.pass_time(2, 0.01)
    assert sorted(taken(host)) == [f"{n:03}@slow.example" for n in range(600)]
    order_of_arrival = [mail.recipients[0] for mail in host.mail]
    assert all(abs(n - int(who[:3])) <= 2 for n, who in enumerate(order_of_arrival)), "oldest first"
    assert not office.relayer._shelves
    assert not office.ids_stored


def test_mail_for_a_host_that_gets_on_is_read_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    host = office.host("mx.live.example")
    for n in range(2000):
        office.post(f"{n}@live.example", offer=False)
    read = read_envelopes(office, monkeypatch)
    restart(office)
    assert len(host.mail) == 2000
    assert len(read) == 2000


def test_mail_that_was_just_taken_does_not_overtake_what_waits_on_the_disk(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.slow.example", Host(greeting=HANG))
    for n in range(300):
        office.post(f"{n:03}@slow.example", offer=False)
    restart(office)
    office.post("fresh@slow.example")
    host.greeting = "220 there"
    host.visits[0].silent = False
    host.visits[0].reply("220 there")
    office.run()
    office.pass_time(2, 0.01)
    assert [mail.recipients[0] for mail in host.mail][-1] == "fresh@slow.example"
    assert len(host.mail) == 301


def test_a_fault_of_the_shelf_loses_no_task(tmp_path: Path, failures: list[LogEvent]) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.slow.example", Host(greeting=HANG))
    for n in range(300):
        office.post(f"{n:03}@slow.example", offer=False)
    restart(office)
    (place,) = office.relayer._shelves._shelves
    in_memory = office.relayer.busy

    def fault(_: Destination) -> None:
        raise OSError("no thread")

    place.has_room = fault
    host.greeting = "220 there"
    host.visits[0].silent = False
    host.visits[0].reply("220 there")
    office.run()
    office.pass_time(2, 0.01)
    assert failures
    failures.clear()
    assert len(host.mail) == in_memory
    assert not office.relayer.busy


def test_a_message_for_several_goes_if_one_of_them_can_take_it(office: Office) -> None:
    office.host("mx.slow.example", Host(greeting=HANG))
    live = office.host("mx.live.example")
    for n in range(400):
        office.post(f"{n}@slow.example", offer=False)
    office.post("x@slow.example", "x@live.example", offer=False)
    restart(office)
    assert taken(live) == ["x@live.example"]


# ---------------------------------------------------------------- rests


def shelf(office: Office, count: int) -> list[str]:
    """Messages that were tried, whose host is down, and whose time came during its rest."""
    ids = [office.post(f"{n:03}@a.example", offer=False) for n in range(count)]
    all_due(office)
    office.post("first@a.example")
    office.run()
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(2, 0.05)
    assert len(office.relayer._shelves) == count
    return ids


def test_a_look_reads_a_few_messages_only(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    dead(office)
    shelf(office, 500)
    read = read_envelopes(office, monkeypatch)
    before = len(office.reactor.dialled)
    office.pass_time(65)
    assert len(office.reactor.dialled) == before + 1
    assert 0 < len(read) <= 2 * REFILL + 1
    assert len(office.relayer._shelves) >= 500 - 2 * REFILL


def test_a_rescan_does_not_read_them_either(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    dead(office)
    shelf(office, 100)
    read = read_envelopes(office, monkeypatch)
    for _ in range(5):
        office.relayer.rescan(office.spool)
        office.run()
        office.pass_time(1, 0.1)
    assert not read


def test_they_go_when_the_host_is_back(office: Office) -> None:
    host = dead(office)
    shelf(office, 500)
    alive(office, host)
    office.pass_time(70, 0.1)
    assert {f"{n:03}@a.example" for n in range(500)} <= set(taken(host))
    assert len(taken(host)) == len(set(taken(host)))
    assert not office.relayer._shelves


def test_orders_reach_them(office: Office) -> None:
    host = dead(office)
    ids = shelf(office, 10)
    sender = office.host("mx.here.example")
    alive(office, host)
    order(office, ids[2], "hold")
    order(office, ids[3], "bounce")
    office.spool.remove([ids[4]])
    order(office, ids[5], "release")
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(2, 0.1)
    assert "005@a.example" in taken(host), "the order looks at once"
    assert b"003@a.example" in sender.mail[0].content
    office.pass_time(600)
    assert "002@a.example" not in taken(host)
    assert "004@a.example" not in taken(host)
    assert office.ids_stored == [ids[2]]


def test_an_order_for_all_mail_of_a_host_that_hangs(office: Office) -> None:
    """It is tried as far as there is room, and stands before nobody else's all the same."""
    office.host("mx.slow.example", Host(greeting=HANG))
    live = office.host("mx.live.example")
    ids = [office.post(f"{n}@slow.example", offer=False) for n in range(1000)]
    all_due(office)
    for id in ids:
        office.spool.record([Filing(id, Entry(office.now(), deferred=(0,)), office.now() + 1000)])
    office.relayer.rescan(office.spool)
    office.run()
    assert not office.relayer.busy
    for id in ids:
        office.spool.record([Filing(id, Entry(office.now(), event="release"), office.now())])
    restart(office)
    assert office.relayer.busy <= LINE + INITIAL
    for n in range(50):
        office.post(f"{n}@live.example", offer=False)
    restart(office)
    assert len(live.mail) == 50


def test_alrm_and_a_reload_take_all_off(office: Office) -> None:
    host = dead(office)
    shelf(office, 100)
    office.load({})
    office.relayer.reloaded()
    office.run()
    office.pass_time(2, 0.01)
    assert len(office.relayer._shelves) > 0, "it is still down"
    alive(office, host)
    office.relayer.make_all_due()
    office.run()
    office.pass_time(2, 0.01)
    assert {f"{n:03}@a.example" for n in range(100)} <= set(taken(host))
    assert not office.relayer._shelves


def test_a_rest_that_others_end_leaves_nothing_on_the_shelf(office: Office) -> None:
    """A lane of another domain finds that the host is back: fresh mail does not wait for the look of before."""
    host = dead(office)
    shelf(office, 500)
    office.pass_time(300, 1)
    (place,) = office.relayer._shelves._shelves
    assert place.is_resting
    alive(office, host)
    place.resting.answered(place.budget.pool)
    office.post("fresh@a.example")
    office.run()
    office.pass_time(2, 0.01)
    assert "fresh@a.example" in taken(host)
    assert not office.relayer._shelves


def test_a_success_of_one_domain_frees_the_shelves_of_all_with_its_hosts(office: Office) -> None:
    """And no others."""
    host = dead(office)
    office.names.mail["b.example"] = office.names.mail["a.example"]
    other = dead(office, "c.example")
    for n in range(200):
        office.post(f"{n:03}@b.example", offer=False)
        office.post(f"{n:03}@c.example", offer=False)
    all_due(office)
    for domain in "abc":
        office.post(f"first@{domain}.example")
        office.run()
    restart(office)
    places = {place.next_hop.domain: place for place in office.relayer._shelves._shelves}
    assert {domain: place.shelved for domain, place in places.items()} == {"b.example": 200, "c.example": 200}
    alive(office, host)
    alive(office, other, "c.example")
    office.relayer.destinations.look_at(NextHop("a.example"))
    office.post("fresh@a.example")
    office.run()
    office.pass_time(2, 0.01)
    assert taken(host) == sorted([f"{n:03}@b.example" for n in range(200)] + ["fresh@a.example"])
    assert places["c.example"].shelved == 200
    assert not other.mail


def test_whoever_ends_a_rest_frees_the_shelf(office: Office) -> None:
    """As a probe that passes does."""
    host = dead(office)
    shelf(office, 500)
    office.pass_time(300, 1)
    assert office.relayer._shelves
    alive(office, host)
    office.relayer.destinations.look_at(NextHop("a.example"))
    office.run()
    office.pass_time(2, 0.01)
    assert not office.relayer._shelves
    assert taken(host)


def test_a_clock_set_back_does_not_put_a_look_off(office: Office) -> None:
    host = dead(office)
    shelf(office, 500)
    office.pass_time(300, 1)
    (place,) = office.relayer._shelves._shelves
    office.clock_set_by = -86_400.0
    alive(office, host)
    assert not place.is_resting
    assert place.resting.seconds_left(place.budget.pool) == 0.0
    office.post("fresh@a.example")
    office.run()
    office.pass_time(2, 0.01)
    assert "fresh@a.example" in taken(host)
    assert not office.relayer._shelves


def test_the_sender_is_told_in_time(tmp_path: Path) -> None:
    """A warning, and at last a report, although the host rests and each look takes a few of very many only."""
    office = Office(tmp_path, {"queuelifetime": "7200\n", "delaywarn": "3600\n"})
    sender = office.host("mx.here.example")
    dead(office)
    ids = shelf(office, 1000)
    office.pass_time(3500, 10)
    assert not sender.mail
    assert len(office.relayer._shelves) > 0
    office.pass_time(110, 10)
    office.pass_time(2, 0.02)
    assert len(sender.mail) > 500
    assert all(
        any(entry.event == DELAY for entry in office.history(id)) for id in ids if ("1", id) in office.relayer._shelves
    )
    office.pass_time(12_000, 10)
    office.pass_time(5, 0.02)
    assert not set(ids) & set(office.ids_stored)
    assert len(office.said("failed")) >= 1000


# ---------------------------------------------------------------- the shelves by themselves


class Place:
    """What a shelf needs of a destination."""

    shelved = 0
    lanes = 2

    def __len__(self) -> int:
        return 3


def place() -> Destination:
    return Place()  # type: ignore[return-value]


@given(st.lists(st.tuples(st.sampled_from(["put", "discard", "take"]), st.integers(0, 9), st.integers(0, 2))))
def test_a_message_is_on_one_shelf_at_most(events: list[tuple[str, int, int]]) -> None:
    shelves, places = Shelves(), [place() for _ in range(3)]
    model: list[list[tuple[str, str]]] = [[], [], []]
    for what, n, where in events:
        key = ("1", str(n))
        if what != "take":
            for keys in model:
                if key in keys:
                    keys.remove(key)
        if what == "put":
            shelves.put(key, places[where], float(n))
            model[where].append(key)
        elif what == "discard":
            shelves.discard(key)
        else:
            assert shelves.take(places[where], 2) == model[where][:2]
            del model[where][:2]
        assert [p.shelved for p in places] == [len(keys) for keys in model]
        assert len(shelves) == sum(map(len, model))
        assert shelves.stuck == 5 * sum(1 for keys in model if keys)
    assert sorted(shelves.clear()) == sorted((key, float(key[1])) for keys in model for key in keys)
    assert not shelves
    assert all(p.shelved == 0 for p in places)


def test_when_a_message_must_come_off(office: Office) -> None:
    id = office.post("x@a.example", offer=False)
    attempt = Attempt(office.spool, id, office.spool.envelope(id), tried=True)
    settings, arrived = office.snapshot.settings, attempt.arrived
    assert settings.delay_warn == 14_400
    assert until(attempt, 0.0, settings, arrived) == arrived + 14_400
    assert until(attempt, arrived + 14_000, settings, arrived + 14_400) == 0.0, "the warning is due"
    week = arrived + settings.queue_lifetime + 1.0
    assert until(attempt, arrived + 14_500, settings, arrived + 14_600) == week, "it was decided about"
    attempt.warned = True
    assert until(attempt, 0.0, settings, arrived) == week
    assert until(attempt, 0.0, settings, week) == 0.0


def test_there_is_room_before_a_line_is_empty() -> None:
    assert LOW + REFILL <= LINE < FRESH_LINE
