"""What an operator orders for mail in the queue: retry, hold, release, bounce, remove.

It is done at once. Only who sits at a terminal and names no id, but a filter alone, is told the number first, and says
`--yes` if that is meant; `--dry-run` shows what would be done. Orders go to the disk in batches that share their
syncs, and the owner of the bin is told: it need not run. What it is doing with a message at that moment it ends; the
order counts after it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice

from qmtls.cli.bins import Entry, Queue, State, Trouble
from qmtls.cli.home import Home, why
from qmtls.cli.inject import login_name
from qmtls.cli.output import DONE, FINDINGS, CommandError, clean
from qmtls.cli.parser import Commands, Parser
from qmtls.cli.pause import standing
from qmtls.cli.queuefilter import add_filters, filtered, wanted
from qmtls.cli.queueshow import one_line
from qmtls.net.openfiles import raise_limit
from qmtls.net.sharedsync import SharedSync
from qmtls.spool.api import BOUNCE, HOLD, RELEASE, Attempt, Filing, SpoolError
from qmtls.spool.bins import poke
from qmtls.spool.files import OsFiles
from qmtls.spool.listing import HELD_MTIME
from qmtls.spool.maildir import MaildirSpool

BATCH = 500  # messages whose orders share their syncs; each has a file open meanwhile
FROM_STDIN = "-"
_SPARE_FILES = 100  # that the interpreter and the bins have open


@dataclass(frozen=True, slots=True)
class Order:
    """One of the commands. `act` does it to messages of one bin, and says for each what it did."""

    act: Callable[[MaildirSpool, Sequence[Entry], argparse.Namespace], Sequence[str]]
    would: str  # "would be held"


def add(below: Commands) -> list[Parser]:
    """The commands, below `qmtls queue`."""
    return [_add(below, name, *words) for name, words in _COMMANDS.items()]


def _add(below: Commands, name: str, summary: str, about: str, note: str, order: Order) -> Parser:
    parser = below.add(
        name,
        summary,
        run=lambda args: run(args, order),
        about=f"{about}\nAt a terminal messages chosen by a filter alone are counted first, and --yes does it.",
        examples=f"  qmtls queue {name} ID\n  qmtls queue {name} --domain example.org --older 1d\n"
        f"  qmtls queue {name} - <ids",
    )
    parser.add_argument("ids", metavar="ID", nargs="*", help="'-': ids on standard input, one a line")
    add_filters(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--yes", action="store_true", help="at a terminal: do it to all that the filter finds")
    if note:
        parser.add_argument("--note", metavar="TEXT", default="", help=note)
    return parser


def run(args: argparse.Namespace, order: Order) -> int:
    """Does `order` to the messages that are named, or match."""
    if not args.ids and not filtered(args):
        args.parser.error("name messages by ID, or choose them by --from, --to, --domain and the like")
    home, trouble, now = args.home, Trouble(), time.time()
    args.ids = list(_ids(args.ids)) if args.ids else []
    named = bool(args.ids) or not filtered(args)
    seen, count = set[str](), 0
    doing = (named or args.yes or not _at_terminal()) and not args.dry_run
    files = OsFiles(SharedSync())
    with Queue(home.queue, trouble, standing(home, trouble), files) as queue:
        meant = wanted(args, now, bool(queue.holds))
        chosen = queue.find(args.ids, now, meant) if named else queue.entries(now, wanted=meant)
        for batch in _batches(chosen, _batch_size() if doing else BATCH):
            count += len(batch)
            if named:
                seen.update(entry.id for entry in batch)
            if doing:
                _carry_out(order, batch, args)
            elif args.dry_run:
                _print(batch, [order.would] * len(batch))
        if doing:
            _finish(order, queue, home, trouble)
    if not named and not doing and not args.dry_run and count:
        print(
            f"{count} message{'s match' if count != 1 else ' matches'}; nothing was changed: --yes does it, "
            "--dry-run shows them",
            file=sys.stderr,
        )
        return FINDINGS
    if not count and not args.ids:
        print("no such message", file=sys.stderr)
        return FINDINGS
    return trouble.status | missing(args.ids, seen)


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def missing(ids: Sequence[str], seen: set[str]) -> int:
    """Names those ids that are not there."""
    lost = [id for id in ids if id not in seen]
    for id in lost:
        print(f"qmtls: {clean(id)}: no such message; it was delivered, removed, or never was", file=sys.stderr)
    return FINDINGS if lost else DONE


def _ids(given: Sequence[str]) -> Iterator[str]:
    for id in given:
        if id == FROM_STDIN:
            yield from filter(None, (line.strip() for line in sys.stdin))
        else:
            yield id


def _batch_size() -> int:
    return max(1, min(BATCH, raise_limit() - _SPARE_FILES))


def _batches(entries: Iterable[Entry], most: int) -> Iterator[list[Entry]]:
    entries = iter(entries)
    while batch := list(islice(entries, most)):
        yield batch


def _carry_out(order: Order, batch: Sequence[Entry], args: argparse.Namespace) -> None:
    by_bin: dict[str, list[Entry]] = {}
    for entry in batch:
        by_bin.setdefault(entry.bin.name, []).append(entry)
    words: dict[str, str] = {}
    for entries in by_bin.values():
        spool = entries[0].bin
        said = order.act(spool, entries, args)
        words.update((entry.id, word) for entry, word in zip(entries, said, strict=True))
        try:
            poke(spool.path)
        except OSError as problem:
            raise CommandError(f"{spool.path}: {why(problem)}") from None
    _print(batch, [words[entry.id] for entry in batch])


def _print(entries: Sequence[Entry], words: Sequence[str]) -> None:
    lines = [
        clean(f"{entry.id}: {word} (<{entry.sender}> to {one_line(entry.addresses) or 'nobody left'})")
        for entry, word in zip(entries, words, strict=True)
    ]
    print("\n".join(lines))


def _finish(order: Order, queue: Queue, home: Home, trouble: Callable[[str], None]) -> None:
    """What is to last lasts; what nobody is there to return is returned here."""
    for spool in queue.bins:
        try:
            spool.sync()
        except SpoolError as problem:
            trouble(str(problem))
    if order is _BOUNCE:
        sys.stdout.flush()
        import_module("qmtls.cli.returning").return_all(home, trouble)


# ------------------------------------------------------------ the orders


def _retry(spool: MaildirSpool, entries: Sequence[Entry], args: argparse.Namespace) -> Sequence[str]:
    now = time.time()
    return [_retry_one(spool, entry, now) for entry in entries]


def _retry_one(spool: MaildirSpool, entry: Entry, now: float) -> str:
    if entry.state is State.HELD:
        return "held"
    if entry.state is not State.WAITING:
        return "was due already"
    return "due now" if _set_time(spool, entry.id, now) else "gone"


def _hold(spool: MaildirSpool, entries: Sequence[Entry], args: argparse.Namespace) -> Sequence[str]:
    words = _sentence(f"held by {login_name()}", args.note)
    todo = [entry for entry in entries if not entry.waiting.held]
    _record(spool, [_filing(entry, HOLD, words, held=True) for entry in todo])
    for entry in todo:
        # The end of an attempt in the very same moment may have set its own time; that comes once for each attempt.
        found = spool.look(entry.id)
        if found is not None and not found.held:
            _set_time(spool, entry.id, HELD_MTIME)
    return ["was held already" if entry.waiting.held else "held" for entry in entries]


def _release(spool: MaildirSpool, entries: Sequence[Entry], args: argparse.Namespace) -> Sequence[str]:
    todo = [entry for entry in entries if entry.waiting.held or entry.waiting.returning]
    _record(spool, [_filing(entry, RELEASE, _sentence(f"released by {login_name()}", args.note)) for entry in todo])
    said = []
    for entry in entries:
        ruled = next(iter(entry.ruled.values()), None)
        word = "released" if entry.waiting.held or entry.waiting.returning else "was not held"
        said.append(f"{word}, but {ruled.sentence}" if ruled is not None else word)
    return said


def _bounce(spool: MaildirSpool, entries: Sequence[Entry], args: argparse.Namespace) -> Sequence[str]:
    words = _sentence("returned by the administrator before it could be delivered", args.note)
    _record(spool, [_filing(entry, BOUNCE, words, returning=True) for entry in entries])
    return ["returns to its sender"] * len(entries)


def _remove(spool: MaildirSpool, entries: Sequence[Entry], args: argparse.Namespace) -> Sequence[str]:
    try:
        spool.remove([entry.id for entry in entries])
    except SpoolError as problem:
        raise CommandError(f"{spool.path}: not all were removed: {problem}") from None
    return ["removed"] * len(entries)


def _sentence(words: str, note: str) -> str:
    return f"{words}: {' '.join(note.split())}" if note.strip() else words


def _filing(entry: Entry, event: str, words: str, *, held: bool = False, returning: bool = False) -> Filing:
    now = time.time()
    attempt = Attempt(now, reasons=tuple((n, words) for n in entry.to), event=event)
    return Filing(entry.id, attempt, now, held, returning)


def _record(spool: MaildirSpool, filings: Sequence[Filing]) -> None:
    problem = next((problem for problem in spool.record(filings) if problem is not None), None)
    if problem is not None:
        raise CommandError(f"{spool.path}: the orders from here on are not on the disk: {problem}")


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


_BOUNCE = Order(_bounce, "would return to its sender")
_NOTE = "why, for its log and the listing"
_COMMANDS: dict[str, tuple[str, str, str, Order]] = {
    "retry": (
        "try waiting mail now",
        "Makes waiting messages due at once; a running service sees it within seconds.",
        "",
        Order(_retry, "would be due"),
    ),
    "hold": (
        "keep mail in the queue",
        "Holds messages until they are released. Held mail does not grow too old.",
        _NOTE,
        Order(_hold, "would be held"),
    ),
    "release": (
        "let held mail go",
        "Releases messages that were held, and takes back the order to return them. They are due at once.",
        _NOTE,
        Order(_release, "would be released"),
    ),
    "bounce": (
        "return mail to its sender",
        "Returns messages at once, each with a report. A running service does it within a minute, else the command.",
        "why, told to the sender",
        _BOUNCE,
    ),
    "remove": (
        "remove mail from the queue",
        "Removes messages; nobody is told. One that is being sent at this moment may still arrive.",
        "",
        Order(_remove, "would be removed"),
    ),
}
