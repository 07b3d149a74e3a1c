"""N workers behind the same listening sockets. The first process binds and supervises; it touches no mail.

A worker that dies is replaced; its bins are adopted by the others. Workers end when the supervisor does, however it
ends: each holds the reading end of a pipe that closes with it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from signal import Signals
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from qmtls.net.doors import Door
from qmtls.net.mainlog import MainLog
from qmtls.service.places import Places

RESPAWN_SECONDS = 1.0  # between the death of a worker and its replacement, if it lived shorter than this
KILL_SECONDS = 40.0  # after TERM; a worker drains for 30
FIRST_SOCKET_FD = 3
MAX_LINE = 64 * 1024  # octets of one log line of a worker


class WorkerProcess(ProcessProtocol):
    """One child; its lines of output become lines of our log."""

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self._supervisor = supervisor
        self.number = number
        self.started = supervisor.clock.seconds()
        self.serves = False
        self._rest = b""

    def outReceived(self, data: bytes) -> None:
        self.serves = True  # its first words come when its signal handlers are in place
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self._supervisor.pass_on((lines + newline).decode("utf-8", "replace"))
        if len(self._rest) > MAX_LINE:
            self._rest = b""

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._supervisor.ended(self, reason)


class Supervisor:
    """Starts, watches and ends the workers."""

    def __init__(self, reactor: Any, places: Places, count: int, main_log: MainLog) -> None:
        self.clock = reactor
        self.say = main_log.say
        self.pass_on = main_log.pass_on
        self._places = places
        self._count = count
        self._ports: Sequence[tuple[IListeningPort, Door]] = ()
        self._running: dict[int, WorkerProcess] = {}
        self._stopping: Deferred[None] | None = None

    def start(self, ports: Sequence[tuple[IListeningPort, Door]]) -> None:
        """`ports` are bound; from here on only the workers accept on them."""
        self._ports = ports
        for port, _ in ports:
            port.stopReading()  # type: ignore[attr-defined]
        for number in range(1, self._count + 1):
            self._spawn(number)

    def _spawn(self, number: int) -> None:
        if self._stopping is not None:
            return
        fds: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        inherited = []
        for fd, (port, door) in enumerate(self._ports, FIRST_SOCKET_FD):
            sock = port.socket  # type: ignore[attr-defined]
            fds[fd] = sock.fileno()
            inherited.append([fd, int(sock.family), door.role.value, door.proxied])
        p = self._places
        what = {"home": str(p.home), "control": str(p.control), "queue": str(p.queue), "state": str(p.state)}
        order = json.dumps({"number": number, "places": what, "sockets": inherited})
        argv = [sys.executable, "-m", "qmtls.workermain", order]
        protocol = WorkerProcess(self, number)
        transport = self.clock.spawnProcess(protocol, sys.executable, argv, env=dict(os.environ), childFDs=fds)
        self._running[number] = protocol
        self.say(f"started worker {number} pid={transport.pid}")

    def ended(self, worker: WorkerProcess, reason: Failure) -> None:
        """A child is gone: replaced at once, or after a moment if it did not live for one."""
        self._running.pop(worker.number, None)
        if self._stopping is not None:
            if not self._running and not self._stopping.called:
                self._stopping.callback(None)
            return
        self.say(f"worker {worker.number} ended: {reason.getErrorMessage()}")
        lived = self.clock.seconds() - worker.started
        self.clock.callLater(0.0 if lived > RESPAWN_SECONDS else RESPAWN_SECONDS, self._spawn, worker.number)

    def signal(self, name: str) -> None:
        """HUP and ALRM are passed on; one that is still starting would die of them, and reads everything anyway."""
        for worker in list(self._running.values()):
            if name in ("HUP", "ALRM") and not worker.serves:
                continue
            if worker.transport is not None and worker.transport.pid:
                worker.transport.signalProcess(Signals[f"SIG{name}"])  # Twisted knows few by name

    def stop(self) -> Deferred[None]:
        """TERM to all; KILL for those that do not end. Clients are refused: nobody would greet them."""
        stopping = self._stopping = Deferred()
        for port, _ in self._ports:
            port.stopListening()
        if not self._running:
            stopping.callback(None)
            return stopping
        self.signal("TERM")
        killing = self.clock.callLater(KILL_SECONDS, self.signal, "KILL")

        def over(result: None) -> None:
            if killing.active():
                killing.cancel()

        return stopping.addCallback(over)
