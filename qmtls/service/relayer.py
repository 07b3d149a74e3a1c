"""The relayer: every message that this worker's bins hold is either being attempted or waits for its time.

Fresh mail is planned the moment it is stored. Mail from the disk (a start, a retry) is read in small batches at a
bounded pace, so a hundred thousand waiting messages neither delay the start nor fresh mail. What destinations cannot
take now goes back at once (service.shelves), so none of them stands before the mail of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import Job, NextHop, jobs
from qmtls.delivery.waiting import DueList
from qmtls.net.commit import Committer
from qmtls.net.reception import Reception
from qmtls.service.attempt import Attempt, Key, Task
from qmtls.service.destination import Destination
from qmtls.service.destinations import Destinations
from qmtls.service.filing import Registrar
from qmtls.service.lane import Workshop
from qmtls.service.listings import Listings
from qmtls.service.local import LocalDelivery
from qmtls.service.orders import held_now, returned
from qmtls.service.retest import Retester
from qmtls.service.shelves import LOW, REFILL, Shelves, place_for, until
from qmtls.service.waiting import Due, Parked, read_due
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import Malformed, NotInSpool, Spool, Waiting

BATCH = 50  # messages read from the disk in one go
CROWD = 100  # attempts under way, in line or being filed, above which reading slows down
SLOW_PACE = 0.1  # seconds between batches then
SHELF_PACE = 0.02  # the same while some destinations cannot take their mail: most of what is read may be theirs
TROUBLE_SECONDS = 123.0  # after a system error, as qmail waits

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
        self.destinations.has_room = self._has_room
        self.lanes = self.destinations.lanes
        self.retester = Retester(shop, self)
        self._waiting: DueList[Key] = DueList()
        self._active: dict[Key, Attempt] = {}
        self._parked = Parked(say)
        self._shelves = Shelves()
        self._refilling: set[Destination] = set()  # mail is being taken off their shelves
        self._ordered: dict[Key, float] = {}  # somebody made it due, and when that was seen
        self._listings = Listings(committer, self._found, say)
        self._leaving: set[Key] = set()  # finished, but their files may still be there
        committer.on_removed = self._removed
        self._left_alone: set[Key] = set()  # malformed: named once, never touched
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
        self._free_parked()
        self._schedule()
        return Deferred.fromCoroutine(self._listings.run(spool))

    def _found(self, spool: Spool, found: Iterable[Waiting]) -> None:
        for entry in found:
            key = (spool.name, entry.id)
            if key in self._active or key in self._leaving or key in self._left_alone:
                continue
            if entry.held:
                self._waiting.discard(key)
                self._shelves.discard(key)
                self._parked.discard(key)
            elif entry.returning:
                self._parked.discard(key)
                self._shelves.discard(key)
                self._waiting.add(key, 0.0)
            elif key not in self._parked:
                self._found_waiting(key, entry.due)
        self._schedule()

    def _found_waiting(self, key: Key, due: float) -> None:
        known = self._waiting.due(key)
        if key in self._shelves:
            if not self._shelves.changed(key, due):
                return
            self._shelves.discard(key)
        elif known is not None and (known < 0.0 or not due):
            # ALRM made it due, which the time of its file does not know. Or it was never tried, says the listing, and
            # we know a time: the listing is older than the attempt.
            return
        if known is not None and due < known - 1.0:
            self._ordered[key] = self._now()
        self._waiting.add(key, due)

    # ------------------------------------------------------------ time

    def _schedule(self) -> None:
        """Sets the one timer to the next due message."""
        due = self._waiting.next_due()
        if due is None or self._loading or self._stopping:
            return
        delay = max(0.0, due - self._now())
        self._held_back = delay == 0.0 and self._crowd() > CROWD
        if self._held_back:
            delay = SLOW_PACE
        elif self._shelves:
            delay = max(delay, SHELF_PACE)
        if self._timer is None or not self._timer.active():
            self._timer = self._clock.callLater(delay, self._take_due)
        elif self._timer.getTime() > self._clock.seconds() + delay:  # never later: who asks often would put it off
            self._timer.reset(delay)

    def _take_due(self) -> None:
        keys = self._waiting.take(self._now(), BATCH)
        if not keys:
            self._schedule()
            return
        self._loading = True
        if self._shelves:
            for key in keys:
                self._shelves.discard(key)
        self._load(keys).addBoth(self._loading_over)

    def _load(self, keys: Sequence[Key], shelf: Destination | None = None) -> Deferred[Any]:
        loading = self._committer.run(lambda: [read_due(self.spools[bin], id) for bin, id in keys])
        loading.addCallback(self._loaded, shelf)
        return loading.addErrback(lambda failure: log.failure("reading the queue", failure=failure))

    def _crowd(self) -> int:
        """Attempts under way that get on."""
        return len(self._active) - self._shelves.stuck

    def _loading_over(self, _: object) -> None:
        self._loading = False
        self._schedule()

    def _loaded(self, messages: list[Due], shelf: Destination | None) -> None:
        for read in messages:
            match read.attempt:
                case Attempt():
                    self._begin(read.attempt, read.todo, read, shelf)
                case NotInSpool():
                    self._ordered.pop(read.key, None)
                case Malformed():
                    self._left_alone.add(read.key)
                    self._say(f"left alone bin={read.key[0]} file={read.key[1]} reason={read.attempt}")
                case _:
                    self._say(f"queue trouble id={read.key[1]} error={read.attempt}")
                    self._waiting.add(read.key, self._now() + TROUBLE_SECONDS)

    def _has_room(self, destination: Destination) -> None:
        """Takes mail off its shelf, if there is room in its line."""
        if self._stopping or destination in self._refilling or len(destination) >= LOW:
            return
        if destination.is_resting:
            destination.look_when_due()
            return
        keys = self._shelves.take(destination, REFILL)
        for key in keys:
            self._waiting.discard(key)
        if keys:
            self._refilling.add(destination)
            self._load(keys, destination).addBoth(self._refilled, destination)

    def _refilled(self, _: object, destination: Destination) -> None:
        self._refilling.discard(destination)
        if destination.shelved:
            self._has_room(destination)

    # ------------------------------------------------------------ attempts

    def _begin(
        self, attempt: Attempt, todo: Iterable[int], read: Due | None = None, shelf: Destination | None = None
    ) -> None:
        """`read` is what the disk says of it, None if it was just stored; `shelf` where it waited."""
        key = attempt.key
        # A listing may have it as waiting although it was offered: it is sent once.
        if self._stopping or key in self._active or key in self._leaving:
            return
        self._waiting.discard(key)
        indices = tuple(todo)
        if not indices:
            self._remove(attempt)
            return
        if read is not None and read.order is not None:
            self._active[key] = attempt
            attempt.outcomes = returned(indices, read.order)
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
        self._submit(attempt, plan, read, shelf)

    def _submit(self, attempt: Attempt, plan: Sequence[Job], read: Due | None, shelf: Destination | None) -> None:
        snapshot, find = self._shop.current(), self.destinations.of
        ways = [None if job.next_hop.local else find(job.next_hop, snapshot) for job in plan]
        if self._ordered and (ordered := self._ordered.pop(attempt.key, 0.0)):
            shelf = ways[0]  # it need not wait behind what is there
            for way in ways:
                if way is not None:
                    way.look_now(ordered)
        if ways[0] is not None and not ways[0].is_open and self._set_aside(attempt, ways, read, shelf):
            return
        self._active[attempt.key] = attempt
        attempt.open_tasks = len(plan)
        self.retester.begins(plan)
        for job, way in zip(plan, ways, strict=True):
            task = Task(attempt, job.next_hop, job.recipients, self._task_done)
            if way is None:
                self.local.submit(task)
            else:
                way.submit(task)

    def _set_aside(
        self, attempt: Attempt, ways: Sequence[Destination | None], read: Due | None, shelf: Destination | None
    ) -> bool:
        """True: it waits on the disk until its destinations can take it, or it is late."""
        place = place_for(attempt, ways, fresh=read is None, off=shelf)
        if place is None:
            return False
        last, seen = (read.last, read.seen) if read is not None else (0.0, 0.0)
        late = until(attempt, last, self._shop.current().settings, self._now())
        if late:
            self._shelves.put(attempt.key, place, seen)
            self._waiting.add(attempt.key, late)
            if place.is_resting or not place.lanes:  # no lane of its own takes it off
                place.look_when_due()
        return bool(late)

    def _task_done(self, task: Task, outcomes: dict[int, Outcome]) -> None:
        attempt = task.attempt
        if outcomes and len(outcomes) < len(task.recipients):
            # Whoever has no outcome must not be taken for delivered when the others are.
            log.error("no outcome for a recipient of {id}", id=attempt.id)
            outcomes = dict.fromkeys(task.recipients, NO_OUTCOME) | outcomes
        attempt.outcomes.update(outcomes)
        self.retester.judged(task, outcomes)
        attempt.open_tasks -= 1
        if attempt.open_tasks:
            self.registrar.settled_in_part(attempt)
        elif not attempt.outcomes:
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
        key = attempt.key
        self._active.pop(key, None)
        self._waiting.add(key, due)
        self.retester.waits(attempt, key)
        self._schedule()

    def gone(self, attempt: Attempt) -> None:
        """The message left the queue, or its removal is on the way."""
        self._active.pop(attempt.key, None)
        if self._held_back and self._crowd() <= CROWD // 2:
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

    # ------------------------------------------------------------ retests

    def is_waiting(self, key: Key) -> bool:
        return key in self._waiting

    def release(self, next_hop: NextHop, keys: Iterable[Key]) -> int:
        self.destinations.look_at(next_hop)
        found = [key for key in keys if key in self._waiting]
        self._waiting.make_due(found)
        self._schedule()
        return len(found)

    # ------------------------------------------------------------ orders

    def reloaded(self) -> None:
        """The settings changed: idle channels close, held mail is looked at again, limits may be higher."""
        self._clear_shelves()
        self.destinations.reloaded()
        self._free_parked()
        self.retester.reloaded()
        self._schedule()
        for spool in self.spools.values():
            self.rescan(spool)

    def make_all_due(self) -> None:
        """ALRM: every waiting message now."""
        self._clear_shelves()
        self.destinations.look_now()
        self._waiting.make_due()
        self._schedule()

    def _clear_shelves(self) -> None:
        for key, seen in self._shelves.clear():
            self._waiting.add(key, seen)

    @property
    def busy(self) -> int:
        """Attempts under way."""
        return len(self._active)

    def stop(self) -> None:
        """Starts nothing new; what is in hand is finished, what is in line is left to the next start."""
        self._stopping = True
        self.retester.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        tasks: dict[Key, list[Task]] = {}
        for task in (*self.destinations.stop(self._leave), *self.local.stop()):
            tasks.setdefault(task.attempt.key, []).append(task)
        for left in tasks.values():
            self._leave(*left)

    def _leave(self, *tasks: Task) -> None:
        """Tasks of one attempt that are left to the next start."""
        attempt = tasks[0].attempt
        if len(tasks) == attempt.open_tasks and not attempt.outcomes:
            self.gone(attempt)  # on the disk it is as if it had not begun
            return
        for task in tasks:  # what others of it were answered must be filed
            task.settle(NOT_TRIED)
