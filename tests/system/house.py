"""One qmtls as users run it: a home in a directory, and `twistd qmtls` as a child of its own on a loopback port.

A House ends only what it started. What it logged is in the output of a failed test (conftest.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.system.pki import Authority
from tests.system.waiting import PATIENCE, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MAILBOX = ("tmp", "new", "cur")


class House:
    """`me`, `locals`, a server certificate, clientca.pem and a postmaster's mailbox; the rest is up to the test.

    `bare`: an empty directory, for `qmtls init`.
    """

    def __init__(self, home: Path, authority: Authority, *, me: str = "mx.test", bare: bool = False) -> None:
        self.home = home
        self.me = me
        self.authority = authority
        self.port = free_port()
        self.logfile = home / "log"
        self.output = home / "output"
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True)
        if not bare:
            self._furnish()

    def _furnish(self) -> None:
        for name in ("control", "queue", "state", "mail"):
            (self.home / name).mkdir()
        self.control("me", f"{self.me}\n")
        self.control("locals", f"{self.me}\n")
        self.control("listen", f"smtp tcp:{self.port}:interface=127.0.0.1\n")
        self.control("clientca.pem", self.authority.pem)
        self.control("servercert.pem", self.authority.server(self.me, "localhost", "127.0.0.1").bundle)
        self.mailbox("postmaster")

    # ------------------------------------------------------------ its files

    def control(self, name: str, text: str | bytes | None) -> Path:
        """Writes a control file in one step, mode 0600; None removes it."""
        path = self.home / "control" / name
        if text is None:
            path.unlink()
            return path
        path.parent.mkdir(exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.touch(0o600)
        new.write_bytes(text.encode() if isinstance(text, str) else text)
        new.replace(path)
        return path

    def mailbox(self, user: str) -> Path:
        """Makes the mailbox if it is not there."""
        for part in MAILBOX:
            (self.home / "mail" / user / part).mkdir(parents=True, exist_ok=True)
        return self.home / "mail" / user

    def delivered(self, user: str = "postmaster") -> list[bytes]:
        """What lies in the mailbox."""
        return [path.read_bytes() for path in sorted((self.home / "mail" / user / "new").iterdir())]

    def wait_for_mail(self, count: int = 1, user: str = "postmaster") -> list[bytes]:
        """At least `count` messages in the mailbox."""

        def enough() -> list[bytes]:
            found = self.delivered(user)
            return found if len(found) >= count else []

        return wait_for(enough, f"{count} messages for {user}")

    def messages(self) -> list[Path]:
        """The files of accepted messages, in all bins."""
        return sorted(p for where in ("new", "cur") for p in (self.home / "queue").glob(f"*/{where}/*"))

    # ------------------------------------------------------------ the process

    def command(self, *arguments: str, twistd: Sequence[str] = ("-n", "--pidfile=")) -> list[str]:
        """How it is started. `twistd`: options of twistd, which may name another log; `arguments`: of qmtls."""
        log = f"--logfile={self.logfile}"
        return [str(BIN / "twistd"), log, *twistd, "qmtls", "--home", str(self.home), *arguments]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        return {**os.environ, "PYTHONPATH": path, **(extra or {})}

    def start(
        self,
        *arguments: str,
        twistd: Sequence[str] = ("-n", "--pidfile="),
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **popen: Any,
    ) -> House:
        """Starts it and waits for its greeting. `prefix`: a program that runs it, such as strace."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        with self.output.open("ab") as output:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **popen}
            self.process = subprocess.Popen(
                [*prefix, *self.command(*arguments, twistd=twistd)],
                cwd=self.home,
                env=self.environment(environment),
                start_new_session=True,
                **options,
            )
        wait_for(self._greets, "the greeting")
        return self

    def _greets(self) -> bool:
        assert self.process is not None
        status = self.process.poll()
        assert status is None, f"the service ended with status {status}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE) as probe:
            probe.settimeout(PATIENCE)
            return probe.recv(4) == b"220 "
        return False

    def try_to_start(
        self, *arguments: str, twistd: Sequence[str] = ("-n", "--pidfile=")
    ) -> subprocess.CompletedProcess[str]:
        """For a start that fails or makes a daemon: runs until its end."""
        return subprocess.run(
            self.command(*arguments, twistd=twistd),
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, patience: float = 45.0) -> int:
        """TERM; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(patience)

    def kill(self) -> None:
        """KILL to it and to all that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)

    # ------------------------------------------------------------ what it says

    def log(self) -> str:
        """All of it, with what twistd has rotated away."""
        older = sorted(self.home.glob(f"{self.logfile.name}.*"), key=lambda path: -int(path.suffix[1:]))
        return "".join(path.read_text(errors="replace") for path in (*older, self.logfile) if path.exists())

    def wait_for_log(self, pattern: str, *, after: int = 0, patience: float = PATIENCE) -> re.Match[str]:
        """The first match beyond character `after` of the log."""
        expression = re.compile(pattern, re.MULTILINE)
        return wait_for(lambda: expression.search(self.log(), after), f"{pattern!r} in the log", patience)

    def reload(self) -> None:
        """HUP, and the line that says that it was good. All changes before it are in force afterwards."""
        after = len(self.log())
        self.signal(signal.SIGHUP)
        self.wait_for_log(r"reloaded ", after=after)

    def qmtls(
        self, *arguments: str, stdin: bytes = b"", status: int | None = 0, home: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs `qmtls --home HOME ...`; `status` None = any is right."""
        done = subprocess.run(
            [str(BIN / "qmtls"), *(["--home", str(self.home)] if home else []), *arguments],
            input=stdin.decode(),
            cwd=self.home,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert status is None or done.returncode == status, f"{arguments}: {done.returncode} {done.stdout}{done.stderr}"
        return done

    def queue(self) -> list[dict[str, Any]]:
        """What waits, as `qmtls queue list --json` tells it."""
        return [json.loads(line) for line in self.qmtls("queue", "list", "--json", status=None).stdout.splitlines()]

    def wait_for_empty_queue(self) -> None:
        wait_for(lambda: not self.messages(), "an empty queue")

    def report(self) -> str:
        """For the output of a failed test."""
        written = self.output.read_text(errors="replace") if self.output.exists() else ""
        return f"{self.log()}\n--- written by the process\n{written}"
