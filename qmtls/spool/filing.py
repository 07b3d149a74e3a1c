"""Recording attempts: the log's line first and synced, then the message's place and time.

Stopped anywhere between, the message is still in new or cur and its log has each line that was confirmed: the next
start delivers to those that are not done (docs/queue.md). The new place is synced too, or a message that was
held would go out after a power cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qmtls.spool.api import ATTEMPT, DELAY, Filing, SpoolError
from qmtls.spool.directories import Directories
from qmtls.spool.files import TOGETHER, trouble
from qmtls.spool.history import encode_attempt
from qmtls.spool.listing import FIRST_DUE, HELD_MTIME, LAST_DUE, RETURN_MTIME


def record(bin: Directories, batch: Sequence[Filing]) -> list[SpoolError | None]:
    """See api.Spool.record. A message that is gone needs no record: nothing is written for it."""
    results: list[SpoolError | None] = [None] * len(batch)
    opened: list[tuple[int, int]] = []
    for n in _there(bin, batch, results):
        try:
            opened.append((n, _append(bin, batch[n])))
        except OSError as error:
            results[n] = trouble(f"write log/{batch[n].id}", error)
    together = len(opened) >= TOGETHER and bin.files.sync_together(bin.log_fd)
    for _, fd in opened if not together else ():
        bin.files.start_writing(fd)
    for n, fd in opened:
        try:
            try:
                if not together:
                    bin.files.sync(fd)
            finally:
                bin.files.close(fd)
        except OSError as error:
            results[n] = trouble(f"sync log/{batch[n].id}", error)
    _sync(bin, bin.log_fd, "log", [n for n, _ in opened], results)
    placed = []
    for n, _ in opened:
        try:
            if results[n] is None and _place(bin, batch[n]):
                placed.append(n)
        except OSError as error:
            results[n] = trouble(f"file {batch[n].id}", error)
    _sync(bin, bin.cur_fd, "cur", placed, results)
    return results


def _there(bin: Directories, batch: Sequence[Filing], results: list[SpoolError | None]) -> list[int]:
    """Which of the batch are still there."""
    found: list[int] = []
    missing: list[int] = []
    for n, filing in enumerate(batch):
        try:
            (found if bin.has(filing.id) else missing).append(n)
        except OSError as error:
            results[n] = trouble(f"look for {filing.id}", error)
    if missing:
        try:
            back = bin.unmark({batch[n].id for n in missing})
            found = sorted([*found, *(n for n in missing if batch[n].id in back)])
        except OSError as error:
            for n in missing:
                results[n] = trouble(f"look for {batch[n].id}", error)
    return found


def _append(bin: Directories, filing: Filing) -> int:
    """The open log with the new line in it; a line that was cut before gets its end first."""
    line = encode_attempt(filing.attempt)
    fd = bin.files.append_to(bin.log + filing.id)
    try:
        size = bin.files.size(fd)
        if size and bin.files.read(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        bin.files.write(fd, [line])
    except OSError:
        bin.files.close(fd)
        raise
    return fd


def _place(bin: Directories, filing: Filing) -> bool:
    """Time first, then the move, so that nothing in cur ever has a wrong time. False: the message went meanwhile."""
    mtime = _mtime(filing)
    cur = bin.cur + filing.id
    try:
        bin.files.set_mtime(bin.new + filing.id, mtime)
        bin.files.rename(bin.new + filing.id, cur)
        moved = True
    except FileNotFoundError:
        moved = False
    try:
        if moved and mtime >= FIRST_DUE:
            return True
        if filing.attempt.event in (ATTEMPT, DELAY) and mtime >= FIRST_DUE and bin.files.mtime(cur) < FIRST_DUE:
            return True
        # An order is placed once more behind the move: before it the owner may have set another time.
        bin.files.set_mtime(cur, mtime)
    except FileNotFoundError:
        if not bin.unmark({filing.id}):
            bin.unlink(bin.log + filing.id)
            return False
        bin.files.set_mtime(cur, mtime)
    return True


def _mtime(filing: Filing) -> float:
    if filing.returning:
        return RETURN_MTIME
    return HELD_MTIME if filing.held else min(max(filing.due, FIRST_DUE), LAST_DUE)


def _sync(bin: Directories, fd: int, name: str, numbers: Iterable[int], results: list[SpoolError | None]) -> None:
    """One sync of a directory for all of `numbers`; if it fails, it failed for each of them."""
    good = [n for n in numbers if results[n] is None]
    try:
        if good:
            bin.files.sync(fd)
    except OSError as error:
        for n in good:
            results[n] = trouble(f"sync {name}", error)
