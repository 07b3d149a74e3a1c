"""Delivery into our own mailboxes, a bounded number at a time, off the reactor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.delivery.loops import was_delivered_to
from qmtls.delivery.notify import to_be_confirmed
from qmtls.delivery.outcome import Fate, Notice, Outcome
from qmtls.delivery.verp import expanded
from qmtls.net.channel import OffReactor
from qmtls.net.mailboxes import MailboxError, Mailboxes
from qmtls.recipients import POSTMASTER, Recipients
from qmtls.service.attempt import Task
from qmtls.service.orders import ordered_meanwhile
from qmtls.spool.api import Malformed, NotInSpool, SpoolError

log = Logger()


class LocalDelivery:
    """Takes tasks by `submit`; each task's `done` is called exactly once."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        off_reactor: OffReactor,
        limit: Callable[[], int],
        recipients: Callable[[], Recipients],
    ) -> None:
        self._mailboxes = mailboxes
        self._off_reactor = off_reactor
        self._limit = limit
        self._recipients = recipients
        self._queue: deque[Task] = deque()
        self._running = 0

    def submit(self, task: Task) -> None:
        """Delivers to the mailboxes of its recipients, when it is its turn."""
        self._queue.append(task)
        self.wake()
        if self._queue and self._queue[-1] is task:
            task.attempt.waited = True

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
        if attempt.waited and (ordered := ordered_meanwhile(attempt)):
            return dict.fromkeys(task.recipients, ordered)
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
        recipients = self._recipients()
        names = recipients.names(address)
        if not names:
            return Outcome(Fate.DEFERRED, f"{address.domain} is not local any more", "4.3.5")
        delivered_to = str(recipients.local_form(address))
        reverse_path = expanded(envelope.reverse_path, address)
        head = f"Return-Path: <{reverse_path or ''}>\r\nDelivered-To: {delivered_to}\r\n"
        try:
            user = self._mailboxes.first(names) or names[-1]
            if was_delivered_to(attempt.chunks(), delivered_to):
                return Outcome(Fate.FAILED, "this message is looping: it already has my Delivered-To line", "5.4.6")
            self._mailboxes.deliver(user, head.encode("utf-8", "replace"), attempt.chunks(), f"{attempt.id}.{index}")
        except MailboxError as problem:
            if not problem.temporary and names == (POSTMASTER,):
                # He is never refused (RFC 5321 section 4.5.1), and is told what everybody else could not be.
                return Outcome(Fate.DEFERRED, f"{problem}; make one: qmtls mailbox add {POSTMASTER}", "4.2.1")
            if not problem.temporary:
                return Outcome(Fate.FAILED, f"no mailbox here by that name: {problem}", "5.1.1")
            return Outcome(Fate.DEFERRED, f"the mailbox of {address} cannot be written: {problem}", "4.2.0")
        except SpoolError as problem:
            return Outcome(Fate.DEFERRED, f"the queue file cannot be read: {problem}", "4.3.0")
        notice = Notice.DELIVERED if to_be_confirmed(envelope, index) else None
        return Outcome(Fate.DELIVERED, "delivered to the local mailbox", "2.0.0", host="local", notice=notice)
