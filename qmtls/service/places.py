"""Where a service has its parts: HOME/control, queue, state and mail, any of which may be moved."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_HOME = "/var/qmtls"


@dataclass(frozen=True, slots=True)
class Places:
    """Directories, absolute."""

    home: Path
    control: Path
    queue: Path
    state: Path
    mail: Path


def places(home: str | None, control: str | None = None, queue: str | None = None, state: str | None = None) -> Places:
    """From the options: `home`, else $QMTLS_HOME, else /var/qmtls; the parts below it unless moved."""
    base = Path(home or os.environ.get("QMTLS_HOME") or DEFAULT_HOME).resolve()

    def part(moved: str | None, name: str) -> Path:
        return Path(moved).resolve() if moved else base / name

    return Places(base, part(control, "control"), part(queue, "queue"), part(state, "state"), base / "mail")


def check_queue(queue: Path) -> None:
    """OSError if the user that we are now cannot store mail in it, as far as that can be seen. Made if absent."""
    queue.mkdir(mode=0o700, exist_ok=True)
    for path in (queue, *queue.glob("[0-9]*"), *queue.glob("[0-9]*/*/")):
        if path.is_dir() and not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
