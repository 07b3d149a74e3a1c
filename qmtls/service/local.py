"""Delivery into our own mailboxes, a bounded number at a time, off the reactor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.net.channel import OffReactor
from qmtls.net.mailboxes import MailboxError, Mailboxes
from qmtls.service.attempt import Task
from qmtls.spool.api import Malformed, NotInSpool, SpoolError

log = Logger()


class LocalDelivery:
    """Takes tasks by `submit`; each task's `done` is called exactly once."""

    def __init__(self, mailboxes: Mailboxes, off_reactor: OffReactor, limit: Callable[[], int]) -> None:
        self._mailboxes = mailboxes
        self._off_reactor = off_reactor
        self._limit = limit
        self._queue: deque[Task] = deque()
        self._running = 0

    def submit(self, task: Task) -> None:
        self._queue.append(task)
        self.wake()

    def stop(self) -> list[Task]:
        """The tasks in line, which are no longer ours; what is being written is finished."""
        tasks = list(self._queue)
        self._queue.clear()
        return tasks

    def wake(self) -> None:
        """Starts what the limit allows; also to be called when it was raised."""
        while self._queue and self._running < self._limit():
            task = self._queue.popleft()
            self._running += 1
            task.attempt.in_hand += 1
            running: Deferred[Any] = self._off_reactor(partial(self._deliver, task))
            running.addErrback(self._broke, task)
            running.addCallback(self._done, task)

    def _broke(self, failure: Failure, task: Task) -> dict[int, Outcome]:
        log.failure("local delivery of {id}", failure=failure, id=task.attempt.id)
        return dict.fromkeys(task.recipients, Outcome(Fate.DEFERRED, "trouble on our side", "4.3.0"))

    def _done(self, outcomes: dict[int, Outcome], task: Task) -> None:
        self._running -= 1
        task.attempt.in_hand -= 1
        task.done(task, outcomes)
        self.wake()

    def _deliver(self, task: Task) -> dict[int, Outcome]:
        """Blocking. One copy for each recipient, each synced before its outcome counts."""
        attempt = task.attempt
        try:
            attempt.load()
        except NotInSpool:
            return {}
        except (Malformed, SpoolError) as problem:
            outcome = Outcome(Fate.DEFERRED, f"the queue file cannot be read: {problem}", "4.3.0")
            return dict.fromkeys(task.recipients, outcome)
        return {index: self._deliver_one(task, index) for index in task.recipients}

    def _deliver_one(self, task: Task, index: int) -> Outcome:
        attempt = task.attempt
        envelope = attempt.envelope
        assert envelope is not None
        address = envelope.recipients[index].address
        sender = envelope.reverse_path
        head = f"Return-Path: <{sender or ''}>\r\nDelivered-To: {address}\r\n".encode("ascii", "replace")
        user = self._mailboxes.user(address)
        if user is None:
            return Outcome(Fate.FAILED, f"{address.local_part} can be no mailbox here", "5.1.1")
        try:
            self._mailboxes.deliver(user, head, attempt.chunks(), f"{attempt.id}.{index}")
        except MailboxError as problem:
            if not problem.temporary:
                return Outcome(Fate.FAILED, f"no mailbox here by the name {user}: {problem}", "5.1.1")
            return Outcome(Fate.DEFERRED, f"the mailbox of {address} cannot be written: {problem}", "4.2.0")
        except SpoolError as problem:
            return Outcome(Fate.DEFERRED, f"the queue file cannot be read: {problem}", "4.3.0")
        return Outcome(Fate.DELIVERED, "delivered to the local mailbox", "2.0.0", host="local")
