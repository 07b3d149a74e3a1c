"""`qmtls queue`: what waits and why, and what an operator does about it.

Reads and changes the queue where it lies; the service need not run, and is not disturbed if it does. Changes are in
`queuechange`, standing pauses in `pause`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

from qmtls.cli import pause, queuechange
from qmtls.cli.bins import Entry, Queue, Sort, Trouble
from qmtls.cli.home import Home
from qmtls.cli.output import CommandError, Row, emit
from qmtls.cli.parser import Commands, Parser, add_json
from qmtls.cli.queuefilter import add_filters, wanted
from qmtls.cli.queueshow import details, details_text, qread, row, text
from qmtls.cli.retests import first_probe
from qmtls.smtp.address import Address

QREAD = "qread"


def add(commands: Commands) -> None:
    below = Commands(commands.add("queue", "mail that waits: list, show, retry, hold, release, bounce, remove, pause"))
    listing = below.add(
        "list",
        "what waits, for whom, since when, and why",
        run=run_list,
        examples="  qmtls queue list --domain example.org --json\n"
        "  qmtls queue list --older 2d --reason 'not the one pinned' --sort next",
    )
    show = below.add(
        "show", "one message: its envelope and each attempt", run=run_show, examples="  qmtls queue show ID"
    )
    stat = below.add(
        "stat",
        "how many messages there are, from their names only",
        run=run_stat,
        examples="  qmtls queue stat --json",
    )
    show.add_argument("ids", metavar="ID", nargs="+")
    add_filters(listing)
    listing.add_argument(
        "--sort",
        choices=[sort.value for sort in Sort],
        default=Sort.ARRIVED.value,
        help="oldest first (default), next attempt first, largest first, or none: at once, without a name in memory",
    )
    listing.add_argument("--format", choices=["text", "json", QREAD], default="text", help="qread: as qmail-qread")
    for parser in (listing, show, stat):
        add_json(parser)
    for parser in (listing, show, stat, *queuechange.add(below), *pause.add(below)):
        _add_places(parser)


def _add_places(parser: Parser) -> None:
    """The same as before the command, for who writes them behind it."""
    for part in ("control", "queue"):
        parser.add_argument(f"--{part}", dest=f"moved_{part}", metavar="DIR", default=argparse.SUPPRESS)


def run_list(args: argparse.Namespace) -> int:
    home, trouble, now = args.home, Trouble(), time.time()
    with Queue(home.queue, trouble, pause.standing(home, trouble)) as queue:
        entries = queue.entries(now, Sort(args.sort), wanted(args, now, bool(queue.holds)))
        if args.format == QREAD and not args.json:
            is_local = _is_local(home)
            for entry in entries:
                print(qread(entry, is_local))
        else:
            _print(entries, args.json or args.format == "json", row, partial(text, first_probe=first_probe(home)))
    return trouble.status


def run_show(args: argparse.Namespace) -> int:
    home, trouble, seen = args.home, Trouble(), set()
    with Queue(home.queue, trouble, pause.standing(home, trouble)) as queue:
        for entry in queue.find(args.ids, time.time()):
            seen.add(entry.id)
            _print([entry], args.json, details, partial(details_text, first_probe=first_probe(home)))
        return queuechange.missing(queue, args.ids, seen) | trouble.status


def run_stat(args: argparse.Namespace) -> int:
    trouble = Trouble()
    count = new = held = 0
    with Queue(args.home.queue, trouble) as queue:
        for waiting in queue.scan():
            count += 1
            held += waiting.held
            new += not (waiting.due or waiting.held or waiting.returning)
    lines = f"messages in queue: {count}\nmessages in queue but not yet preprocessed: {new}\nmessages held: {held}"
    emit([{"messages": count, "new": new, "held": held}], args.json, lambda _: lines)
    return trouble.status


def _print(
    entries: Iterator[Entry] | list[Entry],
    as_json: bool,
    as_row: Callable[[Entry], Row],
    as_text: Callable[[Entry], str],
) -> None:
    if as_json:
        emit(map(as_row, entries), True, str)
        return
    for entry in entries:
        sys.stdout.write(f"{as_text(entry)}\n")


def _is_local(home: Home) -> Callable[[Address], bool]:
    """For a word in the listing only: where the control directory does not say, everything is remote."""
    try:
        me = home.me()
    except CommandError:
        return lambda address: False
    found: Callable[[Address], bool] = import_module("qmtls.cli.expand").locality(home, me)
    return found
