"""Delivery into our own mailboxes: copies, failures, the limit, and what happens to the queue file meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop
from qmtls.net.mailboxes import FOLDERS, MailboxError, Mailboxes
from qmtls.recipients import Recipients, VirtualDomains
from qmtls.service.attempt import Attempt, Task
from qmtls.service.local import LocalDelivery
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import SpoolError
from qmtls.spool.memory import MemorySpool
from tests.net.doubles import off_reactor
from tests.service.office import Office, address

CONTENT = b"Subject: x\r\n\r\nhello\r\n"


class Box:
    """Mailboxes and tasks for them."""

    def __init__(self, path: Path, limit: int = 5) -> None:
        self.path = path
        self.limit = limit
        self.spool = MemorySpool()
        self.results: list[dict[int, Outcome]] = []
        self.held: list[Deferred[Any]] | None = None
        self.recipients = Recipients(
            frozenset({"here.example"}), virtual=VirtualDomains({"v.example": "shop"}), postmaster_host="here.example"
        )
        self.local = LocalDelivery(Mailboxes(path), self.off_reactor, lambda: self.limit, lambda: self.recipients)

    def off_reactor(self, work: Callable[[], Any]) -> Deferred[Any]:
        if self.held is None:
            return off_reactor(work)
        waiting: Deferred[Any] = Deferred()
        self.held.append(waiting)
        return waiting.addCallback(lambda _: work())

    def mailbox(self, user: str) -> Path:
        for folder in FOLDERS:
            (self.path / user / folder).mkdir(parents=True)
        return self.path / user / "new"

    def task(
        self, *recipients: str, sender: str | None = "s@a.example", stored: bool = True, content: bytes = CONTENT
    ) -> Task:
        envelope = Envelope(
            address(sender) if sender else None, tuple(Recipient(address(r)) for r in recipients), Arrival(1.0)
        )
        id = f"{len(self.results) + len(list(self.spool.scan())):021x}"
        if stored:
            incoming = self.spool.begin(id, envelope)
            incoming.write(content)
            self.spool.commit([incoming])
        attempt = Attempt(self.spool, id, envelope, tried=False)
        hop = NextHop("here.example", local=True)
        return Task(attempt, hop, tuple(range(len(recipients))), lambda task, outcomes: self.results.append(outcomes))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_one_copy_for_each(box: Box) -> None:
    joe, ann = box.mailbox("joe"), box.mailbox("ann")
    box.local.submit(box.task("Joe@here.example", "ann@here.example"))
    (outcomes,) = box.results
    assert [o.fate for o in outcomes.values()] == [Fate.DELIVERED] * 2
    assert next(joe.iterdir()).read_bytes() == (
        b"Return-Path: <s@a.example>\nDelivered-To: Joe@here.example\nSubject: x\n\nhello\n"
    )
    assert len(list(ann.iterdir())) == 1


def test_the_null_path(box: Box) -> None:
    joe = box.mailbox("joe")
    box.local.submit(box.task("joe@here.example", sender=None))
    assert next(joe.iterdir()).read_bytes().startswith(b"Return-Path: <>\n")


def test_a_virtual_recipient(box: Box) -> None:
    catch_all, sales = box.mailbox("shop"), box.mailbox("shop-sales")
    box.local.submit(box.task("any@v.example", "Sales@V.example", "o'neil@v.example"))
    assert {o.fate for o in box.results[0].values()} == {Fate.DELIVERED}
    (for_sales,) = [path.read_bytes() for path in sales.iterdir()]
    assert for_sales.startswith(b"Return-Path: <s@a.example>\nDelivered-To: shop-sales@V.example\nSubject")
    rest = sorted(path.read_bytes().splitlines()[1] for path in catch_all.iterdir())
    assert rest == [b"Delivered-To: shop-any@v.example", b"Delivered-To: shop-o'neil@v.example"]


def test_an_extension(box: Box) -> None:
    joe, exact = box.mailbox("joe"), box.mailbox("joe+work")
    box.local.submit(box.task("Joe+List@here.example", "joe+work@here.example", "ann+x@here.example"))
    assert [o.fate for o in box.results[0].values()] == [Fate.DELIVERED, Fate.DELIVERED, Fate.FAILED]
    (text,) = [path.read_bytes() for path in joe.iterdir()]
    assert text.startswith(b"Return-Path: <s@a.example>\nDelivered-To: Joe+List@here.example\n")
    assert len(list(exact.iterdir())) == 1
    back = b"Delivered-To: joe+list@here.example\r\n" + CONTENT
    box.local.submit(box.task("joe+list@here.example", content=back))
    assert box.results[1][0].status == "5.4.6"


def test_a_reverse_path_for_each(box: Box) -> None:
    joe = box.mailbox("joe")
    box.local.submit(box.task("joe@here.example", sender="list-@a.example-@[]"))
    assert next(joe.iterdir()).read_bytes().startswith(b"Return-Path: <list-joe=here.example@a.example>\n")


def test_the_size_is_in_the_name(box: Box) -> None:
    joe = box.mailbox("joe")
    box.local.submit(box.task("joe@here.example"))
    (path,) = joe.iterdir()
    assert path.name.endswith(f".0,S={path.stat().st_size}")


def test_a_virtual_recipient_without_a_mailbox(box: Box) -> None:
    box.mailbox("joe")
    box.local.submit(box.task("any@v.example"))
    assert (box.results[0][0].fate, box.results[0][0].status) == (Fate.FAILED, "5.1.1")


def test_mail_that_is_back(box: Box) -> None:
    joe, ann = box.mailbox("joe"), box.mailbox("ann")
    back = b"Delivered-To: Joe@here.example\r\n" + CONTENT
    box.local.submit(box.task("joe@here.example", "ann@here.example", content=back))
    looping, fine = box.results[0].values()
    assert (looping.fate, looping.status, fine.fate) == (Fate.FAILED, "5.4.6", Fate.DELIVERED)
    assert "looping" in looping.reason
    assert (list(joe.iterdir()), len(list(ann.iterdir()))) == ([], 1)


@pytest.mark.parametrize("name", ["postmaster@here.example", "Postmaster@", "postmaster@HERE.example"])
def test_postmaster_s_mail_waits_for_a_mailbox(box: Box, name: str) -> None:
    box.local.submit(box.task(name))
    assert (box.results[0][0].fate, box.results[0][0].status) == (Fate.DEFERRED, "4.2.1")
    assert "qmtls mailbox add postmaster" in box.results[0][0].reason
    inbox = box.mailbox("postmaster")
    box.local.submit(box.task(name))
    assert len(list(inbox.iterdir())) == 1


def test_a_domain_that_is_local_no_more(box: Box) -> None:
    box.mailbox("joe")
    box.recipients = Recipients()
    box.local.submit(box.task("joe@here.example"))
    assert box.results[0][0].fate is Fate.DEFERRED


@pytest.mark.parametrize("user", ["nobody", "../joe", "a/b", ".hidden"])
def test_no_such_mailbox_is_permanent(box: Box, user: str) -> None:
    box.mailbox("joe")
    box.local.submit(box.task(f"{user}@here.example"))
    assert (box.results[0][0].fate, box.results[0][0].status) == (Fate.FAILED, "5.1.1")


def test_a_directory_of_all_mailboxes_that_is_gone_is_temporary(tmp_path: Path) -> None:
    box = Box(tmp_path / "not mounted")
    box.local.submit(box.task("joe@here.example"))
    assert box.results[0][0].fate is Fate.DEFERRED


def test_a_disk_in_trouble_is_temporary(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def deliver(*_: object) -> None:
        raise MailboxError("I/O error")

    box.mailbox("joe")
    monkeypatch.setattr(Mailboxes, "deliver", deliver)
    box.local.submit(box.task("joe@here.example"))
    outcome = box.results[0][0]
    assert (outcome.fate, outcome.status) == (Fate.DEFERRED, "4.2.0")
    assert "I/O error" in outcome.reason


def test_a_queue_file_in_trouble_is_temporary(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def content(id: str) -> None:
        raise SpoolError("I/O error")

    box.mailbox("joe")
    monkeypatch.setattr(box.spool, "content", content)
    box.local.submit(box.task("joe@here.example"))
    assert box.results[0][0].fate is Fate.DEFERRED


def test_a_message_that_is_gone(box: Box) -> None:
    box.mailbox("joe")
    box.local.submit(box.task("joe@here.example", stored=False))
    assert box.results == [{}]


def test_a_fault_of_ours(box: Box, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]) -> None:
    def deliver(*_: object) -> None:
        raise ZeroDivisionError

    box.mailbox("joe")
    monkeypatch.setattr(Mailboxes, "deliver", deliver)
    task = box.task("joe@here.example")
    box.local.submit(task)
    assert box.results[0][0].fate is Fate.DEFERRED
    assert task.attempt.in_hand == 0
    assert failures
    failures.clear()


def test_the_limit(box: Box) -> None:
    box.mailbox("joe")
    box.limit, box.held = 2, []
    for _ in range(5):
        box.local.submit(box.task("joe@here.example"))
    assert len(box.held) == 2
    box.held[0].callback(None)
    assert len(box.held) == 3
    box.limit = 10
    box.local.wake()
    assert len(box.held) == 5
    for waiting in box.held[1:]:
        waiting.callback(None)
    assert len(box.results) == 5


def test_what_is_in_line_at_the_end_is_given_back(box: Box) -> None:
    box.mailbox("joe")
    box.limit, box.held = 1, []
    tasks = [box.task("joe@here.example") for _ in range(3)]
    for task in tasks:
        box.local.submit(task)
    assert box.local.stop() == tasks[1:]
    box.held[0].callback(None)
    assert len(box.results) == 1
    assert len(box.held) == 1


def test_a_mailbox_repaired_later(tmp_path: Path) -> None:
    office = Office(tmp_path, {"locals": "here.example\n"})
    (tmp_path / "mail").rmdir()
    id = office.post("joe@here.example")
    office.run()
    assert office.history(id)[0].deferred == (0,)
    (tmp_path / "mail").mkdir()
    inbox = office.mailbox("joe")
    office.pass_time(450)
    assert len(list(inbox.iterdir())) == 1
    assert not office.ids_stored
