"""What is in a bin: the listing from names and times only, and what its owner clears up at the start."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from qmtls.spool.api import Waiting
from qmtls.spool.directories import MARK, Directories
from qmtls.spool.files import trouble
from qmtls.spool.record import is_id

# A held message's mtime lies in the first day of 1970, where no due time is. The far future would not do:
# file systems with 32-bit times cut it, and in 2038 the cut value is a due time like any other.
HELD_MTIME = 1.0
RETURN_MTIME = 2.0  # as well, for what an operator wants returned
FIRST_DUE = 86_400.0
LAST_DUE = float(2**31 - 1)  # what the poorest file system can keep
FOREIGN_LIMIT = 1000  # names kept for the log


def scan(bin: Directories, foreign: list[str]) -> Iterator[Waiting]:
    """Every message. Names that are not ours go to `foreign`, with the reason. SpoolError."""
    try:
        for entry in bin.files.entries(bin.new):
            if _is_message(entry, "new", foreign):
                yield Waiting(entry.name, 0.0)
        for entry in bin.files.entries(bin.cur):
            id = _unmarked(bin, entry)
            if not id and not _is_message(entry, "cur", foreign):
                continue
            mtime = _mtime_of(bin, id) if id else _mtime(entry)
            if mtime != math.inf:
                yield tried(id or entry.name, mtime)
    except OSError as error:
        raise trouble(f"list bin {bin.path}", error) from error


def look(bin: Directories, id: str) -> Waiting | None:
    """One message. OSError."""
    if not is_id(id):
        return None
    if bin.files.exists(bin.new + id):
        return Waiting(id, 0.0)
    try:
        return tried(id, bin.files.mtime(bin.cur + id))
    except FileNotFoundError:
        return None


def tried(id: str, mtime: float) -> Waiting:
    """What a file in `cur` means by its time."""
    if mtime >= FIRST_DUE:
        return Waiting(id, mtime)
    returning = int(mtime) == RETURN_MTIME
    return Waiting(id, 0.0, not returning, returning)


def _is_message(entry: os.DirEntry[str], where: str, foreign: list[str]) -> bool:
    if not is_id(entry.name):
        reason = "not a queue file's name"
    elif not entry.is_file(follow_symlinks=False):
        reason = "not a regular file"
    else:
        return True
    if len(foreign) < FOREIGN_LIMIT:
        foreign.append(f"{where}/{entry.name}: {reason}")
    return False


def _unmarked(bin: Directories, entry: os.DirEntry[str]) -> str:
    """The id of a message that a mail reader looked at and renamed to ID:2,FLAGS: it gets its name back. Else "".

    The owner and a command may list at once: who comes second finds the message under its own name. OSError.
    """
    id, mark, _ = entry.name.partition(MARK)
    if not mark or not is_id(id) or not entry.is_file(follow_symlinks=False):
        return ""
    try:
        if not bin.files.exists(bin.cur + id):
            bin.files.rename(entry.path, bin.cur + id)
            return id
    except FileNotFoundError:
        return id
    except OSError:  # it is named as foreign then
        return ""
    return "" if bin.files.exists(entry.path) else id


def _mtime_of(bin: Directories, id: str) -> float:
    """Endless for one that is gone."""
    try:
        return bin.files.mtime(bin.cur + id)
    except FileNotFoundError:
        return math.inf


def _mtime(entry: os.DirEntry[str]) -> float:
    """Endless for a file that was moved on meanwhile."""
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return math.inf


def clear_tmp(bin: Directories, before: float | None) -> None:
    """Removes what was never accepted. SpoolError. `before`: only files that were last written before this time."""
    try:
        for entry in bin.files.entries(bin.tmp):
            if entry.is_dir(follow_symlinks=False):
                continue
            if before is None or _mtime(entry) < before:
                bin.unlink(entry.path)
    except OSError as error:
        raise trouble(f"clear up bin {bin.path}", error) from error
