"""One next hop with one TLS demand: its tasks in order, and the lanes (connections) that serve them.

A lane is a coroutine with at most one open channel. Lanes are bounded by a budget per next hop, so a host that hangs
holds its own lanes and nothing else. A channel is used again for the next task of the same destination
only, so never under another TLS demand; a reload closes it.

A lane that finds no host ends, and its task goes back into the line as long as another lane may do better: many hosts
take a few connections and refuse more. The last lane that finds out settles all in line.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop
from qmtls.net.targets import Unreachable
from qmtls.service.attempt import Task
from qmtls.service.budget import Budget
from qmtls.service.lane import Lane, Workshop

IDLE_SECONDS = 3.0  # how long a channel is kept for the next message
ENOUGH_SECONDS = 30.0  # no lanes beside those that are there, after one found no host
REMEMBERED_TASKS = 200  # tasks in line that keep envelope and content in memory; the rest is read again

log = Logger()


class Destination:
    """Takes tasks by `submit`; each task's `done` is called exactly once."""

    def __init__(self, next_hop: NextHop, budget: Budget, shop: Workshop) -> None:
        self.next_hop = next_hop
        self.budget = budget
        self._shop = shop
        self._queue: deque[Task] = deque()
        self._idle: list[tuple[Lane, Deferred[bool]]] = []
        self._running: set[Lane] = set()
        self._working = 0  # lanes with a task in hand
        self._enough_until = 0.0
        self.lanes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, task: Task) -> None:
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
                # The lane used last: the others run into their time limit and close.
                _, waiting = self._idle.pop()
                waiting.callback(True)
            elif self.lanes and self._shop.clock.seconds() < self._enough_until:
                return
            elif self.budget.take(self):
                self._start_lane()
            else:
                return

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
        lane = Lane(self._shop)
        self._running.add(lane)
        try:
            while True:
                if not self._queue:
                    if self.budget.crowded or not lane.usable or not await self._rest(lane):
                        return
                    continue
                if not await self._serve(lane, self._queue.popleft()):
                    return
        finally:
            self._running.discard(lane)
            lane.close()

    async def _serve(self, lane: Lane, task: Task) -> bool:
        """One task, whatever happens: its `done` is called, or it is in line again. False: no host can be used."""
        self._working += 1
        try:
            outcomes = await lane.serve(task)
        except Unreachable as problem:
            self._working -= 1
            self._unreachable(task, problem.outcome)
            return False
        except Exception:
            log.failure("delivery of {id} to {hop}", id=task.attempt.id, hop=str(self.next_hop))
            outcomes = dict.fromkeys(task.recipients, Outcome(Fate.DEFERRED, "trouble on our side", "4.3.0"))
        self._working -= 1
        if outcomes is not None:
            task.done(task, outcomes)
        return True

    def _unreachable(self, task: Task, outcome: Outcome) -> None:
        self._queue.appendleft(task)
        if self._working or any(lane.usable for lane in self._running):
            self._enough_until = self._shop.clock.seconds() + ENOUGH_SECONDS
            self._shop.clock.callLater(ENOUGH_SECONDS, self.wake)
            if self._idle:
                self.wake()
            return
        tasks, self._queue = self._queue, deque()
        for each in tasks:
            each.settle(outcome)

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

    def stop(self) -> list[Task]:
        """The tasks in line, which are no longer ours; idle channels close, lanes finish what they have in hand."""
        tasks = list(self._queue)
        self._queue.clear()
        self.let_go()
        return tasks
