"""The committer's threads, without a reactor: `back` puts the calls into a queue that the test works off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from qmtls.net.commit import BATCH_LIMIT, Committer
from qmtls.spool.api import Attempt, Filing, Incoming, SpoolError
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.memory import MemorySpool
from tests.spool.mail import BODY, ids, octets, receive, store

PATIENCE = 20.0  # seconds until a test that hangs fails


class Reactor:
    """The reactor's thread, as far as the committer sees it."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.count = 0

    def back(self, f: Callable[..., object], *args: object) -> None:
        self.calls.put(lambda: f(*args))

    def turn(self) -> None:
        self.calls.get(timeout=PATIENCE)()
        self.count += 1

    def until(self, *waiting: Deferred[Any]) -> list[Any]:
        """Runs until all have fired; their results, errors as exceptions."""
        results: dict[int, Any] = {}
        for n, deferred in enumerate(waiting):
            deferred.addCallbacks(
                lambda value, n=n: results.__setitem__(n, value),
                lambda failure, n=n: results.__setitem__(n, failure.value),
            )
        while len(results) < len(waiting):
            self.turn()
        return [results[n] for n in range(len(waiting))]


class Gate(MemorySpool):
    """Its first commit waits until the test opens it: what comes meanwhile is one batch. Remembers all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()
        self.log: list[tuple[str, int]] = []

    def commit(self, batch: Sequence[Incoming]) -> list[SpoolError | None]:
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        self.log.append(("commit", len(batch)))
        return super().commit(batch)

    def record(self, batch: Sequence[Filing]) -> list[SpoolError | None]:
        self.log.append(("record", len(batch)))
        return super().record(batch)

    def remove(self, ids: Sequence[str]) -> None:
        self.log.append(("remove", len(ids)))
        super().remove(ids)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def committer(reactor: Reactor) -> Iterator[Committer]:
    made = Committer(reactor.back)
    yield made
    reactor.until(made.stop())


def filing(id: str) -> Filing:
    return Filing(id, Attempt(1.0, done=(0,)), due=2e9)


def closed(gate: Gate, committer: Committer) -> Deferred[None]:
    """The committing thread stands in the gate with one message."""
    first = committer.commit(gate, receive(gate, "first"))
    assert gate.entered.wait(PATIENCE)
    return first


def test_a_message_is_on_disk_when_its_deferred_fires(tmp_path: Path, reactor: Reactor, committer: Committer) -> None:
    spool = MaildirSpool(tmp_path / "queue" / "1")
    done = committer.commit(spool, receive(spool, "id1"))
    seen = done.addCallback(lambda _: ids(spool))
    assert reactor.until(seen) == [["id1"]]
    assert reactor.until(committer.record(spool, filing("id1"))) == [None]
    assert spool.history("id1") == (filing("id1").attempt,)
    committer.remove(spool, "id1")
    reactor.turn()
    assert ids(spool) == []


def test_what_waits_is_one_batch_and_comes_back_in_one_call(reactor: Reactor, committer: Committer) -> None:
    gate = Gate()
    first = closed(gate, committer)
    waiting = [committer.commit(gate, receive(gate, f"id{n}")) for n in range(20)]
    waiting += [committer.record(gate, filing("first"))]
    gate.opened.set()
    assert reactor.until(first, *waiting) == [None] * 22
    assert gate.log == [("commit", 1), ("record", 1), ("commit", 20)]  # in turn: neither starves the other
    assert reactor.count == 3


def test_removals_are_made_and_told(reactor: Reactor, committer: Committer) -> None:
    spools = MemorySpool("1"), MemorySpool("2")
    told: list[tuple[str, str]] = []
    committer.on_removed = lambda spool, ids: told.extend((spool.name, id) for id in ids)
    for spool in spools:
        for n in range(50):
            store(spool, f"id{n}")
            committer.remove(spool, f"id{n}")
    while len(told) < 100:
        reactor.turn()
    assert sorted(told) == sorted((name, f"id{n}") for name in ("1", "2") for n in range(50))
    assert [ids(spool) for spool in spools] == [[], []]


def test_a_batch_is_bounded(reactor: Reactor, committer: Committer) -> None:
    gate = Gate()
    first = closed(gate, committer)
    waiting = [committer.commit(gate, receive(gate, f"id{n}")) for n in range(2 * BATCH_LIMIT + 1)]
    gate.opened.set()
    reactor.until(first, *waiting)
    assert gate.log == [("commit", n) for n in (1, BATCH_LIMIT, BATCH_LIMIT, 1)]


def test_each_spool_gets_its_own_batch(reactor: Reactor, committer: Committer) -> None:
    gate, other = Gate(), Gate()
    other.opened.set()
    first = closed(gate, committer)
    waiting = [committer.commit(spool, receive(spool, f"id{n}")) for n in range(3) for spool in (gate, other)]
    gate.opened.set()
    reactor.until(first, *waiting)
    assert (gate.log, other.log) == ([("commit", 1), ("commit", 3)], [("commit", 3)])
    assert ids(other) == ["id0", "id1", "id2"]


def test_each_waits_for_its_own_error(reactor: Reactor, committer: Committer) -> None:
    gate = Gate()
    first = closed(gate, committer)
    given_up = receive(gate, "id1")
    given_up.abort()
    waiting = [committer.commit(gate, receive(gate, "id0")), committer.commit(gate, given_up)]
    gate.opened.set()
    good, also_good, bad = reactor.until(first, *waiting)
    assert (good, also_good) == (None, None)
    assert isinstance(bad, SpoolError)


def test_who_hands_over_more_at_a_failure_begins_one_batch(
    tmp_path: Path, reactor: Reactor, committer: Committer
) -> None:
    """A batch that fails before its first sync tells of it while it begins: what comes then is no batch beside it."""
    spool, gate, more = MaildirSpool(tmp_path / "1"), Gate(), list[Deferred[None]]()
    given_up = receive(spool, "id9")
    given_up.abort()
    committer.store(spool, given_up, lambda error: more.append(committer.commit(gate, receive(gate, "first"))))
    assert gate.entered.wait(PATIENCE)
    waiting = [committer.commit(gate, receive(gate, f"id{n}")) for n in range(3)]
    gate.opened.set()
    assert reactor.until(*more, *waiting) == [None] * 4
    assert gate.log == [("commit", 1), ("commit", 3)]


def test_who_fails_at_his_answer_spoils_nobody_elses(committer: Committer, reactor: Reactor, failures: Any) -> None:
    gate, done = Gate(), Deferred[None]()
    first = closed(gate, committer)
    committer.store(gate, receive(gate, "id1"), lambda error: 1 / 0)
    committer.store(gate, receive(gate, "id2"), lambda error: done.callback(None))
    gate.opened.set()
    assert reactor.until(first, done) == [None, None]
    assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]
    failures.clear()


def test_a_full_disk_is_told_as_such(reactor: Reactor, committer: Committer) -> None:
    spool = MemorySpool()
    store(spool, "id1")
    spool.fail = SpoolError("no space", full=True)
    errors = reactor.until(committer.commit(spool, receive(spool, "id2")), committer.record(spool, filing("id1")))
    assert all(isinstance(error, SpoolError) and error.full for error in errors)


class Faulty(MemorySpool):
    def commit(self, batch: Sequence[Incoming]) -> list[SpoolError | None]:
        raise ZeroDivisionError("a fault of ours")

    def record(self, batch: Sequence[Filing]) -> list[SpoolError | None]:
        return []  # too few answers

    def remove(self, ids: Sequence[str]) -> None:
        raise SpoolError("cannot unlink")


def test_faults_of_a_spool_confirm_nothing_and_leave_the_thread_alive(reactor: Reactor, committer: Committer) -> None:
    faulty, good = Faulty(), MemorySpool()
    committer.remove(faulty, "id1")
    errors = reactor.until(committer.commit(faulty, receive(faulty, "id1")), committer.record(faulty, filing("id1")))
    assert all(isinstance(error, SpoolError) for error in errors)
    assert reactor.until(committer.commit(good, receive(good, "id1"))) == [None]


def test_other_work_does_not_wait_for_commits_nor_commits_for_it(reactor: Reactor, committer: Committer) -> None:
    gate, good = Gate(), MemorySpool()
    first = closed(gate, committer)
    assert reactor.until(committer.run(lambda: 7)) == [7]
    gate.opened.set()
    reactor.until(first)
    blocked = threading.Event()
    slow = committer.run(lambda: blocked.wait(PATIENCE))
    assert reactor.until(committer.commit(good, receive(good, "id1"))) == [None]
    blocked.set()
    assert reactor.until(slow) == [True]


def test_run_and_flush_hand_on_what_is_raised(tmp_path: Path, reactor: Reactor, committer: Committer) -> None:
    spool = MaildirSpool(tmp_path / "queue" / "1")
    incoming = receive(spool, "id1")
    assert reactor.until(committer.flush(incoming)) == [None]
    assert (tmp_path / "queue/1/tmp/id1").exists()
    incoming.abort()
    (error,) = reactor.until(committer.flush(incoming))
    assert isinstance(error, SpoolError)
    (fault,) = reactor.until(committer.run(lambda: 1 // 0))
    assert isinstance(fault, ZeroDivisionError)


def test_stop_finishes_what_was_handed_over_and_refuses_the_rest(tmp_path: Path, reactor: Reactor) -> None:
    committer = Committer(reactor.back)
    spool = MaildirSpool(tmp_path / "queue" / "1")
    reactor.until(committer.commit(spool, receive(spool, "id0")))
    committer.remove(spool, "id0")
    waiting = [committer.commit(spool, receive(spool, f"id{n}")) for n in range(1, 6)]
    order: list[str] = []
    for deferred in waiting:
        deferred.addCallback(lambda _: order.append("stored"))
    stopped = committer.stop().addCallback(lambda _: order.append("stopped"))
    late = [
        committer.commit(spool, receive(spool, "late")),
        committer.record(spool, filing("id1")),
        committer.run(lambda: None),
    ]
    assert all(isinstance(error, SpoolError) for error in reactor.until(*late))
    reactor.until(stopped, committer.stop())
    assert order == ["stored"] * 5 + ["stopped"]
    assert ids(spool) == ["id1", "id2", "id3", "id4", "id5"]
    assert octets(spool, "id4") == BODY


def test_what_can_be_removed_in_place_is_not_handed_over(reactor: Reactor, committer: Committer) -> None:
    class Quick(MemorySpool):
        def remove_at_once(self, id: str) -> bool:
            super().remove([id])
            return True

        def remove(self, ids: Sequence[str]) -> None:
            raise AssertionError("handed over")

    quick = Quick()
    removed: list[Sequence[str]] = []
    committer.on_removed = lambda spool, ids: removed.append(ids)
    reactor.until(committer.commit(quick, receive(quick, "id1")))
    committer.remove(quick, "id1")
    assert removed == [("id1",)]
    assert not quick.has("id1")
