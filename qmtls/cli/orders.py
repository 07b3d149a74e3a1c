"""What each order does to messages of one bin: retry, hold, release, bounce, remove.

One command at a time gives orders to a bin, or a hold and a retry at once might leave the log with the one and the
time of the file with the other. The owner of the bin is not kept waiting: what it does between two steps of ours is
looked for behind them.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from qmtls.cli.bins import Entry, State
from qmtls.cli.home import why
from qmtls.cli.inject import login_name
from qmtls.cli.output import CommandError
from qmtls.spool.api import BOUNCE, HOLD, RELEASE, Attempt, Filing
from qmtls.spool.bins import poke
from qmtls.spool.listing import FIRST_DUE, HELD_MTIME
from qmtls.spool.maildir import MaildirSpool

THREADS = 8  # that unlink: each waits for the disk most of the time
CHUNK = 50  # messages that one of them takes at a time
GONE = "gone: it was delivered, or removed, meanwhile"
NOT_DONE = ""  # instead of a word: it was said what is the matter


@dataclass(slots=True)
class Batch:
    """Messages of one bin; `note` is the operator's, `trouble` hears what could not be done.

    `full` afterwards: there was no room on the disk, so there is no use in going on.
    """

    spool: MaildirSpool
    entries: Sequence[Entry]
    note: str
    trouble: Callable[[str], None]
    full: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """`act` says for each message what was done. `would` is for who only asks: "would be held"."""

    act: Callable[[Batch], Sequence[str]]
    would: str


def carry_out(order: Order, batch: Batch) -> Sequence[str]:
    """For each message what was done to it, in a word. The owner of the bin hears of it, whatever happens."""
    path = batch.spool.path
    try:
        with _alone(f"{path}/log"):
            return order.act(batch)
    finally:
        try:
            poke(path)
        except OSError as problem:
            raise CommandError(f"{path}: {why(problem)}") from None


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """A lock that ends with the process; where the file system has none, there is none."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"qmtls: {directory}: another command gives orders here; waiting for it", file=sys.stderr)
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(fd)


def _retry(batch: Batch) -> Sequence[str]:
    now = time.time()
    return [_retry_one(batch.spool, entry, now) for entry in batch.entries]


def _retry_one(spool: MaildirSpool, entry: Entry, now: float) -> str:
    if entry.state is State.HELD:
        return "held"
    if entry.state is not State.WAITING:
        return "was due already"
    found = spool.look(entry.id)  # another command may have held it since it was read
    if found is None:
        return GONE
    if found.held:
        return "held"
    if not found.due:
        return "was due already"
    return "due now" if _set_time(spool, entry.id, now) else GONE


def _hold(batch: Batch) -> Sequence[str]:
    words = _sentence(f"held by {login_name()}", batch.note)

    def hold(entry: Entry) -> Filing | str:
        return "was held already" if entry.waiting.held else _filing(entry, HOLD, words, held=True)

    return _record(batch, hold, "held")


def _release(batch: Batch) -> Sequence[str]:
    words = _sentence(f"released by {login_name()}", batch.note)

    def release(entry: Entry) -> Filing | str:
        ordered = entry.waiting.held or entry.waiting.returning
        return _filing(entry, RELEASE, words) if ordered else "was not held"

    said = _record(batch, release, "released")
    return [_still_ruled(entry, word) for entry, word in zip(batch.entries, said, strict=True)]


def _still_ruled(entry: Entry, word: str) -> str:
    ruled = next(iter(entry.ruled.values()), None)
    return word if ruled is None or word in (GONE, NOT_DONE) else f"{word}, but {ruled.sentence}"


def _bounce(batch: Batch) -> Sequence[str]:
    words = _sentence("returned by the administrator before it could be delivered", batch.note)
    return _record(batch, lambda entry: _filing(entry, BOUNCE, words, returning=True), "returns to its sender")


def _remove(batch: Batch) -> Sequence[str]:
    ids = [entry.id for entry in batch.entries]
    chunks = [ids[n : n + CHUNK] for n in range(0, len(ids), CHUNK)]
    with ThreadPoolExecutor(min(THREADS, len(chunks))) as pool:
        stuck = set[str]().union(*pool.map(batch.spool.take_away, chunks))
    for id in sorted(stuck):
        batch.trouble(f"{batch.spool.path}: {id}: cannot be removed")
    return [NOT_DONE if id in stuck else "removed" for id in ids]


def _sentence(words: str, note: str) -> str:
    return f"{words}: {' '.join(note.split())}" if note.strip() else words


def _filing(entry: Entry, event: str, words: str, *, held: bool = False, returning: bool = False) -> Filing:
    now = time.time()
    attempt = Attempt(now, reasons=tuple((n, words) for n in entry.to), event=event)
    return Filing(entry.id, attempt, now, held, returning)


def _record(batch: Batch, order: Callable[[Entry], Filing | str], word: str) -> Sequence[str]:
    """`order` makes what is to be filed of a message, or says why nothing is."""
    spool = batch.spool
    orders = [order(entry) for entry in batch.entries]
    filings = [one for one in orders if isinstance(one, Filing)]
    said = {}
    for filing, problem in zip(filings, spool.record(filings), strict=True):
        if problem is None:
            said[filing.id] = word if _in_force(spool, filing) else GONE
        else:
            said[filing.id] = NOT_DONE
            batch.trouble(f"{spool.path}: {filing.id}: the order is not on the disk: {problem}")
            batch.full = batch.full or problem.full
    return [said[one.id] if isinstance(one, Filing) else one for one in orders]


def _in_force(spool: MaildirSpool, filing: Filing) -> bool:
    """False: the message is gone. The end of an attempt in the very same moment may have set its own time, once."""
    try:
        mtime = os.lstat(f"{spool.path}/cur/{filing.id}").st_mtime
    except FileNotFoundError:
        return False
    return not filing.held or mtime < FIRST_DUE or _set_time(spool, filing.id, HELD_MTIME)


def _set_time(spool: MaildirSpool, id: str, seconds: float) -> bool:
    """False if it is gone."""
    path = f"{spool.path}/cur/{id}"
    try:
        os.utime(path, (seconds, seconds), follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise CommandError(f"{path}: {why(problem)}") from None
    return True


RETRY = Order(_retry, "would be due")
HOLDING = Order(_hold, "would be held")
RELEASING = Order(_release, "would be released")
BOUNCING = Order(_bounce, "would return to its sender")
REMOVING = Order(_remove, "would be removed")
