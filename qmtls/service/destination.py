"""One next hop with one TLS demand: its tasks in order, and the lanes (connections) that serve them.

A lane is a coroutine with at most one open channel. Lanes are bounded by a budget per next hop and by the window of its
hosts, so a host that hangs holds its own lanes and nothing else. A channel is used again for the next task of the same
destination only, so never under another TLS demand; a reload closes it.

A lane that finds no host ends, and its task goes back into the line as long as another lane may do better: many hosts
take a few connections and refuse more. When the last lane finds out, all in line wait with its reason, and the
destination rests: until its next look nobody connects, what comes meanwhile is told so, and then one lane looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop
from qmtls.delivery.window import HOLD_SECONDS
from qmtls.net.channel import Channel
from qmtls.net.targets import Target, Unreachable
from qmtls.service.attempt import Task
from qmtls.service.budget import Budget, Pool
from qmtls.service.lane import Crowded, Lane, Workshop
from qmtls.service.resting import Resting, broken_off, is_silence

IDLE_SECONDS = 3.0  # how long a channel is kept for the next message
LINE = 200  # tasks in line, above which mail waits on the disk; hosts that get on have fewer (relayer.CROWD)
REMEMBERED_TASKS = 200  # tasks in line that keep envelope and content in memory; the rest is read again
CUT_SHORT = 3  # channels lost in the middle of a message, one after the other, that count as a host that is down

FoundHosts = Callable[["Destination", Sequence[Target]], None]

log = Logger()


class Destination:
    """Takes tasks by `submit`; each task's `done` is called exactly once."""

    def __init__(self, next_hop: NextHop, budget: Budget, shop: Workshop, found: FoundHosts) -> None:
        self.next_hop = next_hop
        self.budget = budget
        self.resting = Resting(str(next_hop), shop.now, shop.say)
        self.shelved = 0  # messages that wait on the disk for room in this line
        self.has_room: Callable[[Destination], None] = lambda _: None
        self.answered: Callable[[Pool], None] = lambda _: None
        self.lanes = 0
        self._shop = shop
        self._found = found
        self._queue: deque[Task] = deque()
        self._idle: list[tuple[Lane, Deferred[bool]]] = []
        self._running: set[Lane] = set()
        self._working = 0  # lanes with a task in hand
        self._leave: Callable[[Task], None] | None = None  # set by `stop`
        self._enough_until = 0.0
        self._looking: Any = None  # the timer for mail that waits for the end of a rest
        self._again: Any = None  # the timer to ask the budget once more

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def under_way(self) -> bool:
        """Something is in line or in hand, or waits for room."""
        return bool(self.lanes or self._queue or self.shelved)

    @property
    def is_open(self) -> bool:
        """Takes mail as it comes."""
        return not (len(self._queue) >= LINE or self.shelved or self.resting.rest.until or self.budget.pool.rest.until)

    @property
    def is_resting(self) -> bool:
        return self.resting.lasts(self.budget.pool)

    def submit(self, task: Task) -> None:
        if (self.resting.rest.until or self.budget.pool.rest.until) and (told := self.resting.told(self.budget.pool)):
            task.settle(told)
            return
        if len(self._queue) > REMEMBERED_TASKS:
            task.attempt.forget()
        self._queue.append(task)
        self.wake()
        if self._queue and self._queue[-1] is task:
            task.attempt.waited = True

    def wake(self) -> None:
        """Gives work to idle lanes, then to new ones as far as the budget goes."""
        while self._queue:  # each round takes one task, or ends
            if self._idle:
                if not self.budget.resume(self):
                    break
                # The lane used last: the others run into their time limit and close.
                _, waiting = self._idle.pop()
                waiting.callback(True)
            elif self._is_enough():
                return
            elif self.budget.take(self):
                self._start_lane()
            else:
                break
        else:
            return
        if self.budget.again:
            self._ask_again(self.budget.again)

    def _is_enough(self) -> bool:
        """There are to be no more lanes: one found no host, or looks whether there is one now, or nobody is to look."""
        pool = self.budget.pool
        times = self.resting.rest.times or pool.rest.times
        if self.lanes:
            return bool(times) or self._shop.clock.seconds() < self._enough_until
        if times and (told := self.resting.told(pool)):
            self._settle_all(told)
            return True
        return False

    def _ask_again(self, seconds: float) -> None:
        if self._again is None or not self._again.active():
            self._again = self._shop.clock.callLater(seconds, self.wake)

    def _start_lane(self) -> None:
        self.lanes += 1
        running = Deferred.fromCoroutine(self._run_lane())
        running.addErrback(self._lane_broke)
        running.addBoth(self._lane_ended)

    def _lane_broke(self, failure: Failure) -> None:
        log.failure("a lane to {hop}", failure=failure, hop=str(self.next_hop))

    def _lane_ended(self, _: object) -> None:
        self.lanes -= 1
        self.budget.give_back()
        if self._queue and not self._idle:
            self.wake()

    async def _run_lane(self) -> None:
        lane = Lane(self._shop, self._hosts)
        self._running.add(lane)
        served = 0  # in a row; it has a task in hand, or is about to take one
        try:
            while True:
                if self._queue:
                    task = self._queue.popleft()
                    if self.shelved:
                        self._tell_room()
                    lane.most = self.budget.terms.messages
                    if not await self._serve(lane, task):
                        return
                    served += 1
                    if self._queue and self.budget.goes_on(self, served):
                        continue
                served = -1
                self.budget.rest()
                if not lane.usable or self._others_wait():
                    return
                resting = self._rest(lane)
                if self._queue:
                    self.wake()
                if not await resting:
                    return
                served = 0
        finally:
            if served >= 0:
                self.budget.rest()
            self._running.discard(lane)
            lane.close()

    def _tell_room(self) -> None:
        """A fault there is none of the task that is in hand now: that one goes on."""
        try:
            self.has_room(self)
        except Exception:
            log.failure("mail that waits on the disk for {hop}", hop=str(self.next_hop))

    def _others_wait(self) -> bool:
        budget = self.budget
        if budget.waiting.all or budget.pool.waiting.all or budget.lanes.waiting.all:
            return budget.others_wait(self)
        return False

    def _hosts(self, targets: Sequence[Target]) -> None:
        """The hosts are known: their pool may have no room for this lane. Crowded."""
        before = self.budget.pool
        self._found(self, targets)
        pool = self.budget.pool
        if pool is not before:
            full = pool.working > pool.limit or self.resting.lasts(pool)
            before.wake()
            if full:
                raise Crowded

    async def _serve(self, lane: Lane, task: Task) -> bool:
        """One task, whatever happens: its `done` is called, or it is in line again. False: this lane is over."""
        self._working += 1
        try:
            outcomes = await lane.serve(task)
        except Unreachable as problem:
            self._working -= 1
            self._unreachable(task, problem.outcome)
            return False
        except Crowded:
            self._working -= 1
            self._crowded_out(task)
            return False
        except Exception:
            log.failure("delivery of {id} to {hop}", id=task.attempt.id, hop=str(self.next_hop))
            outcomes = dict.fromkeys(task.recipients, Outcome(Fate.DEFERRED, "trouble on our side", "4.3.0"))
        else:
            channel = lane.channel
            if channel is not None:
                self._learn(channel)
        self._working -= 1
        if outcomes is not None:
            task.done(task, outcomes)
        return True

    # ------------------------------------------------------------ how the hosts do

    def _learn(self, channel: Channel) -> None:
        """From a task that was put to a host; its lane is still counted."""
        pool = self.budget.pool
        if channel.ended is not None:
            self._cut_short(channel)
        elif self.resting.rest.times or pool.rest.times:
            pool.window.row = 0
            rested = pool.rest.times
            self.resting.answered(pool)
            if rested:
                self.answered(pool)
            self.wake()
        elif pool.window.row or pool.working >= pool.limit < self.budget.most:
            limit = pool.limit
            pool.succeeded(self.budget.most, self._shop.clock.seconds())
            if pool.limit > limit:
                pool.wake()
                self.wake()

    def _cut_short(self, channel: Channel) -> None:
        pool = self.budget.pool
        pool.failed(self._others(), self._shop.clock.seconds())
        if pool.window.row >= CUT_SHORT and self._working == 1 and not self._any_usable():
            self._go_to_rest(broken_off(channel))

    def _others(self) -> int:
        """Lanes to these hosts that get on so far, without the one in question."""
        return self.budget.pool.working - 1 + len(self._idle)

    def _any_usable(self) -> bool:
        return any(lane.usable for lane in self._running)

    def _unreachable(self, task: Task, outcome: Outcome) -> None:
        now = self._shop.clock.seconds()
        if is_silence(outcome):
            self.budget.pool.failed(self._others(), now)
        others = self._working or self._any_usable()
        if others and self._leave is not None:
            self._leave(task)
            return
        self._queue.appendleft(task)
        if others:
            self._enough_until = now + HOLD_SECONDS
            self._shop.clock.callLater(HOLD_SECONDS, self.wake)
            if self._idle:
                self.wake()
            return
        self._go_to_rest(outcome)

    def _go_to_rest(self, outcome: Outcome) -> None:
        """No host can be used: all in line are told."""
        if outcome.fate is Fate.DEFERRED and not outcome.unmet:  # for TLS demands there are probes (service.retest)
            self.resting.begin(self.budget.pool, outcome, random())
        self._settle_all(outcome)

    def _settle_all(self, outcome: Outcome) -> None:
        tasks, self._queue = self._queue, deque()
        for each in tasks:
            each.settle(outcome)
        if self.shelved:
            self.look_when_due()

    def _crowded_out(self, task: Task) -> None:
        if self._leave is not None:
            self._leave(task)
            return
        self._queue.appendleft(task)
        if told := self.resting.told(self.budget.pool):
            self._settle_all(told)
        else:
            self.budget.pool.waiting.add(self)

    def look_when_due(self) -> None:
        """Takes what waits for room when the rest is over, which may be sooner than was thought."""
        seconds = self.resting.seconds_left(self.budget.pool)
        if self._looking is None or not self._looking.active():
            self._looking = self._shop.clock.callLater(seconds, self._look)
        elif self._looking.getTime() > self._shop.clock.seconds() + seconds:
            self._looking.reset(seconds)

    def _look(self) -> None:
        if self.shelved:
            self.has_room(self)

    def look_now(self, since: float) -> None:
        """Somebody ordered at `since` (Unix seconds) that it be tried: one lane looks, unless one did after that."""
        self.resting.look_now(self.budget.pool, since)
        if self.shelved:
            self.look_when_due()

    # ------------------------------------------------------------ idle lanes, and the end

    def _rest(self, lane: Lane) -> Deferred[bool]:
        """Waits for work with an open channel. False: it is time to close."""
        waiting: Deferred[bool] = Deferred()
        entry = (lane, waiting)
        self._idle.append(entry)

        def leave(*_: Any) -> None:
            if entry in self._idle:
                self._idle.remove(entry)
                waiting.callback(False)

        timer = self._shop.clock.callLater(IDLE_SECONDS, leave)
        lane.on_end(leave)

        def woken(result: bool) -> bool:
            if timer.active():
                timer.cancel()
            lane.on_end(None)
            return result

        return waiting.addCallback(woken)

    def let_go(self) -> None:
        """Closes idle channels (a reload, or the end of the service)."""
        for entry in list(self._idle):
            self._idle.remove(entry)
            entry[1].callback(False)

    def hand_over(self) -> list[Task]:
        """The tasks in line, which are no longer ours; idle channels close, lanes finish what they have in hand."""
        tasks = list(self._queue)
        self._queue.clear()
        self.let_go()
        return tasks

    def stop(self, leave: Callable[[Task], None]) -> list[Task]:
        """As `hand_over`, and for good: a task in hand that would come back into the line is given to `leave`."""
        self._leave = leave
        return self.hand_over()
