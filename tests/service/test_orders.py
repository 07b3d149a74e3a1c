"""What operators order: holds by rule and by name, paused hosts, mail returned. Nobody is forgotten."""

from __future__ import annotations

from pathlib import Path

from qmtls.spool.api import Attempt, Filing
from qmtls.spool.memory import MemorySpool
from tests.net.hosts import HANG, Host
from tests.service.office import START, Office, taken

TOMORROW = "2027-01-16"  # START is 2027-01-15, 08:00 UTC
DAY = 86_400.0


def order(office: Office, id: str, event: str, reason: str = "") -> None:
    reasons = ((0, reason),) if reason else ()
    entry = Attempt(office.now(), event=event, reasons=reasons)
    held, back = event == "hold", event == "bounce"
    assert office.spool.record([Filing(id, entry, office.now(), held=held, returning=back)]) == [None]
    office.relayer.rescan(office.spool)
    office.run()


def reload(office: Office, holds: str) -> None:
    office.load({"holds": holds})
    office.relayer.reloaded()
    office.run()
    office.pass_time(1)


# ---------------------------------------------------------------- rules


def test_new_mail_is_held_until_the_rule_goes(tmp_path: Path) -> None:
    office = Office(tmp_path, {"holds": "domain=a.example reason=moving\n"})
    host = office.host("mx.a.example")
    id = office.post("x@a.example")
    office.run()
    assert office.said("held") == [f'held id={id} reason="held by control/holds:1 (domain=a.example): moving"']
    office.relayer.rescan(office.spool)
    office.relayer.make_all_due()
    office.pass_time(30 * DAY)
    assert not host.visits
    assert office.history(id) == (), "nothing is written"
    assert not office.relayer.busy
    reload(office, "domain=b.example\n")
    assert taken(host) == ["x@a.example"]
    assert not office.ids_stored


def test_waiting_mail_is_held_when_its_time_comes(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    id = office.post("x@a.example")
    office.run()
    host.replies.clear()
    reload(office, "from=s@here.example\n")
    office.pass_time(office.due(id) + 10)
    assert not host.mail
    assert len(office.history(id)) == 1
    reload(office, "")
    assert taken(host) == ["x@a.example"]


def test_a_rule_ends_by_itself(tmp_path: Path) -> None:
    office = Office(tmp_path, {"holds": f"domain=a.example until={TOMORROW}\n"})
    host = office.host("mx.a.example")
    office.post("x@a.example")
    office.run()
    office.pass_time(DAY)
    office.relayer.rescan(office.spool)
    office.run()
    assert not host.visits
    office.pass_time(DAY)
    office.relayer.rescan(office.spool)
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_the_others_of_a_message_go(tmp_path: Path) -> None:
    office = Office(tmp_path, {"holds": "to=x@a.example\n"})
    host, other = office.host("mx.a.example"), office.host("mx.b.example")
    id = office.post("x@a.example", "y@a.example", "z@b.example")
    office.run()
    assert taken(host, other) == ["y@a.example", "z@b.example"]
    (entry,) = office.history(id)
    assert (entry.done, entry.deferred) == ((1, 2), (0,))
    assert entry.reasons == ((0, "held by control/holds:1 (to=x@a.example)"),)
    office.pass_time(10 * DAY, 3600)
    assert taken(host, other) == ["y@a.example", "z@b.example"]
    assert len(office.history(id)) == 1, "held mail does not grow too old"
    reload(office, "")
    assert taken(host, other) == ["x@a.example", "y@a.example", "z@b.example"]
    assert not office.ids_stored


def test_what_is_held_does_not_expire_beside_what_does(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"queuelifetime": "100\n", "holds": "to=x@a.example\n"}
    office = Office(tmp_path, files)
    sender = office.host("mx.here.example")
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    id = office.post("x@a.example", "y@a.example")
    office.run()
    office.pass_time(500)
    assert office.history(id)[1].failed == (1,)
    assert b"y@a.example" in sender.mail[0].content and b"x@a.example" not in sender.mail[0].content
    host.replies.clear()
    office.load({})
    office.relayer.reloaded()
    office.run()
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_mail_in_line_is_held_when_its_turn_comes(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.a.example", Host(replies={"EHLO": HANG}))
    for name in ("one", "two", "three"):
        office.post(f"{name}@a.example")
    office.run()
    host.replies.clear()
    office.load({"concurrencyremote": "1\n", "holds": "to=two@a.example,three@a.example\n"})
    office.relayer.reloaded()
    office.pass_time(100)
    assert "two@a.example" not in taken(host)
    office.relayer.make_all_due()
    office.pass_time(10)
    assert taken(host) == ["one@a.example"]
    reload(office, "")
    office.relayer.make_all_due()
    office.pass_time(10)
    assert taken(host) == ["one@a.example", "three@a.example", "two@a.example"]
    assert not office.ids_stored


# ---------------------------------------------------------------- paused hosts


def test_a_paused_host_is_not_asked_and_the_next_one_is(tmp_path: Path) -> None:
    office = Office(tmp_path, {"holds": "destination=mx.a.example\n"})
    first, second = office.host("mx.a.example"), office.host("mx2.a.example")
    office.post("x@a.example")
    office.run()
    assert not first.visits
    assert taken(second) == ["x@a.example"]


def test_mail_waits_for_a_host_that_is_paused(tmp_path: Path) -> None:
    office = Office(tmp_path, {"holds": "destination=MX.a.example reason=repairs\n"})
    host = office.host("mx.a.example")
    ids = [office.post(f"{n}@a.example") for n in range(3)]
    office.run()
    office.pass_time(DAY)
    assert len(office.said("held")) == 3
    assert "repairs" in office.said("held")[0]
    assert not host.visits and not office.history(ids[0])
    reload(office, "")
    assert len(taken(host)) == 3
    assert not office.ids_stored


def test_a_paused_relay(tmp_path: Path) -> None:
    routes: dict[str, str | bytes] = {"smtproutes": "a.example:[192.0.2.77]\n"}
    office = Office(tmp_path, {**routes, "holds": "destination=192.0.2.77\n"})
    host = Host()
    office.reactor.hosts["192.0.2.77", 25] = host.accept
    office.post("x@a.example")
    office.run()
    assert not host.visits
    office.load(routes)
    office.relayer.reloaded()
    office.run()
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


# ---------------------------------------------------------------- by name


def test_a_message_in_line_is_held_by_name(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.a.example", Host(replies={"EHLO": HANG}))
    office.post("one@a.example")
    two = office.post("two@a.example")
    office.run()
    order(office, two, "hold")
    host.replies.clear()
    office.pass_time(2000)
    office.relayer.make_all_due()
    office.pass_time(10)
    assert taken(host) == ["one@a.example"]
    assert not office.relayer.busy
    order(office, two, "release")
    office.pass_time(1)
    assert taken(host) == ["one@a.example", "two@a.example"]


def test_a_hold_during_the_attempt_counts_after_it(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": HANG}))
    id = office.post("x@a.example")
    office.run()
    order(office, id, "hold")
    office.pass_time(100)
    assert office.history(id)[-1].deferred == (0,)
    host.replies.clear()
    office.pass_time(DAY)
    assert not host.mail
    assert next(iter(office.spool.scan())).held


def test_mail_is_returned_at_once(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    sender = office.host("mx.here.example")
    id = office.post("x@a.example")
    office.run()
    order(office, id, "bounce", "returned by the administrator: spam")
    office.pass_time(1)
    (report,) = sender.mail
    assert report.recipients == ["s@here.example"]
    assert b"returned by the administrator: spam" in report.content
    assert b"Status: 5.3.2" in report.content
    assert not office.ids_stored
    assert len(host.visits) == 1


def test_held_mail_and_mail_under_a_rule_is_returned(tmp_path: Path) -> None:
    office = Office(tmp_path, {"holds": "to=x@a.example\n"})
    sender = office.host("mx.here.example")
    ruled, named = office.post("x@a.example"), office.post("y@a.example", offer=False)
    office.run()
    order(office, named, "hold")
    order(office, named, "bounce")
    order(office, ruled, "bounce")
    office.pass_time(1)
    assert len(sender.mail) == 2
    assert not office.ids_stored


def test_a_message_in_line_is_returned_when_its_turn_comes(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.a.example", Host(replies={"EHLO": HANG}))
    sender = office.host("mx.here.example")
    office.post("one@a.example")
    two = office.post("two@a.example")
    office.run()
    order(office, two, "bounce")
    host.replies.clear()
    office.pass_time(100)
    office.relayer.rescan(office.spool)  # as once a minute
    office.pass_time(1)
    assert b"two@a.example" in sender.mail[0].content
    office.relayer.make_all_due()
    office.pass_time(10)
    assert taken(host) == ["one@a.example"]
    assert not office.ids_stored


def test_an_order_to_return_outlives_a_crash_and_other_attempts(tmp_path: Path) -> None:
    """The log says it, whatever the time of the file; who got it already is not told of."""
    office = Office(tmp_path)
    sender = office.host("mx.here.example")
    host = office.host("mx.a.example")
    other = MemorySpool("2")
    id = office.post("x@a.example", "y@a.example", spool=other, offer=False)
    other.record([Filing(id, Attempt(START, done=(0,), deferred=(1,)), START + 1)])
    other.record([Filing(id, Attempt(START, event="bounce"), START)])
    office.relayer.adopt(other)
    office.pass_time(2)
    assert not host.visits
    (report,) = sender.mail
    assert b"y@a.example" in report.content and b"<x@a.example>" not in report.content
    assert not list(other.scan())


def test_a_release_takes_the_order_to_return_back(office: Office) -> None:
    host = office.host("mx.a.example")
    id = office.post("x@a.example", offer=False)
    order_only = Attempt(START, event="bounce")
    office.spool.record([Filing(id, order_only, START, returning=True)])
    order(office, id, "release")
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_a_listing_comes_in_portions(office: Office, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("qmtls.service.listings.LISTED", 7)
    host = office.host("mx.a.example")
    for n in range(30):
        office.post(f"{n:02}@a.example", offer=False)
    office.desk.open = False
    office.relayer.rescan(office.spool)
    office.relayer.rescan(office.spool)  # while it is being listed: once more afterwards
    assert len(office.desk.waiting) == 1
    office.desk.work()
    assert len(office.desk.waiting) >= 1
    office.desk.open = True
    office.desk.work()
    office.run()
    office.pass_time(5)
    assert taken(host) == [f"{n:02}@a.example" for n in range(30)]
