"""Names inside HOME/queue: which directories are bins, and what else may lie there."""

from __future__ import annotations

import os
import re
from pathlib import Path

INJECT = "inject"  # mail made on this host by `sendmail` and the like: many processes add, one owns and relays
OWNER = "owner"  # the file in a bin that its owner keeps locked
_NUMBERED = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


def is_bin(name: str) -> bool:
    """True for `inject` and for the workers' numbered bins."""
    return name == INJECT or is_numbered(name)


def is_numbered(name: str) -> bool:
    """True for a bin that a worker receives into."""
    return _NUMBERED.fullmatch(name) is not None


def poke(bin: Path) -> None:
    """Tells the owner of a bin to look at it again: somebody else changed a time in it."""
    try:
        os.utime(bin / OWNER)
    except FileNotFoundError:  # nobody ever owned it; its first owner looks anyway
        pass
