"""How attempts end: what is filed, who is told, and in which order, so that no trouble with the disk loses anybody."""

from __future__ import annotations

import email
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent

from qmtls.service.filing import NOTE_SECONDS, REFILE_SECONDS
from qmtls.spool.api import Malformed, NotInSpool, SpoolError, pending
from tests.net.doubles import TROUBLE
from tests.net.hosts import HANG, Host
from tests.net.house import Files
from tests.service.office import START, Office, taken

REFUSES = {"RCPT": lambda _, line: "550 5.1.1 nobody" if "bad" in line else "450 4.2.1 later" if "slow" in line else ""}


@pytest.fixture
def host(office: Office) -> Host:
    return office.host("mx.a.example", Host(replies=dict(REFUSES)))


@pytest.fixture
def sender(office: Office) -> Host:
    """Where failure reports go."""
    return office.host("mx.here.example")


def test_a_failure_is_reported_to_the_sender(office: Office, host: Host, sender: Host) -> None:
    id = office.post("bad@a.example", "good@a.example")
    office.run()
    (report,) = sender.mail
    assert (report.sender, report.recipients) == ("", ["s@here.example"])
    message = email.message_from_bytes(report.content)
    assert message.get_content_type() == "multipart/report"
    text = report.content.decode()
    assert "550 5.1.1 nobody" in text and "bad@a.example" in text and "good@a.example" not in text
    assert not office.ids_stored
    assert any(f"about={id}" in line for line in office.said("report"))


def test_a_failed_report_goes_to_the_postmaster_and_is_then_dropped(tmp_path: Path) -> None:
    office = Office(tmp_path, {"doublebounceto": "pm\n", "doublebouncehost": "pm.example\n"})
    office.host("mx.a.example", Host(replies=dict(REFUSES)))
    office.host("mx.here.example", Host(replies={"RCPT": "550 5.1.1 nobody"}))
    postmaster = office.host("mx.pm.example", Host(replies={"RCPT": "550 5.1.1 not even here"}))
    office.post("bad@a.example")
    office.run()
    office.pass_time(1)
    assert [line for line in postmaster.visits[0].lines if line[:4] in ("MAIL", "RCPT")][1] == "RCPT TO:<pm@pm.example>"
    assert len(office.said("report")) == 2
    assert len(office.said("discarded")) == 1
    assert not office.ids_stored
    assert not office.relayer.busy


def test_mail_with_a_null_sender_goes_to_the_postmaster_at_once(tmp_path: Path) -> None:
    office = Office(tmp_path, {"locals": "here.example\n", "doublebouncehost": "here.example\n"})
    inbox = office.mailbox("postmaster")
    office.host("mx.a.example", Host(replies=dict(REFUSES)))
    office.post("bad@a.example", sender=None)
    office.run()
    (path,) = inbox.iterdir()
    assert b"bad@a.example" in path.read_bytes()


def test_reports_go_through_aliases(tmp_path: Path) -> None:
    aliases = "info: joe, ann, x@sender.example\npostmaster: joe\n"
    office = Office(tmp_path, {"locals": "here.example\n", "doublebouncehost": "here.example\n", "aliases": aliases})
    office.host("mx.a.example", Host(replies={"RCPT": "550 5.1.1 nobody"}))
    elsewhere = office.host("mx.sender.example")
    joe, ann = office.mailbox("joe"), office.mailbox("ann")
    office.post("to@a.example", sender="Info@here.example")
    office.run()
    assert [len(list(inbox.iterdir())) for inbox in (joe, ann)] == [1, 1]
    assert b"To: <Info@here.example>" in next(ann.iterdir()).read_bytes()
    assert len(elsewhere.mail) == 1
    office.post("to@a.example", sender=None)
    office.run()
    assert len(list(joe.iterdir())) == 2
    assert not office.ids_stored


def test_what_is_too_old_fails_at_its_last_attempt(tmp_path: Path) -> None:
    office = Office(tmp_path, {"queuelifetime": "3600\n"})
    office.names.mail["a.example"] = TROUBLE
    sender = office.host("mx.here.example")
    id = office.post("x@a.example")
    office.run()
    attempts = 1
    for _ in range(100):
        assert not sender.mail
        office.pass_time(office.due(id) + 1)
        if id not in office.ids_stored:
            break
        attempts += 1
    assert 3 <= attempts <= 6
    assert b"it has been in the queue too long" in sender.mail[0].content
    assert b"cannot be looked up now" in sender.mail[0].content


def test_a_report_is_safe_before_anybody_is_called_failed(
    office: Office, host: Host, sender: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str) -> None:
        real = getattr(office.spool, name)

        def work(batch: Any) -> Any:
            done.append(name)
            return real(batch)

        monkeypatch.setattr(office.spool, name, work)

    noted("commit")
    noted("record")
    id = office.post("bad@a.example", "slow@a.example")
    done.clear()
    office.run()
    assert done == ["commit", "record"]
    assert office.history(id)[0].failed == (0,)
    assert office.history(id)[0].deferred == (1,)


def test_a_full_disk_loses_nobody_and_tells_nobody_twice(office: Office, host: Host, sender: Host) -> None:
    office.post("bad@a.example", "slow@a.example", "good@a.example")
    (id,) = office.ids_stored
    office.spool.fail = SpoolError("no space", full=True)
    office.run()
    assert not sender.mail
    assert len(office.said("queue trouble")) == 1
    office.pass_time(REFILE_SECONDS * 3 + 1)
    assert len(office.said("queue trouble")) == 4
    assert not office.history(id)
    assert office.relayer.busy == 1, "nothing is tried again before it is filed"
    office.spool.fail = None
    office.pass_time(REFILE_SECONDS + 1)
    entry = office.history(id)[0]
    assert (entry.done, entry.failed, entry.deferred) == ((2,), (0,), (1,))
    assert len(sender.mail) == 1
    assert taken(host) == ["good@a.example"]


def test_a_disk_that_takes_the_report_but_not_the_record(
    office: Office, host: Host, sender: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = office.post("bad@a.example", "slow@a.example")
    with monkeypatch.context() as patch:
        patch.setattr(office.spool, "record", lambda batch: [SpoolError("I/O error")] * len(batch))
        office.run()
        office.pass_time(REFILE_SECONDS + 1)
    assert len(sender.mail) == 1
    office.pass_time(REFILE_SECONDS + 1)
    assert len(sender.mail) == 1
    assert len(office.history(id)) == 1


def broken(problem: Exception) -> Any:
    def raise_it(*_: object) -> None:
        raise problem

    return raise_it


def test_a_message_removed_before_it_is_filed(
    office: Office, host: Host, sender: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qmtls.service.reporting._original", broken(NotInSpool("gone")))
    office.post("bad@a.example", "slow@a.example")
    office.run()
    assert not sender.mail
    assert not office.relayer.busy
    assert not office.ids_stored


@pytest.mark.parametrize("problem", [Malformed("cut"), ZeroDivisionError()])
def test_a_report_that_cannot_be_made_leaves_the_recipient_waiting(
    office: Office,
    host: Host,
    sender: Host,
    monkeypatch: pytest.MonkeyPatch,
    failures: list[LogEvent],
    problem: Exception,
) -> None:
    """A fault of ours; but who got it does not get it again."""
    id = office.post("bad@a.example", "good@a.example")
    with monkeypatch.context() as patch:
        patch.setattr("qmtls.service.reporting._original", broken(problem))
        office.run()
    assert failures
    failures.clear()
    entry = office.history(id)[0]
    assert (entry.done, entry.failed, entry.deferred) == ((1,), (), (0,))
    assert not office.relayer.busy
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert len(sender.mail) == 1
    assert taken(host) == ["good@a.example"]


def test_a_fault_in_filing_leaves_nothing_stuck(
    office: Office, host: Host, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
) -> None:
    id = office.post("slow@a.example")
    with monkeypatch.context() as patch:
        patch.setattr("qmtls.service.filing.next_due", broken(ZeroDivisionError()))
        office.run()
    assert failures
    failures.clear()
    assert not office.relayer.busy
    host.replies.clear()
    office.pass_time(REFILE_SECONDS + 1)
    assert taken(host) == ["slow@a.example"]
    assert id not in office.ids_stored


def test_all_delivered_at_once_writes_nothing(office: Office, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office.spool, "record", broken(AssertionError("nothing is to be recorded")))
    office.post("good@a.example")
    office.run()
    assert not office.ids_stored


def test_the_last_ones_delivered_later(office: Office, host: Host) -> None:
    id = office.post("slow@a.example", "good@a.example")
    office.run()
    assert office.history(id)[0].done == (1,)
    host.replies.clear()
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert not office.ids_stored
    assert taken(host) == ["good@a.example", "slow@a.example"]


def test_a_large_message_comes_back_as_its_headers(office: Office, host: Host, sender: Host) -> None:
    office.post("bad@a.example", content=b"Subject: large\r\n\r\n" + b"x" * 98 + b"\r\n" * 100_000)
    office.run()
    content = sender.mail[0].content
    assert len(content) < 10_000
    assert b"Subject: large" in content


def test_the_next_time_grows(office: Office, host: Host) -> None:
    id = office.post("slow@a.example")
    office.run()
    waits = []
    for _ in range(4):
        waits.append(office.due(id))
        office.pass_time(waits[-1] + 1)
    assert waits == sorted(waits)
    assert waits[0] < 441
    assert len(office.history(id)) == 5


def test_the_log_says_all(office: Office, host: Host, sender: Host) -> None:
    id = office.post("good@a.example", "slow@a.example")
    office.run()
    (delivered,) = office.said("delivered")
    assert f'delivered id={id} to=<good@a.example> host="mx.a.example (192.0.2.1)"' in delivered
    assert "status=2.0.0" in delivered and "delay=0.0" in delivered
    (deferred,) = office.said("deferred")
    assert 'reason="mx.a.example (192.0.2.1) said at RCPT: 450 4.2.1 later"' in deferred


# ---------------------------------------------------------------- warnings


def wait_for(office: Office, id: str, seconds: float) -> None:
    """Attempts as they come due, until the message is so old."""
    end = office.now() + seconds
    while id in office.ids_stored and office.now() + office.due(id) < end:
        office.pass_time(office.due(id) + 1)
    office.run()


def warnings(sender: Host) -> list[str]:
    return [mail.content.decode() for mail in sender.mail if b"\r\nSubject: delivery delayed" in mail.content]


def test_the_sender_is_warned_once(office: Office, host: Host, sender: Host) -> None:
    id = office.post("slow@a.example", "good@a.example")
    office.run()
    wait_for(office, id, 14_000)
    assert not sender.mail
    wait_for(office, id, 6_000)
    (text,) = warnings(sender)
    assert "slow@a.example" in text and "good@a.example" not in text and "Action: delayed" in text
    assert sender.mail[0].sender == ""
    assert [entry.event for entry in office.history(id)].count("delay") == 1
    assert any(f"about={id}" in line for line in office.said("warning"))
    wait_for(office, id, 80_000)
    assert len(warnings(sender)) == 1


def test_a_warning_is_remembered_over_a_restart(tmp_path: Path, host: Host, office: Office, sender: Host) -> None:
    id = office.post("slow@a.example")
    office.run()
    wait_for(office, id, 20_000)
    assert len(warnings(sender)) == 1
    (tmp_path / "second").mkdir()
    again = Office(tmp_path / "second")
    again.reactor.rightNow = office.reactor.rightNow
    again.host("mx.a.example", Host(replies=dict(REFUSES)))
    told = again.host("mx.here.example")
    again.spool = office.spool
    again.relayer.adopt(again.spool)
    before = len(again.history(id))
    wait_for(again, id, 30_000)
    assert len(again.history(id)) > before
    assert not told.mail


@pytest.mark.parametrize(
    ("recipient", "sender_", "content"),
    [
        ("slow@a.example", None, b"Subject: x\r\n\r\n"),
        ("slow@a.example", "#@[]", b"Subject: x\r\n\r\n"),
        ("slow@a.example", "s@here.example", b"List-Id: <x>\r\n\r\n"),
        ("slow@a.example/NOTIFY=NEVER", "s@here.example", b"Subject: x\r\n\r\n"),
        ("slow@a.example/NOTIFY=FAILURE", "s@here.example", b"Subject: x\r\n\r\n"),
    ],
)
def test_who_is_not_warned(
    office: Office, host: Host, sender: Host, recipient: str, sender_: str | None, content: bytes
) -> None:
    id = office.post(recipient, sender=sender_, content=content)
    office.run()
    wait_for(office, id, 40_000)
    assert len(office.history(id)) > 5
    assert not office.said("warning") and not sender.mail


def test_no_warnings_where_none_are_wanted(tmp_path: Path) -> None:
    office = Office(tmp_path, {"delaywarn": "0\n"})
    office.host("mx.a.example", Host(replies=dict(REFUSES)))
    id = office.post("slow@a.example")
    office.run()
    wait_for(office, id, 40_000)
    assert not office.said("warning")


def test_a_disk_in_trouble_brings_no_second_warning(
    office: Office, host: Host, sender: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = office.post("slow@a.example")
    office.run()
    wait_for(office, id, 14_000)
    with monkeypatch.context() as patch:
        patch.setattr(office.spool, "record", lambda batch: [SpoolError("I/O error")] * len(batch))
        office.pass_time(office.due(id) + 1)
        office.pass_time(REFILE_SECONDS * 3)
    office.pass_time(REFILE_SECONDS + 1)
    wait_for(office, id, 40_000)
    assert len(warnings(sender)) == 1


# ---------------------------------------------------------------- mail that waits for TLS


def test_who_was_warned_is_warned_once_more_if_tls_becomes_the_reason(tmp_path: Path) -> None:
    files: Files = {"tlspolicy": "a.example encrypt\n"}
    office = Office(tmp_path, files)
    office.names.mail["a.example"] = TROUBLE
    sender = office.host("mx.here.example")
    id = office.post("x@a.example")
    office.run()
    wait_for(office, id, 20_000)
    (first,) = warnings(sender)
    assert "TLS is not as it must be" not in first
    del office.names.mail["a.example"]
    office.host("mx.a.example")
    wait_for(office, id, 60_000)
    _, second = warnings(sender)
    assert "Subject: delivery delayed: TLS is not as it must be" in second
    assert [entry.unmet for entry in office.history(id) if entry.event == "delay"] == [(), (0,)]
    (tmp_path / "second").mkdir()
    again = Office(tmp_path / "second", files)
    again.reactor.rightNow = office.reactor.rightNow
    again.host("mx.a.example")
    told = again.host("mx.here.example")
    again.spool = office.spool
    again.relayer.adopt(again.spool)
    before = len(again.history(id))
    wait_for(again, id, 60_000)
    assert len(again.history(id)) > before
    assert not warnings(told)


def test_what_waits_for_tls_has_its_own_lifetime(tmp_path: Path) -> None:
    files: Files = {"queuelifetime": "3600\n", "policylifetime": "40000\n", "tlspolicy": "a.example encrypt\n"}
    office = Office(tmp_path, files)
    office.host("mx.a.example")
    office.host("mx.b.example", Host(replies=dict(REFUSES)))
    sender = office.host("mx.here.example")
    id = office.post("x@a.example", "slow@b.example")
    office.run()
    wait_for(office, id, 14_000)
    (general,) = [mail.content.decode() for mail in sender.mail]
    assert "slow@b.example" in general and "x@a.example" not in general and "TLS-Reason" not in general
    wait_for(office, id, 10_000)
    (warning,) = warnings(sender)
    assert "weaker one" in warning and "X-Qmtls-TLS-Reason: mx.a.example" in warning
    assert "Subject: delivery delayed: TLS is not as it must be" in warning
    first, end = office.history(id)[0].time, START + 40_000
    assert f"X-Qmtls-TLS-Unmet-Since: {formatdate(first)}" in warning and f"Until: {formatdate(end)}" in warning
    text = " ".join(warning.split())
    assert f"It has been so since {formatdate(first)}. If it is still so after {formatdate(end)}, the" in text
    wait_for(office, id, 60_000)
    assert id not in office.ids_stored
    last = sender.mail[-1].content.decode()
    assert "control/tlspolicy:1" in last and "X-Qmtls-TLS-Reason: mx.a.example" in last
    assert f"no connection has met that demand since {formatdate(first)}" in " ".join(last.split())
    assert f"X-Qmtls-TLS-Unmet-Since: {formatdate(first)}" in last


def test_since_when_is_counted_anew_after_another_reason(tmp_path: Path) -> None:
    office = Office(tmp_path, {"tlspolicy": "a.example encrypt\n", "policylifetime": "40000\n"})
    host = office.host("mx.a.example")
    sender = office.host("mx.here.example")
    id = office.post("x@a.example")
    office.run()
    host.greeting = "421 4.3.2 closed today"
    wait_for(office, id, 3_000)
    host.greeting = "220 there"
    wait_for(office, id, 60_000)
    entries = [entry for entry in office.history(id) if entry.event == "attempt"]
    assert id not in office.ids_stored and not entries
    (last,) = [mail.content.decode() for mail in sender.mail if b"failure notice" in mail.content]
    assert f"X-Qmtls-TLS-Unmet-Since: {formatdate(START)}" not in last and "X-Qmtls-TLS-Unmet-Since" in last


def test_it_may_also_be_shorter(tmp_path: Path) -> None:
    office = Office(tmp_path, {"policylifetime": "3600\n", "tlspolicy": "a.example encrypt\n"})
    office.host("mx.a.example")
    office.host("mx.b.example", Host(replies=dict(REFUSES)))
    sender = office.host("mx.here.example")
    id = office.post("x@a.example", "slow@b.example")
    office.run()
    wait_for(office, id, 14_000)
    (failed,) = [mail.content.decode() for mail in sender.mail]
    assert "x@a.example" in failed and "slow@b.example" not in failed
    assert office.history(id)[-1].deferred == (1,)


def test_reports_in_qmail_s_format(tmp_path: Path) -> None:
    office = Office(tmp_path, {"bouncestyle": "qsbmf\n", "doublebouncehost": "pm.example\n"})
    office.host("mx.a.example", Host(replies=dict(REFUSES)))
    sender, postmaster = office.host("mx.here.example"), office.host("mx.pm.example")
    office.post("bad@a.example")
    office.post("bad@a.example", sender=None)
    office.run()
    for told in (sender, postmaster):
        (mail,) = told.mail
        assert b"\r\n\r\nHi. This is the" in mail.content and b"\r\n<bad@a.example>:\r\n" in mail.content


def two_hosts(office: Office) -> tuple[Host, Host, str]:
    """A message to a quick host, which took it, and to one that says nothing to MAIL."""
    quick = office.host("mx.quick.example")
    slow = office.host("mx.slow.example", Host(ehlo=("there", "8BITMIME"), replies={"MAIL": HANG}))
    id = office.post("a@quick.example", "b@slow.example")
    office.run()
    assert taken(quick) == ["a@quick.example"]
    return quick, slow, id


def test_what_is_delivered_is_written_down_while_another_host_hangs(office: Office) -> None:
    quick, _, id = two_hosts(office)
    assert office.history(id) == ()
    office.pass_time(NOTE_SECONDS)
    (line,) = office.history(id)
    assert (line.done, line.failed, line.deferred) == ((0,), (), ())
    assert office.relayer.busy
    office.pass_time(600)
    assert pending(2, office.history(id)) == (1,)
    assert office.due(id) > 0 and not office.relayer.busy
    assert taken(quick) == ["a@quick.example"]


def test_an_attempt_ends_behind_what_is_being_written_down(office: Office) -> None:
    quick, slow, id = two_hosts(office)
    office.desk.open = False
    office.pass_time(NOTE_SECONDS)
    (visit,) = slow.visits
    visit.reply("550 no")
    office.run()
    assert office.relayer.busy and office.history(id) == ()
    office.desk.open = True
    office.desk.work()
    office.run()
    assert id not in office.ids_stored
    assert [len(office.said(f"{fate} id={id}")) for fate in ("delivered", "failed")] == [1, 1]
    assert taken(quick) == ["a@quick.example"]


def test_what_the_disk_will_not_write_down_is_written_at_the_end(office: Office) -> None:
    _, _, id = two_hosts(office)
    office.spool.fail = SpoolError("no space", full=True)
    office.pass_time(NOTE_SECONDS)
    assert len(office.said("queue trouble")) == 1 and office.relayer.busy
    office.spool.fail = None
    office.pass_time(600)
    assert pending(2, office.history(id)) == (1,)
