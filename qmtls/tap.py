"""`twistd qmtls`: the options, and the service made of them."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from qmtls.net.reactor import install as install_reactor

install_reactor()  # before anything imports the global one

from twisted.application.service import MultiService, Service
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.util import runAsEffectiveUser

from qmtls.control.settings import ControlError
from qmtls.net.contexts import ContextError
from qmtls.net.doors import Door
from qmtls.net.mainlog import MainLog, never_wait_for, take_ready_text
from qmtls.net.snapshot import Snapshot
from qmtls.service.listening import CannotServe, LateFactory, door_of, listen, wanted
from qmtls.service.live import load
from qmtls.service.places import Places, check_queue, places
from qmtls.service.supervisor import Supervisor
from qmtls.service.worker import Worker
from qmtls.spool.api import SpoolError

# The thread that syncs must get the interpreter soon when the reactor is busy; the default is 5 ms.
SWITCH_INTERVAL = 0.0005
# Container objects made before the collector looks for cycles; the default of 700 is a message or two. What survives
# is looked at a second time 40,000 objects later, not 220,000 as by default: with a thousand look-ups under way that
# would stop everything for 0.15 s. All that lives is looked at as seldom as by default, every two million.
GC_THRESHOLDS = 20_000, 1, 33
# For mailboxes (10 deliveries at a time by default), queue files and reloads: one that hangs must not hold the others.
THREADS = 30
MAX_WORKERS = 64

T = TypeVar("T")

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
        """Listen for SMTP over TLS from the first byte, for example on tcp:465. May be repeated."""
        self.endpoints.append(("smtps", endpoint))

    def opt_submission(self, endpoint: str) -> None:
        """Listen for submission by known clients only, for example on tcp:587. May be repeated."""
        self.endpoints.append(("submission", endpoint))

    def opt_admin(self, endpoint: str) -> None:
        """Listen for the dashboard and metrics. Not in this version."""
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
        return load(where.control)
    except ControlError as problem:
        others = len(problem.problems) - 1
        hint = f" (and {others} more: qmtls --home {where.home} check)" if others else ""
        raise CannotServe(f"{problem}{hint}") from problem
    except (ContextError, OSError) as problem:
        raise CannotServe(str(problem)) from problem


def as_service_user(twistd: Mapping[str, Any] | None, work: Callable[[Places], T], where: Places) -> T:
    """Does `work` with the rights of the user that twistd was told to become: what only root can read or write serves
    until the first reload, or not at all.

    Without twistd's options (in a .tac file) nobody knows that user yet.
    """
    if twistd is None:
        return work(where)
    uid, gid = os.geteuid(), os.getegid()
    uid = uid if twistd["uid"] is None else twistd["uid"]
    gid = gid if twistd["gid"] is None else twistd["gid"]
    result: T = runAsEffectiveUser(uid, gid, work, where)
    return result


def check_places(where: Places) -> None:
    """CannotServe if the queue is of no use to the user that we are."""
    try:
        check_queue(where.queue)
    except OSError as problem:
        mend = "make it a directory that belongs, with all that is in it, to the user that the service runs as"
        raise CannotServe(
            f"{where.queue}: the queue cannot be used: {problem.strerror}: {problem.filename}; {mend}"
        ) from problem


def shown(address: Any) -> str:
    """An address that we are bound to, for the log."""
    host = getattr(address, "host", None)
    if host is None:
        return str(address)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


class QmtlsService(Service):
    """Binds while it is made, then starts one worker in this process or the supervisor of several.

    twistd makes it before it drops privileges, becomes a daemon and takes standard error away: so what fails here is
    told to who started it. Threads and locks must wait until after the fork.
    """

    def __init__(self, options: Options) -> None:
        self._places = places(options["home"], options["control"], options["queue"], options["state"])
        self._count: int = options["workers"]
        self._twistd: Mapping[str, Any] | None = getattr(options, "parent", None)
        self._first = as_service_user(self._twistd, start_snapshot, self._places)
        self._worker: Worker | None = None
        self._supervisor: Supervisor | None = None
        self._ports: list[tuple[Any, Door]] = []
        self._factories: list[LateFactory] = []
        settings = self._first.settings
        listeners = wanted(options.endpoints, settings.listeners, certificate=settings.server_credential is not None)
        for listener in listeners:
            factory = LateFactory()
            port = listen(reactor, listener, factory, listeners)
            self._factories.append(factory)
            self._ports.append((port, door_of(listener)))
            say(f"listening role={listener.role} endpoint={listener.endpoint} at={shown(port.getHost())}")
        if self._twistd is not None:
            as_service_user(self._twistd, check_places, self._places)

    def startService(self) -> None:
        super().startService()
        if self._count == 1:
            self._worker = Worker(reactor, self._places, self._first, say)
            for factory, (_, door) in zip(self._factories, self._ports, strict=True):
                factory.serving = self._worker.factory(door)
        else:
            self._supervisor = Supervisor(reactor, self._places, self._count, main_log)
        take_ready_text()
        never_wait_for(1)
        reactor.addSystemEventTrigger("after", "shutdown", main_log.flush)
        tune_interpreter()
        if self._worker is not None:
            worker = self._worker
            for port, _ in self._ports:
                worker.listens(port)
            try:
                worker.start()
            except (OSError, SpoolError) as problem:
                self._give_up(CannotServe(f"{self._places.queue}: the queue cannot be used: {problem}"))
            install_signals(worker.live.reload, worker.relayer.make_all_due)
        elif self._supervisor is not None:
            supervisor = self._supervisor
            try:
                supervisor.start(self._ports)
            except OSError as problem:
                self._give_up(CannotServe(f"cannot start a worker: {problem.strerror}: {problem.filename}"))
            install_signals(lambda: supervisor.signal("HUP"), lambda: supervisor.signal("ALRM"))

    def stopService(self) -> Any:
        super().stopService()
        if self._worker is not None:
            return Deferred.fromCoroutine(self._worker.stop())
        if self._supervisor is not None:
            return self._supervisor.stop()
        return None

    def _give_up(self, problem: CannotServe) -> NoReturn:
        """Too late to tell by SystemExit: as a daemon only an exception reaches who started us, by twistd's pipe."""
        log.error("{line}", line=f"cannot start: {problem}")
        if self._twistd is None or not self._twistd["nodaemon"]:
            raise problem
        print(f"qmtls: {problem}", file=sys.__stderr__)
        raise SystemExit(1)


def tune_interpreter() -> None:
    """For a process that serves: what is loaded stays, and short-lived objects are not searched for cycles so often."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    reactor.suggestThreadPoolSize(THREADS)


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


def makeService(options: Options) -> MultiService:
    """What twistd (and etc/qmtls.tac) runs, its sockets bound. Ends with one line if it cannot serve as configured."""
    parent = MultiService()
    try:
        QmtlsService(options).setServiceParent(parent)
    except CannotServe as problem:
        raise SystemExit(f"qmtls: {problem}") from problem
    return parent
