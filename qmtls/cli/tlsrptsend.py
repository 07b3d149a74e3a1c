"""`qmtls tlsrpt send`: our TLS reports now, by the service's own code and under its claims."""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from qmtls.cli.home import Home
from qmtls.cli.inject import BadControl, inject_made
from qmtls.cli.output import DONE, FINDINGS, CommandError, clean
from qmtls.cli.owner import as_owner_of
from qmtls.control.compile import compile_control
from qmtls.control.settings import ControlError, Settings
from qmtls.delivery.tlsreport import Reporting
from qmtls.ledger.schema import FILE, LedgerError
from qmtls.ledger.tlsresults import (
    SENT_DAYS,
    claim_this_day,
    date_of,
    day_number,
    day_of,
    domains_to_report,
    end_claim,
    forget_done,
)
from qmtls.net.contexts import ContextError
from qmtls.net.httpspost import HttpsPoster
from qmtls.net.ids import Ids
from qmtls.service.oneshot import Bench, GaveUp, ask
from qmtls.service.tlsreports import Outlets, Sender
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import SpoolError

SECONDS = 3600.0  # for all of it


@dataclass(frozen=True, slots=True)
class _Order:
    """What is asked for."""

    home: Home
    settings: Settings
    by: Reporting
    days: Sequence[int]
    again: bool


def run(args: argparse.Namespace) -> int:
    home: Home = args.home
    days = _days(args)
    with as_owner_of(home.state):
        try:
            settings = compile_control(home.control)
        except ControlError as problem:
            raise CommandError(f"{problem} (`qmtls check` shows all)") from None
        if settings.tls_reports is None:
            raise CommandError(f"{home.control}/tlsrpt: does not exist; write from=ADDRESS into it")
        order = _Order(home, settings, settings.tls_reports, days, args.again)
        try:
            done, sent = ask(settings, home.state, partial(_send, order), SECONDS)
        except (LedgerError, GaveUp, ContextError, sqlite3.Error, OSError) as problem:
            raise CommandError(str(problem)) from None
    print(f"{sent} report{'' if sent == 1 else 's'} sent")
    return DONE if done else FINDINGS


def _days(args: argparse.Namespace) -> Sequence[int]:
    today = day_of(time.time())
    if not args.day:
        return range(today - SENT_DAYS, today)
    try:
        day = day_number(args.day)
    except ValueError:
        args.parser.error(f"{args.day} is no day; write it as 2026-11-21")
    if day >= today:
        args.parser.error(f"{args.day} is not over yet (UTC)")
    return (day,)


async def _send(order: _Order, bench: Bench) -> tuple[bool, int]:
    """True if nothing is left, and the number of reports."""
    outlets = Outlets(bench.resolver.txt, HttpsPoster(bench.reactor, bench.resolver).post, partial(_queue, order.home))
    sender = Sender(order.home.state / FILE, outlets, bench.off_reactor, Ids().next, lambda line: print(clean(line)))
    all_done = True
    for day in order.days:
        if not await sender.ledger(partial(_begin, day, order.again)):
            print(f"{date_of(day)}: another process is at it, or ended in the middle of it less than an hour ago")
            all_done = False
            continue
        done = await sender.send(day, order.by, order.settings.me, time.time)
        await sender.ledger(partial(end_claim, day=day, finished=done))
        all_done = all_done and done
    return all_done, sender.sent


def _begin(day: int, again: bool, connection: sqlite3.Connection) -> bool:
    """The day is ours, or there is nothing to do for it."""
    if again:
        forget_done(connection, day)
    return not domains_to_report(connection, day) or claim_this_day(connection, day, time.time())


async def _queue(home: Home, id: str, envelope: Envelope, content: bytes) -> None:
    """SpoolError."""
    try:
        inject_made(home, id, envelope, content)
    except BadControl as problem:
        raise SpoolError(str(problem)) from problem
