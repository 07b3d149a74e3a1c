"""The servers that are compared, each with a configuration of its own in a scratch directory.

Each listens on loopback only, routes `live.test` to the sink and `dead.test` to a port where nobody listens, and
allows twenty connections to one next hop. Postfix runs as a second instance with its own main.cf, master.cf, queue
and data directory; a Postfix of the system is not touched. Everything is ended by process id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench import cgroup
from bench.certificates import Certificates

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
NEXT_HOP_CONNECTIONS = 20
LARGEST = 100_000_000  # octets that every server must take in one message
READY_SECONDS = 60.0
STOP_SECONDS = 45.0  # qmtls drains for 30
WAIT = "3600s"  # a full queue is filled for minutes; its first messages must not be due again before its last is in
SPARE_PROCESSES = 100
HIDDEN = 0o001  # what a directory on the way needs, so that other users may pass


class ServerError(Exception):
    """A server cannot be run here. One line."""


@dataclass(frozen=True, slots=True)
class Ports:
    """On loopback. Nobody listens on `dead`."""

    server: int
    sink: int
    dead: int


@dataclass(frozen=True, slots=True)
class Setup:
    """What one workload wants of a server."""

    hold: bool = False  # accept only: nothing is sent on
    tls: bool = False  # relay for the client's certificate only; out to the pinned key of the sink only
    sessions: int = 0  # as many idle ones must be possible


class Server(ABC):
    """One server below `directory`: configured anew for each run, started, stopped."""

    name: str

    def __init__(self, directory: Path, ports: Ports, certificates: Certificates) -> None:
        self.directory = directory
        self.ports = ports
        self.certificates = certificates
        self.group: cgroup.Group = cgroup.ProcessTree()

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
    def queue_directories(self, deferred: bool) -> list[Path]:
        """Where a message is a file: all of it, or mail that was tried and waits."""

    def configure(self, setup: Setup) -> None:
        """From nothing: no mail of an earlier run is left."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.write(setup)
        os.sync()  # the disk has nothing left to do from the run before

    def queued(self, deferred: bool = False) -> int:
        """Messages in the queue."""
        return sum(_files(place) for place in self.queue_directories(deferred))

    @contextlib.contextmanager
    def running(self) -> Iterator[float]:
        """The server, ready; the value is the seconds from its start to its first greeting."""
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.ports.server)) == 0:
                raise ServerError(f"port {self.ports.server} is in use; --port names another")
        self.group = cgroup.new_group(self.name)
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
            "smtproutes": f"live.test:{HOST}:{self.ports.sink}\ndead.test:{HOST}:{self.ports.dead}",
            "concurrencyremote": "0" if setup.hold else str(NEXT_HOP_CONNECTIONS),
            "tlsdefault": "may",
        }
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

    def queue_directories(self, deferred: bool) -> list[Path]:
        parts = ("cur",) if deferred else ("new", "cur")
        return [box / part for box in (self.directory / "queue").glob("*") for part in parts]


class Postfix(Server):
    """The installed Postfix as an instance of its own. Needs root."""

    name = "postfix"

    def missing(self) -> str | None:
        """Why it cannot run here, if it cannot."""
        if _program("postfix") == "postfix":
            return "Postfix is not installed"
        if os.geteuid() != 0:
            return "Postfix wants to be started by root"
        for place in (self.directory, *self.directory.parents):
            if place.exists() and not place.stat().st_mode & HIDDEN:
                return f"Postfix's own user cannot pass {place}; --state names another place"
        return None

    def version(self) -> str:
        return _postconf("mail_version")

    def write(self, setup: Setup) -> None:
        for part in ("etc", "queue", "data"):
            (self.directory / part).mkdir()
        shutil.chown(self.directory / "data", _postconf("mail_owner"))
        (self.directory / "etc/routes").write_text(
            f"live.test smtp:[{HOST}]:{self.ports.sink}\ndead.test smtp:[{HOST}]:{self.ports.dead}\n"
        )
        settings = self._settings() | (self._tls() if setup.tls else {})
        if setup.hold:
            settings["smtpd_client_restrictions"] = "check_client_access static:hold"
        if setup.sessions:
            settings["default_process_limit"] = str(setup.sessions + SPARE_PROCESSES)
        (self.directory / "etc/main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (self.directory / "etc/master.cf").write_text(_services(f"{HOST}:{self.ports.server}"))

    def _settings(self) -> dict[str, str]:
        """Defaults wherever they don't look up names, and log into our own file."""
        return {
            "compatibility_level": "3.6",
            "daemon_directory": _postconf("daemon_directory"),
            "command_directory": _postconf("command_directory"),
            "queue_directory": f"{self.directory}/queue",
            "data_directory": f"{self.directory}/data",
            "maillog_file": f"{self.directory}/log",
            "maillog_file_prefixes": str(self.directory),
            "myhostname": "server.test",
            "mydestination": "",
            "alias_maps": "",
            "alias_database": "",
            "inet_interfaces": HOST,
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "smtpd_peername_lookup": "no",
            "smtp_host_lookup": "native",
            "notify_classes": "",
            "message_size_limit": str(LARGEST),
            "mailbox_size_limit": "0",
            "transport_maps": f"texthash:{self.directory}/etc/routes",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "minimal_backoff_time": WAIT,
            "default_destination_concurrency_limit": str(NEXT_HOP_CONNECTIONS),
        }

    def _tls(self) -> dict[str, str]:
        certificates = self.certificates
        clients = self.directory / "etc/clients"
        clients.write_text(f"{_colons(certificates.client.fingerprint)} client\n")
        return {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": str(certificates.server.cert),
            "smtpd_tls_key_file": str(certificates.server.key),
            "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_fingerprint_digest": "sha256",
            "relay_clientcerts": f"texthash:{clients}",
            "smtpd_relay_restrictions": "permit_tls_clientcerts, reject",
            "smtp_tls_security_level": "fingerprint",
            "smtp_tls_fingerprint_digest": "sha256",
            "smtp_tls_fingerprint_cert_match": _colons(certificates.sink.fingerprint),
        }

    def command(self) -> list[str]:
        return [_program("postfix"), "-c", f"{self.directory}/etc", "start-fg"]

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """By Postfix's own command: `process` is a shell that waits for the master."""
        command = [_program("postfix"), "-c", f"{self.directory}/etc", "stop"]
        subprocess.run(command, capture_output=True, timeout=STOP_SECONDS, check=False)

    def queue_directories(self, deferred: bool) -> list[Path]:
        parts = ("deferred",) if deferred else ("maildrop", "incoming", "active", "deferred", "hold")
        return [self.directory / "queue" / part for part in parts]


def _services(listen: str) -> str:
    """master.cf: the services that relaying takes, none of them in a chroot, with Postfix's usual limits."""
    #  name, type, private, wakeup, most processes, program
    rows = [
        (listen, "inet", "n", "-", "-", "smtpd"),
        ("cleanup", "unix", "n", "-", "0", "cleanup"),
        ("qmgr", "unix", "n", "300", "1", "qmgr"),
        ("pickup", "unix", "n", "60", "1", "pickup"),
        ("tlsmgr", "unix", "-", "1000?", "1", "tlsmgr"),
        ("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
        ("bounce", "unix", "-", "-", "0", "bounce"),
        ("defer", "unix", "-", "-", "0", "bounce"),
        ("trace", "unix", "-", "-", "0", "bounce"),
        ("flush", "unix", "n", "1000?", "0", "flush"),
        ("proxymap", "unix", "-", "-", "-", "proxymap"),
        ("smtp", "unix", "-", "-", "-", "smtp"),
        ("showq", "unix", "n", "-", "-", "showq"),
        ("error", "unix", "-", "-", "-", "error"),
        ("retry", "unix", "-", "-", "-", "error"),
        ("local", "unix", "-", "-", "-", "local"),
        ("anvil", "unix", "-", "-", "1", "anvil"),
        ("scache", "unix", "-", "-", "1", "scache"),
        ("tlsproxy", "unix", "-", "-", "0", "tlsproxy"),
        ("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
    ]
    unprivileged = {"local": "n"}
    return "".join(
        f"{name} {kind} {private} {unprivileged.get(name, '-')} n {wakeup} {limit} {program}\n"
        for name, kind, private, wakeup, limit, program in rows
    )


def _program(name: str) -> str:
    """Its path, or its name where it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or name


def _postconf(name: str) -> str:
    command = [_program("postconf"), "-d", "-h", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _colons(fingerprint: str) -> str:
    text = fingerprint.upper()
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))


def _files(place: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(place))
