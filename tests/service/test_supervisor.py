"""Starting, watching and ending workers, with processes that only exist on paper."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from qmtls.net.doors import Door, Role
from qmtls.service.places import places
from qmtls.service.supervisor import FIRST_SOCKET_FD, KILL_SECONDS, MAX_LINE, RESPAWN_SECONDS, Supervisor


class Process:
    def __init__(self, protocol: Any, argv: list[str], fds: dict[int, Any], pid: int) -> None:
        self.protocol, self.argv, self.fds = protocol, argv, fds
        self.pid: int | None = pid
        self.signals: list[object] = []
        protocol.makeConnection(self)

    def signalProcess(self, number: object) -> None:
        assert self.pid
        self.signals.append(number)

    def dies(self, code: int = 1) -> None:
        self.pid = None
        reason = ProcessTerminated(code) if code else ProcessDone(0)
        self.protocol.processEnded(Failure(reason))


class Reactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []

    def spawnProcess(self, protocol: Any, path: str, argv: list[str], env: Any, childFDs: dict[int, Any]) -> Process:
        assert env["PATH"]
        self.processes.append(Process(protocol, argv, childFDs, 100 + len(self.processes)))
        return self.processes[-1]


class Sock:
    family = 2

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


class Port:
    def __init__(self, fd: int) -> None:
        self.socket = Sock(fd)
        self.reading = self.open = True

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> None:
        self.open = False


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def pass_on(self, text: str) -> None:
        self.lines += text.splitlines()


class Team:
    def __init__(self, path: Path, count: int = 3) -> None:
        self.reactor = Reactor()
        self.log = Log()
        self.supervisor = Supervisor(self.reactor, places(str(path)), count, self.log)  # type: ignore[arg-type]
        self.ports: list[Any] = [Port(11), Port(12)]
        doors = (Door(), Door(Role.SUBMISSION, proxied=True))
        self.supervisor.start(list(zip(self.ports, doors, strict=True)))

    @property
    def running(self) -> list[Process]:
        return [process for process in self.reactor.processes if process.pid]


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def test_the_order_of_a_worker(team: Team, tmp_path: Path) -> None:
    assert len(team.running) == 3
    assert not any(port.reading for port in team.ports), "only the workers accept"
    first = team.running[0]
    assert first.argv[1:3] == ["-m", "qmtls.workermain"]
    order = json.loads(first.argv[3])
    assert order["places"]["queue"] == str(tmp_path / "queue")
    first_fd = FIRST_SOCKET_FD
    assert order["sockets"] == [[first_fd, 2, "smtp", False], [first_fd + 1, 2, "submission", True]]
    assert first.fds == {0: "w", 1: "r", 2: "r", 3: 11, 4: 12}
    assert places(**order["places"]) == places(str(tmp_path))


def test_a_dead_worker_is_replaced(team: Team) -> None:
    team.reactor.advance(60)
    team.running[1].dies()
    team.reactor.advance(0)
    assert len(team.running) == 3
    assert [p.protocol.number for p in team.running] == [1, 3, 2]
    assert any("worker 2 ended" in line for line in team.log.lines)


def test_one_that_dies_at_once_is_not_replaced_in_a_loop(team: Team) -> None:
    for _ in range(10):
        team.running[-1].dies()
        team.reactor.advance(0)
        assert len(team.running) == 2
        team.reactor.advance(RESPAWN_SECONDS)
        assert len(team.running) == 3


def test_lines_of_workers(team: Team) -> None:
    worker = team.running[0].protocol
    team.log.lines.clear()
    worker.outReceived(b"one\ntw")
    worker.outReceived(b"o\nthr\xff")
    worker.errReceived(b"ee\n")
    assert team.log.lines == ["one", "two", "thr\ufffdee"]
    worker.outReceived(b"x" * (MAX_LINE + 1))
    worker.outReceived(b"\nafter\n")
    assert team.log.lines[-1] == "after"
    assert all(len(line) < 100 for line in team.log.lines)


def test_signals_are_passed_on_to_those_who_can_take_them(team: Team) -> None:
    ready, starting, _ = team.running
    ready.protocol.outReceived(b"worker started\n")
    team.supervisor.signal("HUP")
    team.supervisor.signal("ALRM")
    assert ready.signals == [signal.SIGHUP, signal.SIGALRM]
    assert starting.signals == [], "it would die of them"


def test_the_end(team: Team) -> None:
    done: list[Any] = []
    team.supervisor.stop().addCallback(done.append)
    assert all(process.signals == [signal.SIGTERM] for process in team.running)
    assert not any(port.open for port in team.ports), "else clients would connect and wait for a greeting"
    for process in team.running[:]:
        assert not done
        process.dies(0)
    assert done == [None]
    team.reactor.advance(100)
    assert not team.running
    assert not team.reactor.getDelayedCalls()


def test_those_who_do_not_end_are_killed(team: Team) -> None:
    done: list[Any] = []
    team.supervisor.stop().addCallback(done.append)
    team.running[0].dies(0)
    team.reactor.advance(KILL_SECONDS)
    stubborn = team.running[:]
    assert all(process.signals == [signal.SIGTERM, signal.SIGKILL] for process in stubborn)
    assert not done
    for process in stubborn:
        process.dies(9)
    assert done == [None]


def test_an_end_while_one_is_being_replaced(tmp_path: Path) -> None:
    team = Team(tmp_path, 1)
    team.running[0].dies()
    done: list[Any] = []
    team.supervisor.stop().addCallback(done.append)
    assert done == [None]
    team.reactor.advance(10)
    assert not team.running
