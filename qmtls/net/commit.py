"""The threads that do the disk's work, so that the reactor never waits for it.

One thread commits and records. Whatever was handed over while it worked is the next batch, with one directory
sync for all of it: the busier the server, the fewer syncs per message. A second thread does everything that
reads or only moves octets (`run`, `flush`), so that a listing of 100,000 files or a slow read never delays an
acknowledgement.

Handing over is one `SimpleQueue.put`; a batch comes back by one call of `back`. More threads for the syncs were
measured and are not worth it: they save little time and cost CPU (docs/queue.md).

On failure each waiting Deferred gets its own SpoolError; a thread survives whatever a spool raises.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.spool.api import Filing, Incoming, Spool, SpoolError

T = TypeVar("T")
Back = Callable[..., object]
Answer = tuple[Deferred[None], SpoolError | None]

# Files open at once in one batch: the usual limit is 1024 for the whole process, most of it for connections.
BATCH_LIMIT = 100

log = Logger()


@dataclass(slots=True)
class _Commit:
    spool: Spool
    incoming: Incoming
    done: Deferred[None]


@dataclass(slots=True)
class _Record:
    spool: Spool
    filing: Filing
    done: Deferred[None]


@dataclass(slots=True)
class _Stop:
    done: Deferred[None]


_Job = _Commit | _Record | _Stop


@dataclass(slots=True)
class _Round:
    """The jobs of one round for one spool."""

    commits: list[_Commit] = field(default_factory=list)
    records: list[_Record] = field(default_factory=list)


class Committer:
    """`back(f, *args)` must call f(*args) in the reactor's thread: `reactor.callFromThread`."""

    def __init__(self, back: Back) -> None:
        self._back = back
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._errands: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        self._removals: deque[tuple[Spool, str]] = deque()
        self._stopping = False
        self.on_removed: Callable[[Spool, Sequence[str]], object] = lambda spool, ids: None  # called by `back`
        # Daemons: everything acknowledged is on disk, so an interpreter that must end need not wait for them.
        Thread(target=self._commit_all, name="qmtls-commit", daemon=True).start()
        Thread(target=self._run_all, name="qmtls-disk", daemon=True).start()

    def commit(self, spool: Spool, incoming: Incoming) -> Deferred[None]:
        """Fires when the message is accepted, for good; SpoolError."""
        done: Deferred[None] = Deferred()
        self._hand_over(_Commit(spool, incoming, done), done)
        return done

    def record(self, spool: Spool, filing: Filing) -> Deferred[None]:
        """Fires when the attempt is on disk; SpoolError."""
        done: Deferred[None] = Deferred()
        self._hand_over(_Record(spool, filing, done), done)
        return done

    def remove(self, spool: Spool, id: str) -> None:
        """The message is finished. Nobody waits for it; trouble goes to the log."""
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

        if self._stopping:
            done.errback(_stopped())
        else:
            self._errands.put(errand)
        return done

    def stop(self) -> Deferred[None]:
        """Refuses new work, finishes what was handed over, ends the threads; then fires.

        What is to be removed must have been said before, or it is sent again after the next start.
        """
        if self._stopping:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        self._stopping = True
        ends: tuple[Deferred[None], Deferred[None]] = (Deferred(), Deferred())

        def end() -> bool:
            self._back(ends[1].callback, None)
            return False

        self._jobs.put(_Stop(ends[0]))
        self._errands.put(end)
        return DeferredList(ends).addCallback(lambda _: None)

    def _hand_over(self, job: _Job, done: Deferred[None]) -> None:
        if self._stopping:
            done.errback(_stopped())
        else:
            self._jobs.put(job)

    # ------------------------------------------------ in the threads

    def _run_all(self) -> None:
        while self._errands.get()():
            pass

    def _commit_all(self) -> None:
        while True:
            jobs = [self._jobs.get()]
            try:
                while len(jobs) < BATCH_LIMIT:
                    jobs.append(self._jobs.get_nowait())
            except Empty:
                pass
            stop = self._work(jobs)
            if stop is not None:
                self._back(stop.done.callback, None)
                return

    def _work(self, jobs: Sequence[_Job]) -> _Stop | None:
        """One round. Commits first: a client waits for each of them."""
        stop = None
        rounds: defaultdict[Spool, _Round] = defaultdict(_Round)
        for job in jobs:
            match job:
                case _Commit():
                    rounds[job.spool].commits.append(job)
                case _Record():
                    rounds[job.spool].records.append(job)
                case _Stop():
                    stop = job
        for spool, round in rounds.items():
            self._answer(round.commits, partial(spool.commit, [job.incoming for job in round.commits]))
        for spool, round in rounds.items():
            self._answer(round.records, partial(spool.record, [job.filing for job in round.records]))
        return stop

    def _answer(self, jobs: Sequence[_Commit | _Record], work: Callable[[], list[SpoolError | None]]) -> None:
        if not jobs:
            return
        try:
            answers = [(job.done, error) for job, error in zip(jobs, work(), strict=True)]
        except Exception as error:  # a fault of ours: nothing of this batch counts as stored
            self._back(log.failure, "the spool failed", Failure())
            answers = [(job.done, SpoolError(f"the spool failed: {error!r}")) for job in jobs]
        self._back(_fire, answers)

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


def _fire(answers: Sequence[Answer]) -> None:
    for done, error in answers:
        if error is None:
            done.callback(None)
        else:
            done.errback(error)


def _stopped() -> SpoolError:
    return SpoolError("the queue is closed: the service is stopping")
