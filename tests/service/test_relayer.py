"""The queue's side of relaying: what is due, what a rescan may start, orders, and the end. Nothing is sent twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from qmtls.delivery.window import INITIAL
from qmtls.service.relayer import TROUBLE_SECONDS
from qmtls.spool.api import Attempt, Filing, Malformed, SpoolError, Waiting
from qmtls.spool.memory import MemorySpool
from tests.net.doubles import TROUBLE
from tests.net.hosts import HANG, Host, Visit
from tests.service.office import Office, taken

# ---------------------------------------------------------------- what is due


def test_mail_found_in_a_bin(office: Office) -> None:
    host = office.host("mx.a.example")
    other = MemorySpool("2")
    office.post("x@a.example", spool=other, offer=False)
    office.relayer.adopt(other)
    office.run()
    assert taken(host) == ["x@a.example"]
    assert not list(other.scan())


def test_mail_waits_for_its_time(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    id = office.post("x@a.example")
    office.run()
    host.replies.clear()
    wait = office.due(id)
    assert 400 <= wait <= 440
    office.pass_time(wait - 5, 50)
    assert not host.mail
    office.relayer.rescan(office.spool)
    office.run()
    assert not host.mail
    office.pass_time(10)
    assert taken(host) == ["x@a.example"]
    assert not office.ids_stored
    assert not office.relayer.busy


def test_only_those_who_wait_are_tried_again(office: Office) -> None:
    office.mailbox("postmaster")
    answers = {"b": "450 4.2.1 later", "c": "550 5.1.1 nobody"}
    host = office.host(
        "mx.a.example", Host(replies={"RCPT": lambda _, line: answers.get(line.split("<")[1].split("@")[0], "")})
    )
    id = office.post("a@a.example", "b@a.example", "c@a.example", sender=None)
    office.run()
    answers.clear()
    entry = office.history(id)[0]
    assert (entry.done, entry.failed, entry.deferred) == ((0,), (2,), (1,))
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert taken(host) == ["a@a.example", "b@a.example"]
    assert not office.ids_stored


def test_a_start_with_many_messages_goes_in_batches(office: Office) -> None:
    host = office.host("mx.a.example")
    for n in range(300):
        office.post(f"{n:03}@a.example", offer=False)
    office.desk.open = False
    office.relayer.rescan(office.spool)
    office.desk.work()
    office.run()
    fresh = office.post("fresh@a.example")
    office.run()
    assert taken(host) == ["fresh@a.example"], "fresh mail does not wait for the old"
    office.desk.open = True
    while office.desk.waiting:
        office.desk.work()
        office.run()
    office.pass_time(5)
    assert taken(host) == [*(f"{n:03}@a.example" for n in range(300)), "fresh@a.example"]
    assert fresh not in office.ids_stored
    assert not office.ids_stored


# ---------------------------------------------------------------- rescans


def test_a_rescan_leaves_alone_what_is_under_way(office: Office) -> None:
    host = office.host("mx.a.example", Host(greeting=HANG))
    office.post("x@a.example")
    office.run()
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(1)
    assert len(host.visits) == 1


def test_a_rescan_between_delivery_and_removal(office: Office) -> None:
    """It still lists what was delivered; that is not sent again."""
    host = office.host("mx.a.example")
    office.desk.open = False
    office.post("x@a.example")
    office.run()
    assert len(host.mail) == 1
    removal = office.desk.waiting.pop()
    office.relayer.rescan(office.spool)
    for _ in range(3):
        office.desk.work()
        office.pass_time(1)
    removal()
    office.desk.open = True
    office.run()
    office.pass_time(1)
    assert len(host.mail) == 1
    assert not office.ids_stored


def test_what_a_rescan_lists_before_it_is_offered_is_sent_once(office: Office) -> None:
    """Stored, listed and read by the one thread before the reactor hears from the other that it is stored."""
    host = office.host("mx.a.example")
    id = office.post("x@a.example", offer=False)
    envelope = office.spool.envelope(id)
    office.desk.open = False
    office.relayer.rescan(office.spool)
    office.desk.work(1)  # listed
    office.run()  # due, so it is being read
    (read,) = office.desk.waiting
    office.desk.waiting.clear()
    office.relayer.offer(office.spool, id, envelope, None)
    office.run()
    assert len(host.mail) == 1
    read()  # what was read arrives after it was delivered
    office.run()
    office.desk.open = True
    office.desk.work()
    office.run()
    office.pass_time(1)
    assert len(host.mail) == 1
    assert not office.ids_stored
    assert not office.relayer.busy


def test_a_listing_older_than_the_attempt_does_not_hurry_it(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    id = office.post("x@a.example")
    office.run()
    monkeypatch.setattr(office.spool, "scan", lambda: iter([Waiting(id, 0.0)]))
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(10)
    assert len(host.visits) == 1


def test_a_time_that_others_set(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    id = office.post("x@a.example")
    office.run()
    host.replies.clear()
    now = office.reactor.seconds()
    office.spool.record([Filing(id, Attempt(now, event="retry"), now)])
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_held_mail_waits_until_it_is_released(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    id = office.post("x@a.example")
    office.run()
    host.replies.clear()
    office.spool.record([Filing(id, Attempt(0.0, event="hold"), 0.0, held=True)])
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(1000, 50)
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert not host.mail
    office.spool.record([Filing(id, Attempt(0.0, event="release"), office.reactor.seconds())])
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_a_message_removed_while_it_waits(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    id = office.post("x@a.example")
    office.run()
    office.spool.remove([id])
    office.pass_time(500)
    assert len(host.visits) == 1
    assert not office.relayer.busy
    assert not office.reactor.getDelayedCalls()


def test_foreign_and_malformed_files_are_named_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.host("mx.a.example")
    id = office.post("x@a.example", offer=False)

    def envelope(_: str) -> Any:
        raise Malformed("no envelope")

    monkeypatch.setattr(office.spool, "envelope", envelope)
    monkeypatch.setattr(office.spool, "foreign", lambda: ("new/odd: not a queue file's name",))
    for _ in range(3):
        office.relayer.rescan(office.spool)
        office.run()
        office.pass_time(1)
    assert len(office.said("left alone")) == 2
    assert office.ids_stored == [id]


def test_a_disk_that_cannot_be_read_is_tried_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    host = office.host("mx.a.example")
    office.post("x@a.example", offer=False)

    def broken(*_: object) -> Any:
        raise SpoolError("I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(office.spool, "envelope", broken)
        office.relayer.rescan(office.spool)
        office.run()
        office.pass_time(1)
        patch.setattr(office.spool, "scan", broken)
        office.relayer.rescan(office.spool)
        office.run()
    assert len(office.said("queue trouble")) == 2
    assert not host.visits
    office.pass_time(TROUBLE_SECONDS + 1)
    assert taken(host) == ["x@a.example"]


# ---------------------------------------------------------------- orders


def test_alrm_makes_everything_due(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    for n in range(120):
        office.post(f"{n:03}@a.example")
    office.run()
    host.replies.clear()
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert taken(host) == [f"{n:03}@a.example" for n in range(120)]


def test_concurrency_zero_holds_remote_mail(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "0\n", "locals": "here.example\n"})
    host = office.host("mx.a.example")
    inbox = office.mailbox("joe")
    office.post("x@a.example")
    office.post("joe@here.example")
    office.run()
    assert not host.visits
    assert len(list(inbox.iterdir())) == 1
    assert not office.relayer.busy
    office.load({"locals": "here.example\n"})
    office.relayer.reloaded()
    office.run()
    office.pass_time(1)
    assert taken(host) == ["x@a.example"]


def test_a_message_for_several_next_hops(tmp_path: Path) -> None:
    office = Office(tmp_path, {"locals": "here.example\n"})
    hosts = [office.host(f"mx.{domain}.example") for domain in ("a", "b")]
    inbox = office.mailbox("joe")
    office.names.mail["c.example"] = TROUBLE
    id = office.post("x@a.example", "joe@here.example", "x@b.example", "x@c.example")
    office.run()
    assert taken(*hosts) == ["x@a.example", "x@b.example"]
    assert len(list(inbox.iterdir())) == 1
    (entry,) = office.history(id)
    assert (set(entry.done), entry.deferred) == ({0, 1, 2}, (3,))


def test_a_recipient_without_an_outcome_is_not_taken_for_delivered(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fault of ours it was."""
    from qmtls.service.sending import Sending

    office.host("mx.a.example")
    real = Sending.put_to

    async def forgetful(self: Sending, *args: Any, **kwargs: Any) -> Any:
        rest = await real(self, *args, **kwargs)
        self.outcomes.pop(1)
        return rest

    monkeypatch.setattr(Sending, "put_to", forgetful)
    id = office.post("x@a.example", "y@a.example")
    office.run()
    (entry,) = office.history(id)
    assert (entry.done, entry.deferred) == ((0,), (1,))


# ---------------------------------------------------------------- the end


def test_what_is_in_line_at_the_end_is_as_it_was(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx.a.example", Host(replies={".": HANG}))
    ids = [office.post(f"{n}@a.example") for n in range(3)]
    office.run()
    office.relayer.stop()
    assert office.relayer.busy == 1, "the one in hand"
    host.visits[0].silent = False
    host.visits[0].reply("250 ok")
    office.run()
    assert not office.relayer.busy
    assert office.ids_stored == ids[1:]
    assert all(not office.history(id) for id in ids[1:])
    assert all(w.due == 0.0 for w in office.spool.scan())


def test_what_was_delivered_in_part_at_the_end_is_filed(tmp_path: Path) -> None:
    """The next start must not send it to those again."""
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    office.host("mx.slow.example", Host(greeting=HANG))
    quick = office.host("mx.quick.example")
    office.post("w@slow.example")
    id = office.post("x@quick.example", "x@slow.example")
    office.run()
    assert len(quick.mail) == 1
    office.relayer.stop()
    office.run()
    (entry,) = office.history(id)
    assert (entry.done, entry.deferred) == ((0,), (1,))
    assert office.relayer.busy == 1


def test_a_half_started_message_at_the_end_is_filed_when_its_other_half_ends(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    office.host("mx.slow.example", Host(greeting=HANG))
    busy = office.host("mx.busy.example", Host(replies={".": HANG}))
    office.post("w@slow.example")
    id = office.post("x@busy.example", "x@slow.example")
    office.run()
    office.relayer.stop()
    office.run()
    assert not office.history(id)
    busy.visits[0].silent = False
    busy.visits[0].reply("250 ok")
    office.run()
    (entry,) = office.history(id)
    assert (entry.done, entry.deferred) == ((0,), (1,))


def two_lanes(office: Office) -> tuple[Host, list[Visit], list[str]]:
    """A host that is silent, and the ids of the messages of the two lanes to it."""
    host = office.host("mx.a.example", Host(greeting=HANG))
    ids = [office.post(f"{n}@a.example") for n in range(2)]
    office.run()
    assert len(host.visits) == 2
    return host, list(host.visits), ids


def test_what_comes_back_after_the_end_is_not_begun_again(office: Office) -> None:
    host, (first, second), ids = two_lanes(office)
    office.relayer.stop()
    first.reply("421 too many connections")
    office.run()
    assert office.relayer.busy == 1
    assert office.ids_stored == ids
    second.silent = False
    second.reply("220 there")
    office.run()
    office.pass_time(300)
    assert len(host.visits) == 2
    assert len(host.mail) == 1
    assert not office.relayer.busy
    assert [office.history(id) for id in office.ids_stored] == [()]
    assert all(w.due == 0.0 for w in office.spool.scan())


def test_what_the_last_lane_finds_after_the_end_is_filed(office: Office) -> None:
    host, visits, _ = two_lanes(office)
    office.relayer.stop()
    for visit in visits:
        visit.reply("421 too many connections")
        office.run()
    office.pass_time(300)
    assert len(host.visits) == 2
    assert not office.relayer.busy
    assert sorted(len(office.history(id)) for id in office.ids_stored) == [0, 1]


def test_what_comes_back_after_the_end_and_was_delivered_in_part_is_filed(office: Office) -> None:
    host = office.host("mx.a.example", Host(greeting=HANG))
    quick = office.host("mx.quick.example")
    office.post("w@a.example")
    id = office.post("x@quick.example", "x@a.example")
    office.run()
    assert len(quick.mail) == 1
    office.relayer.stop()
    assert not office.history(id)
    host.visits[1].reply("421 too many connections")
    office.run()
    office.pass_time(5)
    assert len(host.visits) == 2
    (entry,) = office.history(id)
    assert (entry.done, entry.deferred) == ((0,), (1,))


def test_who_is_crowded_out_after_the_end_is_left(office: Office) -> None:
    """Another domain's hosts turn out to be those that have no room."""
    host = office.host("mx.a.example", Host(greeting=HANG))
    for n in range(INITIAL):
        office.post(f"{n}@a.example")
    office.run()
    answer: Deferred[Any] = Deferred()
    office.names.mail["b.example"] = answer
    id = office.post("x@b.example")
    office.run()
    office.relayer.stop()
    answer.callback(office.names.mail["a.example"])
    office.run()
    assert len(host.visits) == INITIAL
    assert office.relayer.busy == INITIAL
    assert not office.history(id)


def test_local_mail_that_is_held_does_not_hold_up_the_end(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencylocal": "0\n", "locals": "here.example\n"})
    inbox = office.mailbox("joe")
    id = office.post("joe@here.example")
    office.run()
    assert office.relayer.busy == 1
    office.relayer.stop()
    assert not office.relayer.busy
    assert office.ids_stored == [id]
    assert not list(inbox.iterdir())


def test_nothing_begins_after_the_end(office: Office) -> None:
    host = office.host("mx.a.example")
    office.relayer.stop()
    office.post("x@a.example")
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(10)
    assert not host.visits
    assert len(office.ids_stored) == 1
    assert not office.reactor.getDelayedCalls()


def test_a_batch_that_arrives_after_the_end(office: Office, failures: list[LogEvent]) -> None:
    host = office.host("mx.a.example")
    office.post("x@a.example", offer=False)
    office.desk.open = False
    office.relayer.rescan(office.spool)
    office.desk.work(1)
    office.run()
    office.relayer.stop()
    office.desk.work()
    office.run()
    assert not host.visits
    assert len(office.ids_stored) == 1
    assert not failures


def test_a_clock_that_is_set_back_delays_nothing_new(office: Office) -> None:
    """What waits is due by the time of day; what is to be done now is done now."""
    host = office.host("mx.a.example", Host(replies={"RCPT": "451 later"}))
    id = office.post("x@a.example")
    office.run()
    due = office.due(id)
    office.clock_set_by = -86_400.0
    host.replies.clear()
    office.post("y@a.example")
    office.run()
    assert taken(host) == ["y@a.example"]
    office.clock_set_by = +86_400.0
    office.relayer.rescan(office.spool)  # as every minute
    office.pass_time(1)
    assert taken(host) == ["x@a.example", "y@a.example"], f"it was due in {due} s"
