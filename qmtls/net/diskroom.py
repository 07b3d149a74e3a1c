"""How large a message may be for the disk that the queue is on: one that cannot fit is refused before it comes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

RESERVE = 64 * 1024 * 1024  # octets left for messages already coming, logs, the ledger
SHARE = 20  # of a small disk the reserve is this part at most


def disk_room(path: Path) -> int:
    """Octets. Where the system does not say, there is always room: writing will tell."""
    try:
        found = os.statvfs(path)
    except OSError:
        return sys.maxsize
    if found.f_files and not found.f_favail:  # no more files, however small
        return 0
    reserve = min(RESERVE, found.f_blocks * found.f_frsize // SHARE)
    return max(0, found.f_bavail * found.f_frsize - reserve)


def is_full(path: Path) -> bool:
    """Not a file, or not a block of one, can be written there by whoever is not root."""
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return not found.f_bavail or bool(found.f_files and not found.f_favail)
