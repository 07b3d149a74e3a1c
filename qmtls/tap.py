"""`twistd qmtls`: the options, and the service made of them."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python import usage

from qmtls.control.settings import ControlError
from qmtls.net.contexts import ContextError
from qmtls.net.mainlog import MainLog, never_wait_for, take_ready_text
from qmtls.net.snapshot import Snapshot
from qmtls.service.listening import CannotServe, listen, wanted
from qmtls.service.live import load
from qmtls.service.places import Places, places
from qmtls.service.supervisor import Supervisor
from qmtls.service.worker import Worker
from qmtls.spool.api import SpoolError

# The thread that syncs must get the interpreter soon when the reactor is busy; the default is 5 ms.
SWITCH_INTERVAL = 0.0005
# Container objects made before the collector looks for cycles; the default of 700 is a message or two.
GC_THRESHOLD = 20_000
MAX_WORKERS = 64
ROLES = ("smtp", "smtps", "submission", "admin")

reactor: Any = _reactor
log = Logger(namespace="qmtls")
main_log = MainLog(reactor)
say = main_log.say


class Options(usage.Options):
    """Options of `twistd qmtls`."""

    synopsis = "[options]"
    longdesc = "Runs qmtls: mail in over STARTTLS, out over TLS as the control directory demands."
    optParameters = [  # noqa: RUF012 - Twisted's interface
        ["home", None, None, "Where everything is (default: $QMTLS_HOME, else /var/qmtls)."],
        ["control", None, None, "The control directory (default: HOME/control)."],
        ["queue", None, None, "The queue (default: HOME/queue)."],
        ["state", None, None, "State of our own (default: HOME/state)."],
        ["workers", None, "1", "Processes that share the listening sockets."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: list[tuple[str, str]] = []

    def opt_smtp(self, endpoint: str) -> None:
        """Listen for SMTP with STARTTLS on this Twisted endpoint, for example tcp:25. May be repeated."""
        self.endpoints.append(("smtp", endpoint))

    def opt_smtps(self, endpoint: str) -> None:
        """Listen for SMTP over TLS from the first byte. May be repeated."""
        self.endpoints.append(("smtps", endpoint))

    def opt_submission(self, endpoint: str) -> None:
        """Listen for submission by known clients only. May be repeated."""
        self.endpoints.append(("submission", endpoint))

    def opt_admin(self, endpoint: str) -> None:
        """Listen for the dashboard and metrics. May be repeated."""
        self.endpoints.append(("admin", endpoint))

    def postOptions(self) -> None:
        try:
            count = int(self["workers"])
        except ValueError:
            count = 0
        if not 1 <= count <= MAX_WORKERS:
            raise usage.UsageError(f"--workers wants a number from 1 to {MAX_WORKERS}, not {self['workers']!r}")
        self["workers"] = count


def start_snapshot(where: Places) -> Snapshot:
    """The first snapshot. CannotServe with one line for the first problem and the number of the others."""
    try:
        return load(where.control, where.home)
    except ControlError as problem:
        others = len(problem.problems) - 1
        hint = f" (and {others} more: qmtls --home {where.home} check)" if others else ""
        raise CannotServe(f"{problem}{hint}") from problem
    except (ContextError, OSError) as problem:
        raise CannotServe(str(problem)) from problem


class QmtlsService(Service):
    """Binds while privileged, then starts one worker in this process or the supervisor of several."""

    def __init__(self, options: Options) -> None:
        self._places = places(options["home"], options["control"], options["queue"], options["state"])
        self._count: int = options["workers"]
        self._first = start_snapshot(self._places)
        self._listeners = wanted(options.endpoints, self._first.settings.listeners)
        self._worker: Worker | None = None
        self._supervisor: Supervisor | None = None
        self._ports: list[Any] = []

    def privilegedStartService(self) -> None:
        """The sockets, as root if need be."""
        super().privilegedStartService()
        if self._count == 1:
            self._worker = Worker(reactor, self._places, self._first, say)
            factory: Factory = self._worker.factory()
        else:
            self._supervisor = Supervisor(reactor, self._places, self._count, say)
            factory = Factory()  # the supervisor binds; it never accepts
        try:
            for listener in self._listeners:
                self._ports.append(listen(reactor, listener, factory))
        except CannotServe as problem:
            _give_up(problem)
        for listener, port in zip(self._listeners, self._ports, strict=True):
            say(f"listening role={listener.role} endpoint={listener.endpoint} at={port.getHost()}")

    def startService(self) -> None:
        super().startService()
        take_ready_text()
        never_wait_for(1)
        reactor.addSystemEventTrigger("after", "shutdown", main_log.flush)
        tune_interpreter()
        if self._worker is not None:
            worker = self._worker
            for port in self._ports:
                worker.listens(port)
            try:
                worker.start()
            except (OSError, SpoolError) as problem:
                _give_up(CannotServe(f"{self._places.queue}: the queue cannot be used: {problem}"))
            install_signals(worker.live.reload, worker.relayer.make_all_due)
        elif self._supervisor is not None:
            supervisor = self._supervisor
            supervisor.start(self._ports)
            install_signals(lambda: supervisor.signal("HUP"), lambda: supervisor.signal("ALRM"))

    def stopService(self) -> Any:
        super().stopService()
        if self._worker is not None:
            return Deferred.fromCoroutine(self._worker.stop())
        if self._supervisor is not None:
            return self._supervisor.stop()
        return None


def tune_interpreter() -> None:
    """For a process that serves: what is loaded stays, and short-lived objects are not searched for cycles so often."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def install_signals(hangup: Callable[[], object], alarm: Callable[[], object]) -> None:
    """HUP reloads, ALRM makes all mail due, TERM ends with status 0; all act in the next turn of the reactor."""
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(hangup))
    signal.signal(signal.SIGALRM, lambda *_: reactor.callFromThread(alarm))
    # The reactor's own handler goes in when it starts. After that one, twistd would end by the signal instead.
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, lambda *_: reactor.callFromThread(terminate))


def terminate() -> None:
    """Begins the graceful end; a second TERM changes nothing."""
    try:
        reactor.stop()
    except ReactorNotRunning:
        return
    say("TERM: takes no more mail, finishes what is in flight")


def _give_up(problem: CannotServe) -> None:
    log.error("{line}", line=f"cannot start: {problem}")
    raise SystemExit(f"qmtls: {problem}")


def makeService(options: Options) -> MultiService:
    """What twistd (and etc/qmtls.tac) runs. Ends with one line if it cannot serve as configured."""
    parent = MultiService()
    try:
        QmtlsService(options).setServiceParent(parent)
    except CannotServe as problem:
        raise SystemExit(f"qmtls: {problem}") from problem
    return parent
