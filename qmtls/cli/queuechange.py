"""What an operator orders for mail in the queue: retry, hold, release, bounce, remove.

It is done at once. Only who sits at a terminal and names no id, but a filter alone, is told the number first, and says
`--yes` if that is meant; `--dry-run` shows what would be done. Orders go to the disk in batches that share their
syncs, and the owner of the bin is told: it need not run. What it is doing with a message at that moment it ends; the
order counts after it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import islice

from qmtls.cli.bins import Entry, Queue, Trouble, plain_id
from qmtls.cli.home import Home
from qmtls.cli.orders import BOUNCING, HOLDING, NOT_DONE, RELEASING, REMOVING, RETRY, Batch, Order, carry_out
from qmtls.cli.output import DONE, FINDINGS, CommandError, clean, nobody_reads
from qmtls.cli.parser import Commands, Parser
from qmtls.cli.pause import standing
from qmtls.cli.queuefilter import add_filters, filtered, wanted
from qmtls.cli.queueshow import one_line
from qmtls.net.openfiles import raise_limit
from qmtls.net.sharedsync import SharedSync
from qmtls.spool.api import SpoolError
from qmtls.spool.files import OsFiles
from qmtls.wording import counted

BATCH = 2000  # messages whose orders share their syncs; each has a file open meanwhile
FROM_STDIN = "-"
_SPARE_FILES = 100  # that the interpreter and the bins have open


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
    named, by_filter = bool(args.ids), filtered(args)
    if not named and not by_filter:
        args.parser.error("name messages by ID, or choose them by --from, --to, --domain and the like")
    home, trouble, now = args.home, Trouble(), time.time()
    ids = list(_ids(args.ids))
    doing = (named or args.yes or not _at_terminal()) and not args.dry_run
    files = OsFiles(SharedSync(lambda: 0.0))  # no haste: however long one takes, thousands of others take longer
    with Queue(home.queue, trouble, standing(home, trouble), files) as queue:
        meant = replace(wanted(args, now, bool(queue.holds)), history=False)
        chosen = queue.find(ids, now, meant) if named else queue.entries(now, wanted=meant)
        seen, count = set[str](), 0
        for batch in _batches(chosen, _batch_size() if doing else BATCH):
            count += len(batch)
            if named:
                seen.update(entry.id for entry in batch)
            if doing:
                _carry_out(order, batch, getattr(args, "note", ""), trouble)
            elif args.dry_run:
                _print(batch, [order.spares(entry) or order.would for entry in batch])
        if doing:
            _finish(order, queue, home, trouble)
        status = missing(queue, ids, seen, by_filter) if named else DONE
    if not count and not ids:
        print("no ids on standard input" if named else _none(trouble), file=sys.stderr)
        return FINDINGS
    if not (named or doing or args.dry_run):
        words = f"{counted(count, 'message')} match{'es' if count == 1 else ''}"
        print(f"{words}; nothing was changed: --yes does it, --dry-run shows them", file=sys.stderr)
        return FINDINGS
    return trouble.status | status


def _none(trouble: Trouble) -> str:
    return "no message that can be read matches" if trouble.status else "no message matches"


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def missing(queue: Queue, ids: Iterable[str], seen: Container[str], by_filter: bool = False) -> int:
    """Names those ids that are not there, or that the filter leaves out. What cannot be read was named before."""
    lost = [id for id in dict.fromkeys(map(plain_id, ids)) if id not in seen]
    for id in lost:
        if not queue.has(id):
            words = "no such message; it was delivered, removed, or never was"
        elif by_filter:
            words = "is in the queue, but not what the filter says"
        else:
            continue
        print(f"qmtls: {clean(id)}: {words}", file=sys.stderr)
    return FINDINGS if lost else DONE


def _ids(given: Sequence[str]) -> Iterator[str]:
    for id in given:
        if id == FROM_STDIN:
            lines = (line.strip() for line in sys.stdin.buffer)
            yield from (line.decode("ascii", "backslashreplace") for line in lines if line)
        else:
            yield id


def _batch_size() -> int:
    return max(1, min(BATCH, raise_limit() - _SPARE_FILES))


def _batches(entries: Iterable[Entry], most: int) -> Iterator[list[Entry]]:
    entries = iter(entries)
    while batch := list(islice(entries, most)):
        yield batch


def _carry_out(order: Order, entries: Sequence[Entry], note: str, trouble: Trouble) -> None:
    by_bin: dict[str, list[Entry]] = {}
    for entry in entries:
        by_bin.setdefault(entry.bin.name, []).append(entry)
    words: dict[tuple[str, str], str] = {}
    full = False
    for name, of_bin in by_bin.items():
        batch = Batch(of_bin[0].bin, of_bin, note, trouble)
        said = carry_out(order, batch)
        words.update(((name, entry.id), word) for entry, word in zip(of_bin, said, strict=True))
        full = full or batch.full
    told = [(entry, word) for entry in entries if (word := words[entry.bin.name, entry.id]) != NOT_DONE]
    try:
        _print([entry for entry, _ in told], [word for _, word in told])
    except BrokenPipeError:  # `| head`: who reads no further wanted all of them done nevertheless
        nobody_reads()
    if full:
        raise CommandError("the disk is full: orders for those that are not named here were not given")


def _print(entries: Sequence[Entry], words: Sequence[str]) -> None:
    if not entries:
        return
    lines = [
        clean(f"{entry.id}: {word} (<{entry.sender}> to {one_line(entry.addresses) or 'nobody left'})")
        for entry, word in zip(entries, words, strict=True)
    ]
    print("\n".join(lines), flush=True)


def _finish(order: Order, queue: Queue, home: Home, trouble: Callable[[str], None]) -> None:
    """What is to last lasts; what nobody is there to return is returned here."""
    for spool in queue.bins:
        try:
            spool.sync()
        except SpoolError as problem:
            trouble(str(problem))
    if order is BOUNCING:
        sys.stdout.flush()
        import_module("qmtls.cli.returning").return_all(home, trouble)


_NOTE = "why, for its log and the listing"
_COMMANDS: dict[str, tuple[str, str, str, Order]] = {
    "retry": (
        "try waiting mail now",
        "Makes waiting messages due at once; a running service sees it within seconds.",
        "",
        RETRY,
    ),
    "hold": (
        "keep mail in the queue",
        "Holds messages until they are released. Held mail does not grow too old.",
        _NOTE,
        HOLDING,
    ),
    "release": (
        "let held mail go",
        "Releases messages that were held, and takes back the order to return them. They are due at once.",
        _NOTE,
        RELEASING,
    ),
    "bounce": (
        "return mail to its sender",
        "Returns messages at once, each with a report. A running service does it within a minute, else the command.",
        "why, told to the sender",
        BOUNCING,
    ),
    "remove": (
        "remove mail from the queue",
        "Removes messages; nobody is told. One that is being sent at this moment may still arrive.",
        "",
        REMOVING,
    ),
}
