"""Where things lie: HOME and its parts, which may be moved, and the names that the mail-making commands go by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from qmtls.cli.output import CommandError

DEFAULT = "/var/qmtls"


@dataclass(frozen=True, slots=True)
class Home:
    """A home directory; nothing is checked or made before it is used. The others are parts that lie elsewhere."""

    root: Path
    moved_control: Path | None = None
    moved_queue: Path | None = None
    moved_state: Path | None = None

    @property
    def control(self) -> Path:
        return self.moved_control or self.root / "control"

    @property
    def queue(self) -> Path:
        return self.moved_queue or self.root / "queue"

    @property
    def mail(self) -> Path:
        return self.root / "mail"

    @property
    def state(self) -> Path:
        return self.moved_state or self.root / "state"

    @property
    def authority(self) -> Path:
        """The local CA that `qmtls init` makes."""
        return self.state / "ca"

    def me(self) -> str:
        """The name of this host, from `control/me`; CommandError if there is none.

        Few files are read: mail can be queued while other control files are being edited.
        """
        return self._name("me")

    def default_host(self) -> str:
        """The domain of recipients that are given without one: `control/envnoathost`, else `me`; CommandError."""
        return self._name("envnoathost" if (self.control / "envnoathost").exists() else "me")

    def _name(self, file: str) -> str:
        path = self.control / file
        try:
            lines = path.read_text("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise CommandError(f"{path}: {why(problem)}; `qmtls init` makes a home, --home names another one") from None
        name = lines[0].strip() if lines else ""
        if not name:
            raise CommandError(f"{path}: empty; write the name of this host into its first line")
        return name


def default_home() -> str:
    """The home where none is named: $QMTLS_HOME's, else the usual one."""
    return os.environ.get("QMTLS_HOME") or DEFAULT


def moved(path: str | None) -> Path | None:
    """An option's directory, from where we are."""
    return None if path is None else Path(path).absolute()


def why(problem: Exception) -> str:
    """The short reason of a failed file operation, without the path that the sentence names already."""
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
