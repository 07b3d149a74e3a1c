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
from itertools import repeat

from qmtls.cli.bins import Entry, State
from qmtls.cli.home import why
from qmtls.cli.inject import login_name
from qmtls.cli.output import one_sentence
from qmtls.spool.api import BOUNCE, HOLD, RELEASE, Attempt, Filing
from qmtls.spool.bins import poke
from qmtls.spool.listing import FIRST_DUE, HELD_MTIME, RETURN_MTIME
from qmtls.spool.maildir import MaildirSpool

THREADS = 8  # that unlink: each waits for the disk most of the time
CHUNK = 50  # messages that one of them takes at a time
GONE = "gone: it was delivered, or removed, meanwhile"
NOT_DONE = ""  # instead of a word: it was said what is the matter


@dataclass(slots=True)
class Batch:
    """Messages of one bin; `note` is the operator's, `trouble` hears what could not be done.

    `full` afterwards: there was no room on the disk, so there is no use in going on, nor in naming each of them.
    """

    spool: MaildirSpool
    entries: Sequence[Entry]
    note: str
    trouble: Callable[[str], None]
    full: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """`act` says for each of the messages what was done. `spares` says of one why it needs nothing; "" if it does.

    `would` is for who only asks: "would be held".
    """

    act: Callable[[Batch, Sequence[Entry]], Sequence[str]]
    spares: Callable[[Entry], str]
    would: str


def carry_out(order: Order, batch: Batch) -> Sequence[str]:
    """For each message what was done to it, in a word. The owner of the bin hears of it, whatever happens."""
    path = batch.spool.path
    todo = [entry for entry in batch.entries if not order.spares(entry)]
    try:
        with _alone(f"{path}/log"):
            done = iter(order.act(batch, todo) if todo else ())
    except OSError as problem:
        batch.trouble(f"{path}: the order was not given: {why(problem)}")
        done = repeat(NOT_DONE)
    finally:
        _tell_owner(batch, given=bool(todo))
    return [order.spares(entry) or next(done) for entry in batch.entries]


def _tell_owner(batch: Batch, given: bool) -> None:
    """Also if nothing was to be done: a command that was killed may have done it without a word."""
    try:
        poke(batch.spool.path)
    except OSError as problem:
        if given:
            batch.trouble(f"{batch.spool.path}/owner: {why(problem)}: the service sees the order later, by itself")


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """A lock that ends with the process; where the file system has none, there is none. OSError."""
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


def _is_due(entry: Entry) -> str:
    match entry.state:
        case State.HELD:
            return "held"
        case State.WAITING:
            return ""
        case _:
            return "was due already"


def _retry(batch: Batch, entries: Sequence[Entry]) -> Sequence[str]:
    now = time.time()
    return [_retry_one(batch, entry.id, now) for entry in entries]


def _retry_one(batch: Batch, id: str, now: float) -> str:
    found = batch.spool.look(id)  # another command may have held it since it was read
    if found is None:
        return GONE
    if found.held:
        return "held"
    if not found.due:
        return "was due already"
    try:
        return "due now" if _set_time(batch.spool, id, now) else GONE
    except OSError as problem:
        return _not_done(batch, id, why(problem))


def _is_held(entry: Entry) -> str:
    return "was held already" if entry.waiting.held else ""


def _hold(batch: Batch, entries: Sequence[Entry]) -> Sequence[str]:
    words = _sentence(f"held by {login_name()}", batch.note)
    return _record(batch, [_filing(entry, HOLD, words, held=True) for entry in entries], "held")


def _has_no_order(entry: Entry) -> str:
    return "" if entry.waiting.held or entry.waiting.returning else _still_ruled(entry, "was not held")


def _release(batch: Batch, entries: Sequence[Entry]) -> Sequence[str]:
    words = _sentence(f"released by {login_name()}", batch.note)
    said = _record(batch, [_filing(entry, RELEASE, words) for entry in entries], "released")
    return [_still_ruled(entry, word) for entry, word in zip(entries, said, strict=True)]


def _still_ruled(entry: Entry, word: str) -> str:
    ruled = next(iter(entry.ruled.values()), None)
    return word if ruled is None or word in (GONE, NOT_DONE) else f"{word}, but {ruled.sentence}"


def _never(entry: Entry) -> str:
    return ""


def _bounce(batch: Batch, entries: Sequence[Entry]) -> Sequence[str]:
    words = _sentence("returned by the administrator before it could be delivered", batch.note)
    return _record(batch, [_filing(entry, BOUNCE, words, returning=True) for entry in entries], "returns to its sender")


def _remove(batch: Batch, entries: Sequence[Entry]) -> Sequence[str]:
    ids = [entry.id for entry in entries]
    chunks = [ids[n : n + CHUNK] for n in range(0, len(ids), CHUNK)]
    with ThreadPoolExecutor(min(THREADS, len(chunks))) as pool:
        stuck = {id: error for part in pool.map(batch.spool.take_away, chunks) for id, error in part.items()}
    for id, error in sorted(stuck.items()):
        batch.trouble(f"{batch.spool.path}: {id}: cannot be removed: {why(error)}")
    return [NOT_DONE if id in stuck else "removed" for id in ids]


def _sentence(words: str, note: str) -> str:
    note = one_sentence(note)
    return f"{words}: {note}" if note else words


def _filing(entry: Entry, event: str, words: str, *, held: bool = False, returning: bool = False) -> Filing:
    now = time.time()
    attempt = Attempt(now, reasons=tuple((n, words) for n in entry.to), event=event)
    return Filing(entry.id, attempt, now, held, returning)


def _record(batch: Batch, filings: Sequence[Filing], word: str) -> Sequence[str]:
    said = []
    for filing, problem in zip(filings, batch.spool.record(filings), strict=True):
        if problem is not None and problem.full:
            batch.full = True
            said.append(NOT_DONE)
            continue
        if problem is not None:
            said.append(_not_done(batch, filing.id, f"the order is not on the disk: {problem}"))
            continue
        try:
            said.append(word if _in_force(batch.spool, filing) else GONE)
        except OSError as error:
            said.append(_not_done(batch, filing.id, why(error)))
    return said


def _not_done(batch: Batch, id: str, words: str) -> str:
    batch.trouble(f"{batch.spool.path}: {id}: {words}")
    return NOT_DONE


def _in_force(spool: MaildirSpool, filing: Filing) -> bool:
    """False: the message is gone. The end of an attempt in the very same moment may have set its own time, once.
    OSError."""
    try:
        mtime = os.lstat(f"{spool.path}/cur/{filing.id}").st_mtime
    except FileNotFoundError:
        return False
    if mtime < FIRST_DUE or not (filing.held or filing.returning):
        return True
    return _set_time(spool, filing.id, HELD_MTIME if filing.held else RETURN_MTIME)


def _set_time(spool: MaildirSpool, id: str, seconds: float) -> bool:
    """False if it is gone. OSError."""
    try:
        os.utime(f"{spool.path}/cur/{id}", (seconds, seconds), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


RETRY = Order(_retry, _is_due, "would be due")
HOLDING = Order(_hold, _is_held, "would be held")
RELEASING = Order(_release, _has_no_order, "would be released")
BOUNCING = Order(_bounce, _never, "would return to its sender")
REMOVING = Order(_remove, _never, "would be removed")
