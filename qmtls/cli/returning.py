"""Mail that is to be returned, and no service there to do it: the reports are made here, by the service's own code.

Which bins have no owner is found as a worker finds it, by their locks, and for that long they are ours. The order is
the service's: first the report is safe, then the message goes; killed in between, a report may come twice.
Loaded only for that: it takes Twisted and all of the control directory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred

from qmtls.cli.home import Home
from qmtls.cli.owner import as_owner_of
from qmtls.control.compile import compile_control
from qmtls.control.settings import ControlError, Settings
from qmtls.net.bins import Bins
from qmtls.net.commit import Committer
from qmtls.net.ids import Ids
from qmtls.net.mailboxes import Mailboxes
from qmtls.service.attempt import Attempt
from qmtls.service.filing import Registrar
from qmtls.service.orders import returned
from qmtls.service.waiting import read_due
from qmtls.spool.api import Spool, SpoolError
from qmtls.spool.bins import INJECT
from qmtls.spool.maildir import MaildirSpool

AT_ONCE = 200  # reports under way, that share their syncs


def return_all(home: Home, trouble: Callable[[str], None]) -> int:
    """Returns what waits for it in bins without an owner; how many. The rest is its owner's."""
    bins = Bins(home.queue)
    try:
        free = bins.adopt()
        waiting = [(spool, id) for spool in free for id in _marked(spool)]
        if not waiting:
            return 0
        with as_owner_of(home.queue):
            settings = compile_control(home.control)
        return _Office(home, settings, trouble).return_each(iter(waiting))
    except ControlError as problem:
        trouble(f"the service returns them when it starts, not this command: {problem}")
    except SpoolError as problem:
        trouble(str(problem))
    finally:
        bins.release_all()
    return 0


def _marked(spool: Spool) -> list[str]:
    return [waiting.id for waiting in spool.scan() if waiting.returning]


class _NoTime:
    """Where the service would wait for the disk to recover, a command ends."""

    def callLater(self, *_: Any) -> Any:
        raise SpoolError("the disk does not take the report; the message stays, to be returned later")


class _Office:
    """The end of attempts without a reactor: what the threads have done is taken up in a loop."""

    def __init__(self, home: Home, settings: Settings, trouble: Callable[[str], None]) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()
        self._trouble = trouble
        self._under_way = 0
        self._count = 0
        self._own = MaildirSpool(home.queue / INJECT)
        self._committer = Committer(lambda f, *args: self._calls.put((f, args)))
        self._registrar = Registrar(
            _NoTime(),
            time.time,
            self._committer,
            Ids(),
            lambda: settings,
            lambda: self._own,
            lambda *_: None,  # the report waits for the service, as the rest of the queue does
            self._stays,
            self._goes,
            self._hear,
            Mailboxes(home.mail).may_exist,
        )

    def return_each(self, waiting: Iterator[tuple[Spool, str]]) -> int:
        more = True
        while more or self._under_way:
            while more and self._under_way < AT_ONCE:
                found = next(waiting, None)
                if found is None:
                    more = False
                else:
                    self._begin(*found)
            if self._under_way:
                self._turn()
        ended: Deferred[None] = self._committer.stop()
        while not ended.called:
            self._turn()
        self._own.close()
        return self._count

    def _turn(self) -> None:
        call, args = self._calls.get()
        call(*args)

    def _begin(self, spool: Spool, id: str) -> None:
        due = read_due(spool, id)
        if isinstance(due.attempt, Exception) or due.order is None:
            return  # gone, or not to be understood: the listing names it
        if not due.todo:
            self._committer.remove(spool, id)
            return
        self._under_way += 1
        due.attempt.outcomes = returned(due.todo, due.order)
        self._registrar.close(due.attempt)

    def _goes(self, attempt: Attempt) -> None:
        self._under_way -= 1
        self._count += 1
        self._committer.remove(attempt.spool, attempt.id)

    def _stays(self, attempt: Attempt, _: float) -> None:
        self._under_way -= 1
        self._trouble(f"{attempt.id}: not returned now; the service tries again")

    def _hear(self, line: str) -> None:
        if line.startswith("queue trouble"):
            self._trouble(line)
