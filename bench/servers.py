"""The servers that are compared, each with a configuration of its own in a scratch directory: what they have in common,
and this project's. Postfix is in `bench.postfix`.

Each listens on loopback only, routes `live.test`, and what is below `many.test`, to the sink, and `dead.test`,
`silent.test` and `hanging.test` to the ports of `bench.deadends`. It allows twenty connections to one next hop.
Everything is ended by process id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Self

from bench import cgroup
from bench.certificates import Certificates

ROOT = Path(__file__).resolve().parent.parent
OLD = "old"  # in the state directory: what earlier runs left
HOST = "127.0.0.1"
NEXT_HOP_CONNECTIONS = 20
LARGEST = 100_000_000  # octets that every server must take in one message
READY_SECONDS = 60.0
STOP_SECONDS = 45.0  # qmtls drains for 30
COMMAND_SECONDS = 120.0


class ServerError(Exception):
    """A server cannot be run here. One line."""


@dataclass(frozen=True, slots=True)
class Ports:
    """On loopback. Nobody listens on `dead`; see `bench.deadends` for the others."""

    server: int
    sink: int
    dead: int
    silent: int
    hanging: int
    twin: int

    def routes(self) -> dict[str, int]:
        """Ports by domain; one that begins with a dot stands for all below it."""
        dead = {"dead.test": self.dead, "silent.test": self.silent, "hanging.test": self.hanging}
        return {"live.test": self.sink, ".many.test": self.sink} | dead


@dataclass(frozen=True, slots=True)
class Setup:
    """What one workload wants of a server."""

    hold: bool = False  # accept only: nothing is sent on
    tls: bool = False  # relay for the client's certificate only; out to the pinned key of the sink only
    sessions: int = 0  # as many idle ones must be possible
    recipients: int = 0  # as many in one message
    dns: str = ""  # ADDRESS:PORT of the only resolver; domains without a route are then looked up there
    policies: str = ""  # lines of tlspolicy


class Server(ABC):
    """One server below `directory`: configured anew for each run, started, stopped."""

    name: str

    def __init__(self, directory: Path, ports: Ports, certificates: Certificates) -> None:
        self.directory = directory
        self.ports = ports
        self.certificates = certificates
        self.group: cgroup.Group = cgroup.ProcessTree()
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def version(self) -> str:
        """For the report."""

    @abstractmethod
    def write(self, setup: Setup) -> None:
        """The configuration, into an empty directory."""

    @abstractmethod
    def command(self) -> list[str]:
        """What runs in the foreground until TERM."""

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Asks it to end."""
        process.terminate()

    @abstractmethod
    def retry_all(self) -> None:
        """All mail that waits for another attempt is due now."""

    @abstractmethod
    def release(self) -> None:
        """Mail that Setup.hold kept back goes out now."""

    @abstractmethod
    def post(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        """One message, by whatever lets so many recipients in."""

    @abstractmethod
    def queue_directories(self, deferred: bool) -> list[Path]:
        """Where a message is a file: all of it, or mail that was tried and waits."""

    def configure(self, setup: Setup) -> None:
        """From nothing: no mail of an earlier run is left, and no trace that would slow this one down.

        What was deleted a moment ago still costs: ext4 without a journal uses its inodes again after minutes only, and
        until then looks at each of them anew for each new file. So the old directory goes at the end (`sweep`).
        """
        if self.directory.exists():
            old = self.directory.parent / OLD
            old.mkdir(exist_ok=True)
            self.directory.rename(old / str(time.time_ns()))
        self.directory.mkdir(parents=True)
        self.write(setup)
        os.sync()  # the disk has nothing left to do from the run before

    def twin(self) -> Self:
        """Another one of its kind, with nothing in its queue, to run at the same time."""
        other = copy(self)
        other.directory = self.directory.with_name(f"{self.name}-twin")
        other.ports = replace(self.ports, server=self.ports.twin)
        return other

    def queued(self, deferred: bool = False) -> int:
        """Messages in the queue."""
        return sum(_files(place) for place in self.queue_directories(deferred))

    def queued_octets(self) -> int:
        """Of all files of messages in the queue."""
        places = self.queue_directories(deferred=False)
        return sum(f.stat().st_size for place in places for f in place.rglob("*") if f.is_file())

    @contextlib.contextmanager
    def running(self) -> Iterator[float]:
        """The server, ready; the value is the seconds from its start to its first greeting."""
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.ports.server)) == 0:
                raise ServerError(f"port {self.ports.server} is in use; --port names another")
        self.group = cgroup.new_group(self.directory.name)
        began = time.monotonic()
        with (self.directory / "output").open("ab") as output:
            process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=self.group.enter,
            )
        self.process = process
        self.group.started(process.pid)
        try:
            self._greeting(process)
            yield time.monotonic() - began
        finally:
            self.group.pids()  # who is there, before a parent ends
            self.stop(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            cgroup.end(self.group)
            process.wait()

    def _greeting(self, process: subprocess.Popen[bytes]) -> None:
        limit = time.monotonic() + READY_SECONDS
        while time.monotonic() < limit and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.ports.server), READY_SECONDS) as s:
                if s.recv(4).startswith(b"220"):
                    s.sendall(b"QUIT\r\n")
                    s.recv(100)
                    return
            time.sleep(0.01)
        tail = (self.directory / "output").read_text(errors="replace").strip().splitlines()[-3:]
        raise ServerError(f"{self.name} does not answer on port {self.ports.server}: {' | '.join(tail)}")


class Qmtls(Server):
    """This project, from this working tree, by its command line and control directory."""

    name = "qmtls"
    workers = 2

    def version(self) -> str:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
            commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            return f"{metadata.version('qmtls')} ({commit}), {self.workers} workers"
        return f"{metadata.version('qmtls')}, {self.workers} workers"

    def write(self, setup: Setup) -> None:
        files = {
            "me": "server.test",
            "databytes": str(LARGEST),
            "smtproutes": "\n".join(f"{domain}:{HOST}:{port}" for domain, port in self.ports.routes().items()),
            "concurrencyremote": "0" if setup.hold else str(NEXT_HOP_CONNECTIONS),
            "tlsdefault": "dane" if setup.dns else "may",
        }
        files |= {"dnsserver": setup.dns, "tlspolicy": setup.policies} if setup.dns else {}
        if setup.tls:
            certificates = self.certificates
            files["servercert.pem"] = certificates.server.bundle()
            files["tlsclients"] = f"sha256:{certificates.client.fingerprint}"
            files["tlspolicy"] = f"live.test pin match=sha256:{certificates.sink.fingerprint}"
        else:
            files["relaynetworks"] = "127.0.0.0/8"
        control = self.directory / "control"
        control.mkdir()
        for name, text in files.items():
            (control / name).write_text(text + "\n")
            (control / name).chmod(0o600)

    def command(self) -> list[str]:
        twistd = Path(sys.executable).parent / "twistd"
        options = ["-n", "--pidfile=", f"--logfile={self.directory}/log"]
        endpoint = f"tcp:{self.ports.server}:interface={HOST}"
        own = ["--home", str(self.directory), "--workers", str(self.workers), "--smtp", endpoint]
        return [sys.executable, str(twistd), *options, "qmtls", *own]

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def retry_all(self) -> None:
        self._signal(signal.SIGALRM)

    def release(self) -> None:
        (self.directory / "control/concurrencyremote").write_text(f"{NEXT_HOP_CONNECTIONS}\n")
        self._signal(signal.SIGHUP)

    def post(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        command = [
            sys.executable,
            "-m",
            "qmtls.cli.main",
            "--home",
            str(self.directory),
            "sendmail",
            "-i",
            "-f",
            sender,
        ]
        subprocess.run([*command, "--", *recipients], input=content, cwd=ROOT, check=True, timeout=COMMAND_SECONDS)

    def queue_directories(self, deferred: bool) -> list[Path]:
        parts = ("cur",) if deferred else ("new", "cur")
        return [box / part for box in (self.directory / "queue").glob("*") for part in parts]


def _files(place: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(place))


def sweep(state: Path) -> None:
    """Deletes what the runs left but the last of each server."""
    shutil.rmtree(state / OLD, ignore_errors=True)
