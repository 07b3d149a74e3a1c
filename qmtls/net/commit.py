"""Who does the disk's work, so that the reactor never waits for it.

A commit is made in steps: what does not wait (creating, writing to the page cache, renaming) is done by the reactor,
the syncs between are made by the kernel (`KernelSync`), or, where it offers no such thing, by a thread that does
nothing else: every call in a second thread costs two hand-overs of the interpreter. Whatever was handed over while a
batch syncs its files is the next batch; it begins while the one before syncs its directory. The busier the
server, the fewer syncs per message. A second thread does what reads, removes or moves octets (`run`, `remove`,
`flush`), so that a listing of 100,000 files never delays an acknowledgement.

More threads for the syncs were measured and are not worth it: they save little time and cost CPU (docs/queue.md).

On failure each who waits gets a SpoolError; a thread survives whatever a spool raises.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.net.kernelsync import Errors, KernelSync
from qmtls.spool.api import Filing, Incoming, Spool, SpoolError, Step, Steps
from qmtls.spool.files import Sync

T = TypeVar("T")
Back = Callable[..., object]
Over = Callable[[SpoolError | None], object]  # called once, in the reactor's thread: None, or what went wrong
_Queue = deque[tuple[T, Over]]

# Files open at once in one batch: the usual limit is 1024 for the whole process, most of it for connections.
BATCH_LIMIT = 100
RECORD_LIMIT = 25  # records in one batch: each takes many calls, and a commit may be waiting behind them

log = Logger()


class Committer:
    """`back(f, *args)` must call f(*args) in the reactor's thread: `reactor.callFromThread`. None: threads sync."""

    def __init__(self, back: Back, kernel: KernelSync | None = None) -> None:
        self._back = back
        self._kernel = kernel
        self._commits: dict[Spool, _Queue[Incoming]] = {}
        self._records: dict[Spool, _Queue[Filing]] = {}
        self._recorded_last = False
        self._syncing = False  # a batch is at its first step: what comes now is the next batch
        self._under_way = 0  # batches whose end is not reached
        self._steps: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        self._errands: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        self._removals: deque[tuple[Spool, str]] = deque()
        self._stopping: Deferred[None] | None = None
        self.on_removed: Callable[[Spool, Sequence[str]], object] = lambda spool, ids: None  # called by `back`
        # Daemons: everything acknowledged is on disk, so an interpreter that must end need not wait for them.
        Thread(target=_work_off, args=(self._steps,), name="qmtls-commit", daemon=True).start()
        Thread(target=_work_off, args=(self._errands,), name="qmtls-disk", daemon=True).start()

    def commit(self, spool: Spool, incoming: Incoming) -> Deferred[None]:
        """Fires when the message is accepted, for good; SpoolError."""
        done: Deferred[None] = Deferred()
        self.store(spool, incoming, partial(_fire, done))
        return done

    def store(self, spool: Spool, incoming: Incoming, over: Over) -> None:
        """As `commit`, without a Deferred: calls `over` once, perhaps before it returns.

        An exception out of `over` is logged and goes no further.
        """
        if self._stopping is not None:
            over(_stopped())
        else:
            self._commits.setdefault(spool, deque()).append((incoming, over))
            self._begin()

    def record(self, spool: Spool, filing: Filing) -> Deferred[None]:
        """Fires when the attempt is on disk; SpoolError."""
        done: Deferred[None] = Deferred()
        if self._stopping is not None:
            done.errback(_stopped())
        else:
            self._records.setdefault(spool, deque()).append((filing, partial(_fire, done)))
            self._begin()
        return done

    def remove(self, spool: Spool, id: str) -> None:
        """The message is finished. Nobody waits for it; trouble goes to the log.

        What is one rename is done in place: in a thread that costs two hand-overs of the interpreter.
        """
        if spool.remove_at_once(id):
            self.on_removed(spool, (id,))
            return
        self._removals.append((spool, id))
        if len(self._removals) == 1:
            self._errands.put(self._remove_all)

    def flush(self, incoming: Incoming) -> Deferred[None]:
        """Moves the gathered octets to the disk; SpoolError. No `write` or `commit` before it fired."""
        return self.run(incoming.flush)

    def run(self, f: Callable[[], T]) -> Deferred[T]:
        """Any other work on the disk; fires with what `f` returns or raises."""
        done: Deferred[T] = Deferred()

        def errand() -> bool:
            try:
                result: T | Failure = f()
            except Exception:
                result = Failure()
            self._back(done.callback, result)  # a Failure makes it the errback
            return True

        if self._stopping is not None:
            done.errback(_stopped())
        else:
            self._errands.put(errand)
        return done

    def stop(self) -> Deferred[None]:
        """Refuses new work, finishes what was handed over, ends the threads; then fires.

        What is to be removed must have been said before, or it is sent again after the next start.
        """
        if self._stopping is not None:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        self._stopping = Deferred()
        ending: Deferred[None] = Deferred()
        self._stopping.addCallback(lambda _: self._errands.put(lambda: self._end(ending)))
        self._stop_if_done()
        return ending

    def _end(self, ending: Deferred[None]) -> bool:
        self._back(ending.callback, None)
        return False

    def _stop_if_done(self) -> None:
        stopping = self._stopping
        if stopping is not None and not stopping.called and not (self._under_way or self._commits or self._records):
            self._steps.put(lambda: False)
            stopping.callback(None)

    # ------------------------------------------------ batches, in the reactor's thread

    def _begin(self) -> None:
        """Starts the next batch if none is at its first step. Commits and records in turn, if both wait."""
        while not self._syncing and (self._commits or self._records):
            self._recorded_last = bool(self._records) and not (self._commits and self._recorded_last)
            if self._recorded_last:
                spool, filings, waiting = _take(self._records, RECORD_LIMIT)
                steps = _recording(spool, filings)
            else:
                spool, incoming, waiting = _take(self._commits, BATCH_LIMIT)
                steps = spool.committing(incoming)
            self._under_way += 1
            self._syncing = True  # also for who hands over more when he hears that his message failed
            self._syncing = self._go_on(steps, waiting, first=True)

    def _go_on(self, steps: Steps, waiting: Sequence[Over], first: bool) -> bool:
        """Does what is quick, then hands on the next step; after the last one, False and the answers."""
        try:
            step = next(steps)
        except StopIteration as end:
            self._answer(waiting, end.value)
            return False
        except Exception as error:  # a fault of ours: nothing of this batch counts as stored
            log.failure("the spool failed")
            self._answer(waiting, [SpoolError(f"the spool failed: {error!r}")] * len(waiting))
            return False
        if not (isinstance(step, Sync) and self._handed_over(step, partial(self._made, steps, waiting, first))):
            self._steps.put(partial(self._make, step, steps, waiting, first))
        return True

    def _handed_over(self, step: Sync, made: Callable[[], None]) -> bool:
        """True if the kernel makes this step, and calls `made` behind it."""

        def over(errors: Errors) -> None:
            step.errors = errors
            made()

        return self._kernel is not None and self._kernel.sync(step.fds, over)

    def _answer(self, waiting: Sequence[Over], results: Sequence[SpoolError | None]) -> None:
        self._under_way -= 1
        if len(results) != len(waiting):
            results = [SpoolError("the spool failed: too few answers")] * len(waiting)
        for over, error in zip(waiting, results, strict=True):
            try:
                over(error)
            except Exception:  # one message's trouble is nobody else's
                log.failure("behind a commit")
        self._stop_if_done()

    def _made(self, steps: Steps, waiting: Sequence[Over], first: bool) -> None:
        """A step is over: its batch goes on. Behind a first step the next batch may begin."""
        if first:
            self._syncing = False
        self._go_on(steps, waiting, first=False)
        self._begin()

    # ------------------------------------------------ in the threads

    def _make(self, step: Step, steps: Steps, waiting: Sequence[Over], first: bool) -> bool:
        try:
            step()
        except Exception as error:
            steps = _failed(error, len(waiting))
        self._back(self._made, steps, waiting, first)
        return True

    def _remove_all(self) -> bool:
        # An unlink waits for a journal commit under way, so it must not stand in the way of an acknowledgement.
        by_spool: defaultdict[Spool, list[str]] = defaultdict(list)
        while self._removals:
            spool, id = self._removals.popleft()
            by_spool[spool].append(id)
        for spool, ids in by_spool.items():
            self._remove(spool, ids)
        return True

    def _remove(self, spool: Spool, ids: list[str]) -> None:
        try:
            spool.remove(ids)
            self._back(self.on_removed, spool, ids)
        except SpoolError as error:
            self._back(partial(log.error, "finished mail stays in bin {bin}: {why}", bin=spool.name, why=str(error)))
        except Exception:
            self._back(log.failure, "the spool failed", Failure())


def _work_off(queue: SimpleQueue[Callable[[], bool]]) -> None:
    while queue.get()():
        pass


def _take(queues: dict[Spool, _Queue[T]], limit: int) -> tuple[Spool, list[T], list[Over]]:
    """What waits for the spool that has waited longest, one batch at the most."""
    spool, queue = next(iter(queues.items()))
    taken = [queue.popleft() for _ in range(min(limit, len(queue)))]
    del queues[spool]
    if queue:
        queues[spool] = queue  # behind the others
    return spool, [thing for thing, _ in taken], [over for _, over in taken]


def _fire(done: Deferred[None], error: SpoolError | None) -> None:
    if error is None:
        done.callback(None)
    else:
        done.errback(error)


def _recording(spool: Spool, filings: Sequence[Filing]) -> Steps:
    results: list[SpoolError | None] = []
    yield lambda: results.extend(spool.record(filings))
    return results


def _failed(why: Exception, count: int) -> Steps:
    yield from ()
    log.error("the spool failed: {why!r}", why=why)
    return [SpoolError(f"the spool failed: {why!r}")] * count


def _stopped() -> SpoolError:
    return SpoolError("the queue is closed: the service is stopping")
