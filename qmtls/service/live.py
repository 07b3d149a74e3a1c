"""The settings as they are now. A change of the control directory is seen within a second or two and compiled to a new
snapshot; if it is good it replaces the old one in one assignment, else the old one stays and the log says why.

A change counts when two looks saw the same: a `tlspolicy` that is just being written is an empty one for a moment, and
would let mail go without the rules that stand in it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.control.compile import compile_control
from qmtls.control.live import fingerprint
from qmtls.control.settings import ControlError, Settings
from qmtls.net.authorities import system_authorities
from qmtls.net.channel import OffReactor
from qmtls.net.contexts import ContextError
from qmtls.net.snapshot import Snapshot, make_snapshot

MOST_LOOKS = 5  # at a directory that changes all the time, before it is taken as it is

log = Logger()


def load(control: Path, outside: tuple[Path, ...] = ()) -> Snapshot:
    """The snapshot to start with. `outside`: files elsewhere that counted until now. ControlError or ContextError."""
    for _ in range(MOST_LOOKS):
        seen = _look(control, outside)  # first: what changes while it is read is a change
        settings = compile_control(control)
        if settings.outside == outside:
            break
        outside = settings.outside  # names of files come to light by reading: again, with a look at them before
    return make_snapshot(settings, seen)


def _look(control: Path, outside: tuple[Path, ...]) -> Hashable:
    """What counts: the directory, what it names elsewhere, and the system's certificate authorities."""
    return fingerprint(control, (*outside, *system_authorities()))


class LiveSettings:
    """`current()` is the snapshot for new sessions and attempts."""

    def __init__(self, control: Path, first: Snapshot, off_reactor: OffReactor, say: Callable[[str], None]) -> None:
        self._control = control
        self._snapshot = first
        self._off_reactor = off_reactor
        self._say = say
        self._seen: Hashable = first.seen
        self._outside = first.settings.outside  # files elsewhere that count too
        self._unsettled: Hashable = None  # what the last look saw, if that was a change
        self._looks = 0
        self._compiling = False
        self._again = False  # an order to reload came meanwhile
        self.changed: Callable[[], object] = lambda: None

    @property
    def changing(self) -> bool:
        """True while a change is being waited for or read: whoever can wait a moment should."""
        return self._compiling or self._unsettled is not None

    def current(self) -> Snapshot:
        """The newest one that was good."""
        return self._snapshot

    def settings(self) -> Settings:
        """Those of `current`."""
        return self._snapshot.settings

    def look(self) -> None:
        """Once a second: reloads if a file changed, and did not change again since the last look."""
        try:
            seen = _look(self._control, self._outside)
        except OSError as problem:
            self._say(f"reload failed, the old settings stay: {self._control}: {problem.strerror}")
            return
        if seen == self._seen:
            self._unsettled = None
            self._looks = 0
            return
        self._looks += 1
        if seen == self._unsettled or self._looks >= MOST_LOOKS:
            self.reload()
        else:
            self._unsettled = seen

    def reload(self) -> None:
        """Compiles off the reactor; HUP comes here too."""
        if self._compiling:
            self._again = True
            return
        self._compiling = True
        self._unsettled = None
        self._looks = 0
        try:
            self._seen = _look(self._control, self._outside)
        except OSError:
            pass  # the compilation will say what is wrong
        compiling: Deferred[Snapshot] = self._off_reactor(lambda: load(self._control, self._outside))
        compiling.addCallbacks(self._good, self._bad)

    def _good(self, snapshot: Snapshot) -> None:
        if snapshot.settings.outside != self._outside:
            self._outside = snapshot.settings.outside
            self._seen = snapshot.seen
        self._snapshot = snapshot
        if not self._again:  # said when everything that was asked for is in force
            self._say(f"reloaded {self._control}")
        try:
            self.changed()
        except Exception:  # the settings are in force; without more reloads they would be the last
            log.failure("after a reload")
        self._compiled()

    def _compiled(self) -> None:
        self._compiling = False
        if self._again:
            self._again = False
            self.reload()

    def _bad(self, failure: Failure) -> None:
        problem = failure.value
        if isinstance(problem, ControlError):
            for one in problem.problems:
                self._say(f"reload failed, the old settings stay: {one}")
            if problem.outside != self._outside:  # the mend may be to put such a file there
                self._outside = problem.outside
                self._seen = _look(self._control, self._outside)
        elif isinstance(problem, (ContextError, OSError)):
            self._say(f"reload failed, the old settings stay: {problem}")
        else:
            self._say(f"reload failed, the old settings stay: {failure.getTraceback()}")
        self._compiled()
