"""One lane: next hosts, broken channels, 452 and 421, and which of several hosts may see a message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from qmtls.spool.api import SpoolError
from qmtls.spool.content import StoredContent
from tests.net import certs
from tests.net.hosts import CLOSE, HANG, Host, Visit
from tests.service.office import CONTENT, Office, taken, verbs


def test_a_message(office: Office) -> None:
    host = office.host("mx.a.example")
    office.post("x@a.example", "y@a.example")
    office.run()
    (mail,) = host.mail
    assert (mail.sender, mail.recipients, mail.content) == ("s@here.example", ["x@a.example", "y@a.example"], CONTENT)
    assert not office.ids_stored
    assert office.desk.removed
    assert len(office.said("delivered")) == 2
    assert not office.relayer.busy


def test_one_channel_for_many_messages(office: Office) -> None:
    host = office.host("mx.a.example")
    for n in range(5):
        office.post(f"{n}@a.example")
        office.run()
    assert len(host.visits) == 1
    assert len(host.mail) == 5
    office.pass_time(4)
    assert host.visits[0].lost
    assert host.said()[-1] == "QUIT"
    office.post("z@a.example")
    office.run()
    assert len(host.visits) == 2


# ---------------------------------------------------------------- the next host


FAILING = {
    "refused": None,
    "greeting 4xx": Host(greeting="421 no"),
    "greeting 5xx": Host(greeting="554 no"),
    "EHLO 4xx": Host(replies={"EHLO": "451 no"}),
    "closes": Host(greeting=CLOSE),
    "MAIL 4xx": Host(replies={"MAIL": "451 later"}),
    "RCPT 4xx": Host(replies={"RCPT": "450 later"}),
    "421 at RCPT": Host(replies={"RCPT": "421 later"}),
    "421 at DATA": Host(replies={"DATA": "421 later"}),
    "lost at DATA": Host(replies={"DATA": CLOSE}),
}


@pytest.mark.parametrize("failing", FAILING)
def test_the_next_host(office: Office, failing: str) -> None:
    first = FAILING[failing]
    office.host("mx1.a.example", first or Host())
    if first is None:
        office.reactor.hosts.clear()
    else:
        first.visits.clear()
    second = office.host("mx2.a.example")
    office.post("x@a.example")
    office.run()
    office.pass_time(1)
    assert taken(second) == ["x@a.example"]
    assert not office.ids_stored


def test_a_tls_demand_that_is_not_met_goes_to_the_next_host(tmp_path: Path) -> None:
    office = Office(tmp_path, {"tlspolicy": "a.example encrypt\n"})
    first = office.host("mx1.a.example")
    second = office.host("mx2.a.example", Host(certs.server("mx2.a.example")))
    office.post("x@a.example")
    office.run()
    assert verbs(first) == [["EHLO", "QUIT"]]
    assert [mail.tls for mail in second.mail] == [True]


def test_only_recipients_answered_4xx_go_to_the_next_host(office: Office) -> None:
    answers = {"RCPT TO:<b@a.example>": "450 4.2.1 later", "RCPT TO:<c@a.example>": "550 5.1.1 nobody"}
    first = office.host("mx1.a.example", Host(replies={"RCPT": lambda _, line: answers.get(line, "")}))
    second = office.host("mx2.a.example")
    office.post("a@a.example", "b@a.example", "c@a.example", sender=None)
    office.run()
    assert taken(first) == ["a@a.example"]
    assert taken(second) == ["b@a.example"]
    assert [line for line in office.said("failed") if "to=<c@a.example>" in line]


def test_4xx_everywhere_waits(office: Office) -> None:
    for n in (1, 2):
        office.host(f"mx{n}.a.example", Host(replies={"RCPT": f"450 4.2.{n} later"}))
    id = office.post("x@a.example")
    office.run()
    (entry,) = office.history(id)
    assert entry.deferred == (0,)
    assert "450 4.2.2 later" in dict(entry.reasons)[0]
    assert 400 <= office.due(id) <= 440


@pytest.mark.parametrize("reply", ["451 later", "552 4.3.1 full", CLOSE, HANG], ids=["4xx", "552", "lost", "silent"])
@pytest.mark.parametrize("verb", [".", "DATA"])
def test_who_saw_the_whole_message_stays_the_only_one(office: Office, verb: str, reply: str) -> None:
    """After the content another host would make a second copy; 4xx to DATA is about the message."""
    first = office.host("mx1.a.example", Host(replies={verb: reply}))
    second = office.host("mx2.a.example")
    id = office.post("x@a.example", sender=None)
    office.run()
    office.pass_time(90)
    if verb == "DATA" and reply in (CLOSE, HANG):
        assert len(second.mail) == 1  # no content was sent
        return
    assert not second.visits
    assert len(first.visits) == 1
    if not reply.startswith("552"):
        assert office.history(id)[0].deferred == (0,)
        assert bool(verb == "." and reply in (CLOSE, HANG)) == ("duplicate" in office.said("deferred")[0])


def test_all_hosts_are_named_when_none_works(tmp_path: Path) -> None:
    office = Office(tmp_path, {"tlspolicy": "a.example encrypt\n"})
    office.host("mx1.a.example", Host(greeting="421 busy"))
    office.host("mx2.a.example")
    office.host("mx3.a.example")
    del office.reactor.hosts[office.names.hosts["mx3.a.example"], 25]
    id = office.post("x@a.example")
    office.run()
    (line,) = office.said("deferred")
    for part in ("mx1.a.example", "421 busy", "mx2.a.example", "STARTTLS is not offered", "connection refused"):
        assert part in line
    assert "status=4.7.4" in line
    assert dict(office.history(id)[0].reasons)[0] in line


# ---------------------------------------------------------------- 452 and 421


@pytest.mark.parametrize(("limit", "count"), [(1, 3), (7, 20), (1, 60)])
def test_a_host_that_takes_few_recipients_at_a_time(office: Office, limit: int, count: int) -> None:
    """However many rounds that takes, nobody is forgotten."""
    host = office.host("mx.a.example", Host(max_recipients=limit))
    recipients = [f"{n:03}@a.example" for n in range(count)]
    id = office.post(*recipients)
    office.run()
    if count <= 50:
        assert len(host.visits) == 1
    assert count <= 50 or set(office.history(id)[0].deferred) == set(range(50, 60))
    office.pass_time(500)
    assert taken(host) == recipients
    assert not office.ids_stored


def test_452_to_all_waits(office: Office) -> None:
    host = office.host("mx.a.example", Host(replies={"RCPT": "452 4.2.2 full"}))
    id = office.post("x@a.example", "y@a.example")
    office.run()
    assert office.history(id)[0].deferred == (0, 1)
    assert len(host.visits) == 1


def test_421_between_rounds(office: Office) -> None:
    """One recipient is taken, then the host has enough: the other one waits, or goes to another host."""

    def rcpt(visit: Visit, line: str) -> str:
        return "452 4.5.3 too many" if visit.recipients else ""

    def mail(visit: Visit, line: str) -> str:
        return "421 enough" if visit.verbs.count("MAIL") > 1 else ""

    first = office.host("mx1.a.example", Host(replies={"RCPT": rcpt, "MAIL": mail}))
    second = office.host("mx2.a.example")
    office.post("x@a.example", "y@a.example")
    office.run()
    assert taken(first) == ["x@a.example"]
    assert taken(second) == ["y@a.example"]


# ---------------------------------------------------------------- channels that end


def test_a_channel_closed_by_the_host_while_idle_is_not_used_again(office: Office) -> None:
    host = office.host("mx.a.example")
    office.post("x@a.example")
    office.run()
    host.visits[0].transport.loseConnection()  # type: ignore[union-attr]
    office.run()
    office.post("y@a.example")
    office.run()
    assert taken(host) == ["x@a.example", "y@a.example"]
    assert len(host.visits) == 2
    assert not office.said("deferred")


@pytest.mark.parametrize("end", ["close", "421", "421 at MAIL"])
def test_a_channel_that_ends_as_it_is_used_again(office: Office, end: str) -> None:
    """The host's end and our next message cross: a fresh connection, and no deferral."""
    host = office.host("mx.a.example")
    office.post("x@a.example")
    office.run()
    visit = host.visits[0]
    if end == "close":
        visit.transport.abortConnection()  # type: ignore[union-attr]
    elif end == "421":
        visit.reply("421 idle too long")
    else:
        host.replies["MAIL"] = lambda v, line: "421 idle too long" if v is visit else ""
    office.post("y@a.example")
    office.run()
    assert taken(host) == ["x@a.example", "y@a.example"]
    assert len(host.visits) == 2
    assert not office.said("deferred")


def test_a_refusal_on_a_channel_used_again_counts(office: Office) -> None:
    host = office.host("mx.a.example")
    office.post("x@a.example")
    office.run()
    host.replies["MAIL"] = "450 4.2.0 not now"
    id = office.post("y@a.example")
    office.run()
    assert office.history(id)[0].deferred == (0,)
    assert len(host.visits) == 1, "the same host is not asked twice"


def test_what_was_delivered_stays_delivered_when_dns_fails_for_the_rest(office: Office) -> None:
    """A channel used again takes one recipient and defers the other; then no further host can be looked up."""
    host = office.host("mx.a.example")
    office.post("w@a.example")
    office.run()
    office.names.mail.clear()  # now the domain does not even exist
    host.replies["RCPT"] = lambda _, line: "450 4.2.1 later" if "y@" in line else ""
    id = office.post("x@a.example", "y@a.example")
    office.run()
    assert taken(host) == ["w@a.example", "x@a.example"]
    (entry,) = office.history(id)
    assert (entry.done, entry.failed, entry.deferred) == ((0,), (), (1,))


class Broken(StoredContent):
    """Its second half cannot be read."""

    def chunks(self) -> Iterator[bytes]:
        yield b"Subject: half\r\n"
        raise SpoolError("I/O error")


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["small", "large"])
def test_a_queue_file_that_cannot_be_read(office: Office, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """No half message goes out, and the lane goes on with other mail."""
    host = office.host("mx.a.example")
    broken = Broken(b"x" * size)
    real = office.spool.content
    bad = office.post("x@a.example", offer=False)
    monkeypatch.setattr(office.spool, "content", lambda id: broken if id == bad else real(id))
    good = office.post("y@a.example", offer=False)
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(1)
    assert taken(host) == ["y@a.example"]
    assert good not in office.ids_stored
    assert office.history(bad)[0].deferred == (0,)
    assert "cannot be read" in dict(office.history(bad)[0].reasons)[0]


def test_a_message_removed_by_hand(office: Office) -> None:
    """Listed, planned, and then gone when its content is wanted."""
    host = office.host("mx.a.example")
    gone = office.post("x@a.example", offer=False)
    envelope = office.spool.envelope(gone)
    office.spool.remove([gone])
    office.relayer.offer(office.spool, gone, envelope, None)
    office.run()
    assert office.said("gone")
    assert not office.relayer.busy
    office.post("y@a.example")
    office.run()
    assert taken(host) == ["y@a.example"]


def test_a_fault_of_ours_in_a_lane(office: Office, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]) -> None:
    """Only the message in hand waits; the lane's channel is not used again."""
    host = office.host("mx.a.example")
    office.post("w@a.example")
    office.run()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("qmtls.service.sending.judge_result", broken)
        id = office.post("x@a.example")
        office.run()
    assert failures
    failures.clear()
    assert office.history(id)[0].deferred == (0,)
    assert host.visits[0].lost
    office.post("y@a.example")
    office.run()
    assert taken(host)[-1] == "y@a.example"


# ---------------------------------------------------------------- what a host cannot take


def test_what_a_host_cannot_take_goes_back(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=("there", "SIZE 10")))
    office.mailbox("s")
    office.post("x@a.example", sender="s@mail.example.org")
    office.run()
    assert not host.mail
    (line,) = office.said("failed")
    assert "status=5.3.4" in line


def test_ascii_goes_to_a_seven_bit_host_whatever_it_was_called(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=("there", "PIPELINING")))
    office.post("x@a.example", body="8BITMIME")
    office.run()
    assert len(host.mail) == 1
    assert "BODY" not in next(line for line in host.visits[0].lines if line.startswith("MAIL"))
    office.post("x@a.example", body="8BITMIME", content=b"Subject: \xc3\xa9\r\n\r\n", sender=None)
    office.run()
    assert len(host.mail) == 1
    assert "status=5.6.3" in office.said("failed")[0]


def test_without_pipelining(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=("there",)))
    office.post("x@a.example", "y@a.example")
    office.run()
    assert taken(host) == ["x@a.example", "y@a.example"]


@pytest.mark.parametrize("segment", [1, 3, 50])
def test_replies_in_any_segments(office: Office, segment: int) -> None:
    office.reactor.segment = segment
    host = office.host("mx.a.example", Host(certs.server("mx.a.example")))
    office.post("x@a.example")
    office.post("y@a.example")
    office.run()
    assert taken(host) == ["x@a.example", "y@a.example"]
    assert [mail.tls for mail in host.mail] == [True, True]


def test_large_content(office: Office) -> None:
    host = office.host("mx.a.example")
    content = b"Subject: x\r\n\r\n" + (b"z" * 98 + b"\r\n") * 30_000
    id = office.post("x@a.example", content=content, offer=False)
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(1)
    assert host.mail[0].content == content
    assert id not in office.ids_stored


def test_the_null_path_and_a_double_bounce_look_alike(office: Office) -> None:
    host = office.host("mx.a.example")
    office.post("x@a.example", sender=None)
    office.post("x@a.example", sender="#@[]")
    office.run()
    assert [mail.sender for mail in host.mail] == ["", ""]
