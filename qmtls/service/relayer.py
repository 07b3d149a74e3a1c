"""The relayer: every message that this worker's bins hold is either being attempted or waits for its time.

Fresh mail is planned the moment it is stored. Mail from the disk (a start, a retry) is read in small batches at a
bounded pace, so a hundred thousand waiting messages neither delay the start nor fresh mail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import jobs
from qmtls.delivery.waiting import DueList
from qmtls.net.commit import Committer
from qmtls.net.reception import Reception
from qmtls.service.attempt import Attempt, Key, Task
from qmtls.service.destinations import Destinations
from qmtls.service.filing import Registrar
from qmtls.service.lane import Workshop
from qmtls.service.local import LocalDelivery
from qmtls.service.orders import held_now, returned
from qmtls.service.waiting import Due, Parked, read_due
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import Attempt as Entry
from qmtls.spool.api import Malformed, NotInSpool, Spool, Waiting

BATCH = 50  # messages read from the disk in one go
CROWD = 100  # attempts under way, in line or being filed, above which reading slows down
SLOW_PACE = 0.1  # seconds between batches then
TROUBLE_SECONDS = 123.0  # after a system error, as qmail waits
LISTED = 2000  # names of a listing that the reactor takes in one turn

NOT_TRIED = Outcome(Fate.DEFERRED, "the service stopped before it was tried", "4.3.2")
NO_OUTCOME = Outcome(Fate.DEFERRED, "trouble on our side", "4.3.0")

log = Logger()


class Relayer:
    """`spools` are the bins of this worker, by name; `registrar` and `local` are set by the assembly.

    `clock` is for timers, `now` tells the time of day by which messages are due: the one may be set, the other not.
    """

    registrar: Registrar
    local: LocalDelivery

    def __init__(
        self, clock: Any, now: Callable[[], float], committer: Committer, shop: Workshop, say: Callable[[str], None]
    ) -> None:
        self._clock = clock
        self._now = now
        self._committer = committer
        self._shop = shop
        self._say = say
        self.spools: dict[str, Spool] = {}
        self.destinations = Destinations(shop)
        self.lanes = self.destinations.lanes
        self._waiting: DueList[Key] = DueList()
        self._active: dict[Key, Attempt] = {}
        self._parked = Parked(say)
        self._listing: dict[str, bool] = {}  # bins that are being listed; True: once more, something changed since
        self._leaving: set[Key] = set()  # finished, but their files may still be there
        committer.on_removed = self._removed
        self._left_alone: set[Key] = set()  # malformed: named once, never touched
        self._foreign: set[tuple[str, str]] = set()  # bin and file: named once
        self._timer: Any = None
        self._held_back = False  # mail is due, but many attempts are under way
        self._loading = False
        self._stopping = False

    # ------------------------------------------------------------ messages come

    def accepted(self, spool: Spool, reception: Reception) -> None:
        """A message that was just stored."""
        self.offer(spool, reception.id, reception.envelope, reception.remembered)

    def offer(self, spool: Spool, id: str, envelope: Envelope, content: bytes | None) -> None:
        """A stored message, to be attempted now."""
        attempt = Attempt(spool, id, envelope, tried=False, remembered=content)
        self._begin(attempt, range(len(envelope.recipients)))

    def adopt(self, spool: Spool) -> Deferred[None]:
        """A bin is ours now: all that it holds."""
        self.spools[spool.name] = spool
        return self.rescan(spool)

    def rescan(self, spool: Spool) -> Deferred[None]:
        """Looks for messages and times that others put into the bin."""
        return Deferred.fromCoroutine(self._rescan(spool))

    async def _rescan(self, spool: Spool) -> None:
        """In portions: a million names at once would be hundreds of MiB, and seconds in which nobody is answered."""
        self._free_parked()
        if spool.name in self._listing:
            self._listing[spool.name] = True
            return
        again = True
        while again:
            self._listing[spool.name] = False
            try:
                await self._list(spool)
            except Exception as problem:
                self._say(f"queue trouble bin={spool.name} error={problem}")
            again = self._listing.pop(spool.name)
            self._schedule()

    async def _list(self, spool: Spool) -> None:
        found, count = iter(spool.scan()), LISTED
        while count == LISTED:
            portion = await self._committer.run(lambda: list(islice(found, LISTED)))
            self._found(spool, portion)
            self._schedule()
            count = len(portion)
        for name in spool.foreign():
            if (spool.name, name) not in self._foreign:
                self._foreign.add((spool.name, name))
                self._say(f"left alone bin={spool.name} file={name}")

    def _found(self, spool: Spool, found: Iterable[Waiting]) -> None:
        for entry in found:
            key = (spool.name, entry.id)
            if key in self._active or key in self._leaving or key in self._left_alone:
                continue
            if entry.held:
                self._waiting.discard(key)
                self._parked.discard(key)
            elif entry.returning:
                self._parked.discard(key)
                self._waiting.add(key, 0.0)
            elif key in self._parked:
                continue
            elif (entry.due or key not in self._waiting) and not self._urged(key):
                # Never tried, says the listing, and we know a time: the listing is older than the attempt.
                self._waiting.add(key, entry.due)

    def _urged(self, key: Key) -> bool:
        """ALRM made it due, which the time of its file does not know."""
        due = self._waiting.due(key)
        return due is not None and due < 0.0

    # ------------------------------------------------------------ time

    def _schedule(self) -> None:
        """Sets the one timer to the next due message."""
        due = self._waiting.next_due()
        if due is None or self._loading or self._stopping:
            return
        delay = max(0.0, due - self._now())
        self._held_back = delay == 0.0 and len(self._active) > CROWD
        if self._held_back:
            delay = SLOW_PACE
        if self._timer is None or not self._timer.active():
            self._timer = self._clock.callLater(delay, self._take_due)
        elif (
            self._timer.getTime() > self._clock.seconds() + delay
        ):  # never later: who asks often would put it off for ever
            self._timer.reset(delay)

    def _take_due(self) -> None:
        keys = self._waiting.take(self._now(), BATCH)
        if not keys:
            self._schedule()
            return
        self._loading = True
        loading = self._committer.run(lambda: [read_due(self.spools[bin], id) for bin, id in keys])
        loading.addCallback(self._loaded)
        loading.addErrback(lambda failure: log.failure("reading the queue", failure=failure))
        loading.addBoth(self._loading_over)

    def _loading_over(self, _: object) -> None:
        self._loading = False
        self._schedule()

    def _loaded(self, messages: list[Due]) -> None:
        for read in messages:
            match read.attempt:
                case Attempt():
                    self._begin(read.attempt, read.todo, read.order)
                case NotInSpool():
                    continue
                case Malformed():
                    self._left_alone.add(read.key)
                    self._say(f"left alone bin={read.key[0]} file={read.key[1]} reason={read.attempt}")
                case _:
                    self._say(f"queue trouble id={read.key[1]} error={read.attempt}")
                    self._waiting.add(read.key, self._now() + TROUBLE_SECONDS)

    # ------------------------------------------------------------ attempts

    def _begin(self, attempt: Attempt, todo: Iterable[int], order: Entry | None = None) -> None:
        key = attempt.key
        # A listing may have it as waiting although it was offered: it is sent once.
        if self._stopping or key in self._active or key in self._leaving:
            return
        self._waiting.discard(key)
        indices = tuple(todo)
        if not indices:
            self._remove(attempt)
            return
        if order is not None:
            self._active[key] = attempt
            attempt.outcomes = returned(indices, order)
            self.registrar.close(attempt)
            return
        assert attempt.envelope is not None
        snapshot = self._shop.current()
        held = held_now(attempt, indices, snapshot.settings.holds, self._now())
        if held:
            attempt.outcomes.update(held)
            indices = tuple(i for i in indices if i not in held)
            if not indices:
                self._park(attempt)
                return
        plan = jobs(attempt.envelope, indices, snapshot.settings.routing)
        if snapshot.settings.concurrency_remote == 0 and any(not job.next_hop.local for job in plan):
            return  # remote mail is held: it stays in the queue until a reload says otherwise
        self._active[key] = attempt
        attempt.open_tasks = len(plan)
        for job in plan:
            task = Task(attempt, job.next_hop, job.recipients, self._task_done)
            if job.next_hop.local:
                self.local.submit(task)
            else:
                self.destinations.of(job.next_hop, snapshot).submit(task)

    def _task_done(self, task: Task, outcomes: dict[int, Outcome]) -> None:
        attempt = task.attempt
        if outcomes and len(outcomes) < len(task.recipients):
            # Whoever has no outcome must not be taken for delivered when the others are.
            log.error("no outcome for a recipient of {id}", id=attempt.id)
            outcomes = dict.fromkeys(task.recipients, NO_OUTCOME) | outcomes
        attempt.outcomes.update(outcomes)
        attempt.open_tasks -= 1
        if attempt.open_tasks == 0:
            if not attempt.outcomes:
                self.gone(attempt)
            elif all(outcome.fate is Fate.HELD for outcome in attempt.outcomes.values()):
                self._park(attempt)
            else:
                self.registrar.close(attempt)

    def _park(self, attempt: Attempt) -> None:
        """Nobody was tried, so nothing is written: as on the disk, it waits for the rule to go."""
        self.gone(attempt)
        if attempt.look_again:
            self._waiting.add(attempt.key, 0.0)
            self._schedule()
        else:
            self._parked.add(attempt)

    def _free_parked(self) -> None:
        """Mail whose rule went, or ended, is due."""
        for key in self._parked.free(self._shop.current().settings.holds, self._now()):
            self._waiting.add(key, 0.0)

    def waits(self, attempt: Attempt, due: float) -> None:
        """An attempt was filed; the message is due again at `due`."""
        self._active.pop(attempt.key, None)
        self._waiting.add(attempt.key, due)
        self._schedule()

    def gone(self, attempt: Attempt) -> None:
        """The message left the queue, or its removal is on the way."""
        self._active.pop(attempt.key, None)
        if self._held_back and len(self._active) <= CROWD // 2:
            self._schedule()

    def finished(self, attempt: Attempt) -> None:
        """Nothing of the message is left to do: its files go."""
        self.gone(attempt)
        self._remove(attempt)

    def _remove(self, attempt: Attempt) -> None:
        self._leaving.add(attempt.key)
        self._committer.remove(attempt.spool, attempt.id)

    def _removed(self, spool: Spool, ids: Sequence[str]) -> None:
        self._leaving.difference_update([(spool.name, id) for id in ids])

    # ------------------------------------------------------------ orders

    def reloaded(self) -> None:
        """The settings changed: idle channels close, held mail is looked at again, limits may be higher."""
        self.destinations.reloaded()
        self._free_parked()
        self._schedule()
        for spool in self.spools.values():
            self.rescan(spool)

    def make_all_due(self) -> None:
        """ALRM: every waiting message now."""
        self.destinations.look_now()
        self._waiting.make_due()
        self._schedule()

    @property
    def busy(self) -> int:
        """Attempts under way."""
        return len(self._active)

    def stop(self) -> None:
        """Starts nothing new; what is in hand is finished, what is in line is left to the next start."""
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        tasks: dict[Key, list[Task]] = {}
        for task in (*self.destinations.stop(), *self.local.stop()):
            tasks.setdefault(task.attempt.key, []).append(task)
        for left in tasks.values():
            attempt = left[0].attempt
            if len(left) == attempt.open_tasks and not attempt.outcomes:
                self.gone(attempt)  # on the disk it is as if it had not begun
                continue
            for task in left:  # what others of it were answered must be filed
                task.settle(NOT_TRIED)
