"""Mail that waits for TLS, and the probes that let it go: real dialer, real TLS, hosts in memory, time by order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent

from qmtls.delivery.plan import NextHop
from qmtls.delivery.schedule import MOST_RETEST
from qmtls.service.retest import MOST_PROBES
from qmtls.service.retestprobe import Finding
from qmtls.spool.api import Attempt, Filing
from tests.net import certs
from tests.net.hosts import HANG, Host
from tests.service.office import Office, taken

RIGHT, WRONG = certs.server("mx.a.example"), certs.authority("another CA").leaf("mx.a.example")
PIN = {"a.example.pem": RIGHT.pem}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path, {**PIN, "policyretest": "60\n"})


@pytest.fixture
def host(office: Office) -> Host:
    return office.host("mx.a.example", Host(WRONG))


def waits(office: Office, *recipients: str) -> list[str]:
    """A message to each, all of which were tried."""
    ids = [office.post(recipient) for recipient in recipients or ("x@a.example",)]
    office.run()
    return ids


def reload(office: Office, files: dict[str, Any]) -> None:
    office.load(files)
    office.relayer.reloaded()
    office.run()


# ---------------------------------------------------------------- the probe


def test_a_probe_that_passes_lets_all_mail_go(office: Office, host: Host) -> None:
    waits(office, "x@a.example", "y@a.example", "z@a.example")
    host.leaf = RIGHT
    before = len(host.visits)
    office.pass_time(70)
    assert taken(host) == ["x@a.example", "y@a.example", "z@a.example"]
    assert not office.ids_stored
    (line,) = office.said("released")
    assert "domain=a.example messages=3" in line and "a probe without mail passes at mx.a.example (192.0.2.1)" in line
    probe = host.visits[before]
    assert probe.verbs == ["EHLO", "STARTTLS", "EHLO", "QUIT"]


def test_one_probe_for_a_next_hop_and_longer_waits_each_time(office: Office, host: Host) -> None:
    ids = waits(office, *(f"{n}@a.example" for n in range(20)))
    before = len(host.visits)
    for id in ids:
        far = office.now() + 1e6
        office.spool.record([Filing(id, Attempt(office.now(), event="release"), far)])
        office.relayer._waiting.add(("1", id), far)
    times = []
    for _ in range(4000):
        count = len(host.visits)
        office.pass_time(1)
        times += [office.now()] * (len(host.visits) - count)
    gaps = [round(b - a) for a, b in pairwise(times[:7])]
    for gap, wait in zip(gaps, (120, 240, 480, 720, 720, 720), strict=True):
        assert wait <= gap <= wait * 1.1 + 2
    assert all("MAIL" not in visit.verbs for visit in host.visits[before:])
    assert len(office.shown) == len(host.visits), "what probes see is history too"
    lines = office.said("retest")
    assert (
        len(lines) == len(host.visits) - before
        and "domain=a.example messages=20 again=" in lines[0]
        and "does not pin" in lines[0]
    )


def test_mail_that_waits_for_something_else_is_not_probed(office: Office) -> None:
    host = office.host("mx.a.example", Host(RIGHT, replies={"RCPT": "450 4.2.1 later"}))
    office.host("mx.b.example", Host(greeting="421 4.3.2 closed"))
    waits(office, "x@a.example", "x@b.example", "x@nowhere.example")
    office.pass_time(300)
    assert not len(office.relayer.retester)
    assert len(host.visits) == 1 and not office.said("retest")


def test_a_paused_host_is_left_alone(tmp_path: Path) -> None:
    office = Office(tmp_path, {**PIN, "policyretest": "60\n"})
    host = office.host("mx.a.example", Host(WRONG))
    waits(office)
    office.load({**PIN, "policyretest": "60\n", "holds": "destination=mx.a.example\n"})
    count = len(host.visits)
    office.pass_time(200)
    assert len(host.visits) == count
    assert "control/holds:1" in office.said("retest")[0]


def test_held_remote_mail_is_not_probed(tmp_path: Path) -> None:
    office = Office(tmp_path, {**PIN, "policyretest": "60\n"})
    host = office.host("mx.a.example", Host(WRONG))
    waits(office)
    reload(office, {**PIN, "policyretest": "60\n", "concurrencyremote": "0\n"})
    count = len(host.visits)
    office.pass_time(200)
    assert len(host.visits) == count


def test_a_second_host_that_passes_is_enough(office: Office, host: Host) -> None:
    second = office.host("mx2.a.example", Host(WRONG))
    waits(office)
    second.leaf = RIGHT
    office.pass_time(70)
    assert taken(host, second) == ["x@a.example"]


def test_probes_are_no_sessions_of_tls_reports(office: Office, host: Host) -> None:
    assert office.relayer.retester._dialer.count is None


def test_only_so_many_at_a_time_and_the_others_follow(tmp_path: Path) -> None:
    domains = [f"d{n}.example" for n in range(MOST_PROBES + 5)]
    policy = "".join(f"{domain} encrypt\n" for domain in domains)
    office = Office(tmp_path, {"tlspolicy": policy, "policyretest": "60\n"})
    hosts = [office.host(f"mx.{domain}") for domain in domains]
    waits(office, *(f"x@{domain}" for domain in domains))
    for one in hosts:
        one.greeting = HANG
    office.pass_time(80)
    assert sum(len(one.visits) == 2 for one in hosts) == MOST_PROBES
    office.pass_time(60)
    assert all(len(one.visits) >= 2 for one in hosts), "a host that hangs is given up after REPLY_SECONDS"


def test_a_passed_probe_ends_the_rest_of_a_host_that_was_down(tmp_path: Path) -> None:
    """It came back with the right key."""
    office = Office(tmp_path, {**PIN, "policyretest": "30\n"})
    host = office.host("mx.a.example", Host(WRONG))
    waits(office)
    del office.reactor.hosts["192.0.2.1", 25]
    waits(office, "y@a.example")
    assert office.said("resting")
    waits(office, "z@a.example")
    assert "not asked again after" in office.said("deferred")[-1]
    office.reactor.hosts["192.0.2.1", 25] = host.accept
    host.leaf = RIGHT
    office.pass_time(35)
    assert "x@a.example" in taken(host)


def test_where_mail_finds_otherwise_than_probes_the_waits_grow_on(
    office: Office, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two hosts behind one address has the right key, say."""
    waits(office, "x@a.example", "y@a.example")

    async def passes(*_: object) -> Finding:
        return Finding(True, "mx.a.example: fine")

    monkeypatch.setattr("qmtls.service.retest.probe", passes)
    times = []
    for _ in range(2000):
        count = len(office.said("released"))
        office.pass_time(1)
        times += [office.now()] * (len(office.said("released")) - count)
    gaps = [round(b - a) for a, b in pairwise(times[:4])]
    for gap, wait in zip(gaps, (120, 240, 480), strict=True):
        assert wait <= gap <= wait * 1.1 + 2
    assert not host.mail and len(office.ids_stored) == 2


def test_a_fault_of_ours_is_a_probe_that_does_not_pass(
    office: Office, host: Host, failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits(office)

    async def broken(*_: object) -> None:
        raise RuntimeError("oh")

    with monkeypatch.context() as patch:
        patch.setattr("qmtls.service.retest.probe", broken)
        office.pass_time(70)
    assert "trouble on our side" in office.said("retest")[0]
    host.leaf = RIGHT
    office.pass_time(140)
    assert taken(host) == ["x@a.example"]
    assert [str(failure["log_failure"].value) for failure in failures] == ["oh"]
    failures.clear()


# ---------------------------------------------------------------- attempts beside it


def test_no_probe_while_mail_is_tried(office: Office, host: Host) -> None:
    waits(office)
    host.greeting = HANG
    office.post("y@a.example")
    office.run()
    count = len(host.visits)
    for _ in range(40):
        office.pass_time(1)
    assert len(host.visits) == count
    host.greeting = "220 there"
    host.visits[-1].reply("421 4.3.2 closing")
    office.pass_time(140)
    assert len(host.visits) > count and office.said("retest"), "but it goes on afterwards"


def test_an_attempt_that_finds_the_same_is_as_good_as_a_probe(office: Office, host: Host) -> None:
    waits(office)
    for _ in range(5):
        office.pass_time(50)
        waits(office)
    assert not office.said("retest")
    assert len(host.visits) == 6
    office.pass_time(140)
    assert len(office.said("retest")) >= 1


def test_fresh_mail_that_gets_through_takes_the_others_with_it(office: Office, host: Host) -> None:
    waits(office, "x@a.example", "y@a.example")
    host.leaf = RIGHT
    waits(office, "z@a.example")
    office.pass_time(1)
    assert taken(host) == ["x@a.example", "y@a.example", "z@a.example"]
    assert "other mail meets the demand at mx.a.example" in office.said("released")[0]
    assert not len(office.relayer.retester)


def test_also_if_it_was_refused_behind_the_verdict(office: Office, host: Host) -> None:
    waits(office, "x@a.example")
    host.leaf = RIGHT
    host.replies["RCPT"] = lambda _, line: "550 5.1.1 nobody" if "bad" in line else ""
    waits(office, "bad@a.example")
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_a_message_says_nothing_about_another_demand(tmp_path: Path) -> None:
    """With `TLS-Required: no` less is demanded: that mail goes, and the other waits on."""
    office = Office(tmp_path, {"tlsdefault": "sts\n", "policyretest": "60\n"})
    host = office.host("mx.a.example", Host(WRONG))
    (strict,) = waits(office)
    assert office.history(strict)[0].unmet == (0,)
    office.post("y@a.example", tls_optional=True)
    office.run()
    office.pass_time(1)
    assert strict in office.ids_stored
    assert len(office.relayer.retester) >= 1
    assert "x@a.example" not in taken(host)


def test_mail_that_failed_of_age_is_not_waited_for(tmp_path: Path) -> None:
    office = Office(tmp_path, {**PIN, "policylifetime": "0\n", "policyretest": "60\n"})
    host = office.host("mx.a.example", Host(WRONG))
    office.host("mx.here.example")
    office.reactor.pass_time(1, 1)
    id = office.post("x@a.example", offer=False)
    office.pass_time(1)
    office.relayer.rescan(office.spool)
    office.pass_time(1)
    assert id not in office.ids_stored and not len(office.relayer.retester)
    office.pass_time(200)
    assert len(host.visits) == 1


# ---------------------------------------------------------------- who waits no longer


def test_nobody_is_asked_for_mail_that_is_held_or_gone(office: Office, host: Host) -> None:
    held, gone = waits(office, "x@a.example", "y@a.example")
    office.spool.record([Filing(held, Attempt(office.now(), event="hold"), 0.0, held=True)])
    office.relayer.rescan(office.spool)
    office.spool.remove([gone])
    office.relayer._waiting.discard(("1", gone))  # as when its time came and it was not there
    count = len(host.visits)
    office.pass_time(200)
    assert len(host.visits) == count
    assert not len(office.relayer.retester)


def test_what_is_known_after_a_restart(office: Office, host: Host, tmp_path: Path) -> None:
    """Nothing, until an attempt was made: then probes go on."""
    ids = waits(office, "x@a.example", "y@a.example")
    (tmp_path / "second").mkdir()
    again = Office(tmp_path / "second", {**PIN, "policyretest": "60\n"})
    again.reactor.rightNow = office.reactor.rightNow
    host = again.host("mx.a.example", Host(WRONG))
    again.spool = office.spool
    again.relayer.adopt(again.spool)
    again.pass_time(200)
    assert not host.visits
    again.pass_time(300)  # until their own time
    assert len(again.relayer.retester) == 1
    host.leaf = RIGHT
    again.pass_time(140)
    assert taken(host) == ["x@a.example", "y@a.example"]
    assert not set(ids) & set(again.ids_stored)


def test_the_end_of_the_service_is_the_end_of_probes(office: Office, host: Host) -> None:
    waits(office)
    office.relayer.stop()
    count = len(host.visits)
    office.pass_time(300)
    assert len(host.visits) == count
    assert not office.relayer.retester._hops[NextHop("a.example")].timer.active()


# ---------------------------------------------------------------- reloads


def test_a_new_pin_is_tried_at_once(office: Office, host: Host) -> None:
    waits(office, "x@a.example", "y@a.example")
    reload(office, {"a.example.pem": WRONG.pem, "policyretest": "60\n"})
    office.pass_time(1)
    assert taken(host) == ["x@a.example", "y@a.example"]
    assert "a probe without mail passes" in office.said("released")[0]


def test_a_reload_that_changes_no_demand_asks_nobody(office: Office, host: Host) -> None:
    waits(office)
    count = len(host.visits)
    reload(office, {**PIN, "policyretest": "60\n", "databytes": "1000\n"})
    office.pass_time(1)
    assert len(host.visits) == count


def test_a_change_during_a_probe_counts(office: Office, host: Host) -> None:
    waits(office)
    host.greeting = HANG
    office.pass_time(70)
    probe = host.visits[-1]
    reload(office, {"a.example.pem": WRONG.pem, "policyretest": "60\n"})
    host.greeting = "220 there"
    probe.reply("421 4.3.2 closing")
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_another_route_makes_it_due(office: Office, host: Host) -> None:
    waits(office)
    office.names.hosts["relay.example"] = "192.0.2.99"
    relay = Host()
    office.reactor.hosts["192.0.2.99", 25] = relay.accept
    reload(office, {"policyretest": "60\n", "smtproutes": "a.example:relay.example\n"})
    office.pass_time(1)
    assert taken(relay) == ["x@a.example"]
    assert "it goes another way now" in office.said("released")[0]


def test_without_probes_a_changed_rule_makes_it_due(tmp_path: Path) -> None:
    office = Office(tmp_path, {**PIN, "policyretest": "0\n"})
    host = office.host("mx.a.example", Host(WRONG))
    waits(office)
    count = len(host.visits)
    office.pass_time(300)
    assert len(host.visits) == count
    reload(office, {"a.example.pem": WRONG.pem, "policyretest": "0\n"})
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]
    assert "the rules changed" in office.said("released")[0]


def test_the_interval_is_read_again(tmp_path: Path) -> None:
    office = Office(tmp_path, {**PIN, "policyretest": "0\n"})
    host = office.host("mx.a.example", Host(WRONG))
    waits(office)
    reload(office, {**PIN, "policyretest": "30\n"})
    host.leaf = RIGHT
    office.pass_time(40)
    assert taken(host) == ["x@a.example"]


# ---------------------------------------------------------------- whatever happens

STEPS = st.lists(
    st.sampled_from(
        ["right", "wrong", "plain", "down", "mail", "minute", "hour", "reload", "rescan", "all due", "stall"]
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_no_mail_to_the_wrong_host_and_all_mail_to_the_right_one(tmp_path_factory: Any, steps: list[str]) -> None:
    """In the end the host is as it must be, nobody says retry, and everything has gone within the longest wait."""
    office = Office(tmp_path_factory.mktemp("office"), {**PIN, "policyretest": "60\n"})
    host = office.host("mx.a.example", Host(WRONG))
    posted = ["0@a.example"]
    office.post(posted[0])
    office.run()
    for step in steps:
        office.pass_time(5)  # what was opened to another host is not kept
        before = len(host.mail)
        match step:
            case "right" | "wrong" | "plain":
                office.reactor.hosts["192.0.2.1", 25] = host.accept
                host.leaf = {"right": RIGHT, "wrong": WRONG, "plain": None}[step]
                host.greeting = "220 there"
            case "down":
                office.reactor.hosts.pop(("192.0.2.1", 25), None)
            case "stall":
                host.greeting = HANG
            case "mail":
                posted.append(f"{len(posted)}@a.example")
                office.post(posted[-1])
            case "minute" | "hour":
                office.pass_time(60 if step == "minute" else 3600)
            case "reload":
                reload(office, {**PIN, "policyretest": "60\n", "databytes": f"{len(posted)}\n"})
            case "rescan":
                office.relayer.rescan(office.spool)
            case "all due":
                office.relayer.make_all_due()
        office.run()
        assert host.leaf is RIGHT or len(host.mail) == before
    office.reactor.hosts["192.0.2.1", 25] = host.accept
    host.leaf, host.greeting = RIGHT, "220 there"
    # Who is being tried just now, at a host that said nothing, may wait for something else afterwards.
    for_tls = {
        key for hop in office.relayer.retester._hops.values() for key in hop.keys if key not in office.relayer._active
    }
    office.pass_time(60 * MOST_RETEST * 1.2)
    assert not {id for _, id in for_tls} & set(office.ids_stored)
    office.pass_time(90_000, 100)  # what waited because it was down
    assert taken(host) == sorted(posted)
    assert not office.ids_stored and not office.relayer.busy
