"""Hosts that are down: they rest, mail that comes meanwhile is told so, and then one lane looks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from qmtls.delivery.window import FIRST_REST, INITIAL, JITTER, LONGEST_REST
from qmtls.service.destination import CUT_SHORT
from tests.net import certs, wire
from tests.net.doubles import TROUBLE
from tests.net.hosts import CLOSE, HANG, Host
from tests.service.office import Office, taken


def refuse(office: Office, name: str) -> None:
    office.reactor.hosts.pop((office.names.hosts[name], 25), None)


def dead(office: Office, domain: str = "a.example") -> Host:
    """Its host refuses connections, until it is put back by `alive`."""
    host = office.host(f"mx.{domain}")
    refuse(office, f"mx.{domain}")
    return host


def alive(office: Office, host: Host, domain: str = "a.example") -> None:
    office.reactor.hosts[office.names.hosts[f"mx.{domain}"], 25] = host.accept


def test_mail_that_comes_during_a_rest_is_told_and_nobody_connects(office: Office) -> None:
    dead(office)
    office.post("x@a.example")
    office.run()
    assert len(office.reactor.dialled) == 1
    (line,) = office.said("resting")
    assert 'destination="a.example" failed=1 next="' in line and "cannot be connected to" in line
    ids = [office.post(f"{n}@a.example") for n in range(50)]
    office.run()
    assert len(office.reactor.dialled) == 1
    for id in ids:
        ((_, reason),) = office.history(id)[0].reasons
        assert reason.startswith("not asked again after 2027-01-15 08:00:00 UTC: mx.a.example (192.0.2.1) cannot be")
        assert "; the next look is at 2027-01-15 08:0" in reason
        assert FIRST_REST * (1 - JITTER) <= office.due(id) <= FIRST_REST, "it is due then"


def test_then_one_lane_looks_and_the_others_wait_for_it(office: Office) -> None:
    dead(office)
    for n in range(30):
        office.post(f"{n}@a.example")
        office.run()
    office.reactor.hosts[office.names.hosts["mx.a.example"], 25] = wire.HANG
    before = len(office.reactor.dialled)
    office.pass_time(FIRST_REST + 5)
    assert len(office.reactor.dialled) == before + 1
    for n in range(30):
        office.post(f"more{n}@a.example")
        office.run()
    assert len(office.reactor.dialled) == before + 1


def test_a_host_that_is_back_gets_all_its_mail(office: Office) -> None:
    host = dead(office)
    ids = [office.post(f"{n:02}@a.example") for n in range(30)]
    office.run()
    late = [office.post(f"late{n}@a.example") for n in range(30)]
    office.run()
    alive(office, host)
    office.pass_time(FIRST_REST + 5)
    assert len(host.mail) == 30, "those who were told are due at the next look"
    assert not set(late) & set(office.ids_stored)
    assert office.said("answers")
    office.pass_time(500)
    assert len(host.mail) == 60, "those who were tried at their own time"
    assert not set(ids) & set(office.ids_stored)


def test_rests_grow(office: Office) -> None:
    dead(office)
    office.load({"queuelifetime": "1000000\n"})
    looks = []
    for _ in range(3000):
        office.post("x@a.example")
        before = len(office.reactor.dialled)
        office.pass_time(10, 10)
        if len(office.reactor.dialled) > before:
            looks.append(office.reactor.seconds())
    waits = [later - earlier for earlier, later in pairwise(looks)]
    assert all(later > 1.3 * earlier for earlier, later in pairwise(waits[:5]))
    assert all(LONGEST_REST * (1 - JITTER) - 10 <= wait <= LONGEST_REST + 20 for wait in waits[6:])
    assert len(waits) > 8


def test_an_order_by_name_looks_at_once(office: Office) -> None:
    from tests.service.test_orders import order

    host = dead(office)
    id, other = office.post("x@a.example"), office.post("y@a.example")
    office.run()
    alive(office, host)
    office.pass_time(1)
    order(office, id, "release")  # as `queue retry` and `queue release`: due now
    office.run()
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]
    assert office.ids_stored == [other]


def test_an_order_for_very_many_is_one_look(office: Office) -> None:
    dead(office)
    for n in range(300):
        office.post(f"{n}@a.example")
    office.run()
    office.pass_time(1)
    before = len(office.reactor.dialled)
    now = office.now()
    from qmtls.spool.api import Attempt, Filing

    for id in office.ids_stored:
        office.spool.record([Filing(id, Attempt(now, event="release"), now)])
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(5)
    assert len(office.reactor.dialled) == before + 1
    assert office.relayer.busy == 0


def test_alrm_looks_at_once(office: Office) -> None:
    host = dead(office)
    for n in range(5):
        office.post(f"{n}@a.example")
    office.run()
    alive(office, host)
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert len(host.mail) == 5


def test_a_reload_ends_rests(office: Office) -> None:
    """An administrator who mends a route or the name servers need not wait."""
    host = dead(office)
    office.post("x@a.example")
    office.run()
    alive(office, host)
    office.load({})
    office.relayer.reloaded()
    office.post("y@a.example")
    office.run()
    assert taken(host) == ["y@a.example"]


def test_names_that_cannot_be_looked_up_rest_too(office: Office) -> None:
    office.names.mail["a.example"] = TROUBLE
    office.post("x@a.example")
    office.run()
    asked = len(office.names.asked)
    office.post("y@a.example")
    office.run()
    assert len(office.names.asked) == asked
    assert "not asked again after" in office.said("deferred")[1]


def test_a_tls_demand_that_is_not_met_is_no_rest(tmp_path: Path) -> None:
    """Such mail has probes of its own; a new pin counts for the next message."""
    office = Office(tmp_path, {"tlspolicy": "a.example encrypt\n"})
    host = office.host("mx.a.example")
    for n in range(2):
        office.post(f"{n}@a.example")
        office.run()
    assert len(host.visits) == 2
    assert not office.said("resting")


def test_a_domain_that_does_not_exist_is_no_rest(office: Office) -> None:
    office.host("mx.here.example")
    for n in range(2):
        office.post(f"{n}@nowhere.example")
        office.run()
    assert len(office.said("failed")) == 2
    assert not office.said("resting")


@pytest.mark.parametrize("answer", [CLOSE, HANG, "421 4.3.2 no more"])
def test_a_host_that_takes_connections_but_no_message(office: Office, answer: str) -> None:
    """After a few in a row those in line are told; a single message that a host chokes on harms nobody."""
    host = office.host("mx.a.example", Host(replies={".": answer}))
    ids = [office.post(f"{n}@a.example") for n in range(40)]
    office.run()
    office.pass_time(70)
    assert len(host.visits) <= INITIAL + CUT_SHORT
    assert all(office.history(id) for id in ids)
    assert "took no message to its end lately; the last time: " in office.said("resting")[0]
    assert not host.mail


def test_a_message_that_a_host_chokes_on_harms_nobody(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": lambda _, line: CLOSE if "poison" in line else ""}))
    for n in range(20):
        office.post(f"{n}@a.example")
        office.post(f"poison{n}@a.example") if n in (3, 9) else None
    office.run()
    office.pass_time(5)
    assert len(host.mail) == 20
    assert not office.said("resting")


def test_hosts_rest_for_all_domains_that_lead_to_them(office: Office) -> None:
    dead(office)
    office.names.mail["b.example"] = [(10, "mx.a.example")]
    office.post("x@a.example")
    office.run()
    office.post("x@b.example")
    office.run()
    assert len(office.reactor.dialled) == 1
    assert "cannot be connected to" in office.said("deferred")[1]
    assert "not asked again" in office.said("deferred")[1]


def test_mail_that_is_too_old_comes_back_during_a_rest(tmp_path: Path) -> None:
    office = Office(tmp_path, {"queuelifetime": "1000\n"})
    sender = office.host("mx.here.example")
    dead(office)
    old = office.post("old@a.example")
    office.run()
    for _ in range(300):
        office.post("x@a.example")
        office.pass_time(10, 10)
    assert old not in office.ids_stored
    assert any(b"old@a.example" in mail.content for mail in sender.mail)


def test_idle_channels_of_hosts_that_answer_are_closed_in_time(office: Office) -> None:
    from qmtls.service.destination import IDLE_SECONDS

    host = office.host("mx.a.example", Host(certs.server("mx.a.example")))
    office.post("x@a.example")
    office.run()
    assert not host.visits[0].lost
    office.pass_time(IDLE_SECONDS + 1)
    assert host.visits[0].verbs[-1] == "QUIT"
    assert host.visits[0].lost
