"""`qmtls sendmail`: what cron, scripts and mail readers call as /usr/sbin/sendmail.

The message comes on standard input. Exit statuses are those of sysexits.h. Anything that time may mend is
EX_TEMPFAIL: the caller keeps the message.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from qmtls.cli.addresses import BadAddress, read_path, read_sender
from qmtls.cli.compose import Draft, DraftError, read_draft, take_recipients
from qmtls.cli.home import Home, why
from qmtls.cli.inject import BadControl, Posting, inject, login_name
from qmtls.cli.output import DONE, CommandError
from qmtls.cli.parser import Commands
from qmtls.delivery.verp import owner
from qmtls.smtp.address import Address
from qmtls.spool.api import SpoolError

EX_USAGE = os.EX_USAGE  # 64
EX_DATAERR = os.EX_DATAERR  # 65
EX_NOUSER = os.EX_NOUSER  # 67
EX_CANTCREAT = os.EX_CANTCREAT  # 73
EX_TEMPFAIL = os.EX_TEMPFAIL  # 75
EX_CONFIG = os.EX_CONFIG  # 78


def add(commands: Commands) -> None:
    parser = commands.add(
        "sendmail",
        "the same, as programs expect of /usr/sbin/sendmail",
        run=run,
        about="Reads a message from standard input and queues it. A line with only a dot ends it, unless -i is given.\n"
        "Exit status: 0 queued, 64 usage, 65 bad message, 67 bad address, 73 no right to the queue, 75 try again,\n"
        "78 no usable home.",
        examples="  qmtls sendmail -i -f joe@here.example -- ann@there.example <letter.eml\n"
        "  qmtls sendmail -t <letter.eml",
    )
    parser.usage_status = EX_USAGE
    parser.add_argument("-f", "-r", dest="sender", metavar="ADDR", help="reverse-path; '<>' or '' is the null one")
    parser.add_argument(
        "-F", dest="full_name", metavar="NAME", default="", help="the author's name, if From is missing"
    )
    parser.add_argument("-t", dest="from_header", action="store_true", help="recipients from To, Cc, Bcc; drops Bcc")
    parser.add_argument("-i", dest="dots", action="store_true", help="a line with only a dot does not end the message")
    parser.add_argument(
        "-o", dest="options", metavar="X", action="append", default=[], help="-oi is -i; others: no effect"
    )
    parser.add_argument("-b", dest="mode", metavar="X", default="m", help="only -bm, to queue a message, is known")
    parser.add_argument("-B", dest="body", metavar="TYPE", help="no effect: the content is looked at")
    parser.add_argument("recipients", metavar="RECIPIENT", nargs="*")


def run(args: argparse.Namespace) -> int:
    if args.mode != "m":
        args.parser.error(f"-b{args.mode} is not known here")
    if not args.recipients and not args.from_header:
        args.parser.error("no recipient: name some, or give -t")
    home: Home = args.home
    me, host = _names(home)
    sender, given = _addresses(args, me, host)
    try:
        draft = read_draft(sys.stdin.buffer, dot_ends=not (args.dots or "i" in args.options))
        recipients = [*given, *(_from_header(draft, host) if args.from_header else ())]
    except DraftError as problem:
        _fail(EX_DATAERR, str(problem))
    except OSError as problem:
        _fail(EX_TEMPFAIL, f"reading the message: {why(problem)}")
    if not recipients:
        _fail(EX_NOUSER, "the message names no recipient")
    author = str(owner(sender) if sender else f"{login_name()}@{me}")
    _queue(home, draft, Posting(sender, recipients, author, args.full_name))
    return DONE


def _names(home: Home) -> tuple[str, str]:
    """This host, and the domain of recipients without one."""
    try:
        return home.me(), home.default_host()
    except CommandError as problem:
        _fail(EX_CONFIG, str(problem))


def _addresses(args: argparse.Namespace, me: str, host: str) -> tuple[Address | None, Sequence[Address]]:
    try:
        sender = read_sender(login_name() if args.sender is None else args.sender, me)
        return sender, [read_path(text, host) for text in args.recipients]
    except BadAddress as problem:
        _fail(EX_NOUSER, str(problem))


def _from_header(draft: Draft, host: str) -> list[Address]:
    try:
        return [read_path(text, host) for text in take_recipients(draft)]
    except BadAddress as problem:
        raise DraftError(str(problem)) from None


def _queue(home: Home, draft: Draft, posting: Posting) -> None:
    try:
        inject(home, draft, posting)
    except BadControl as problem:  # somebody is mending it
        _fail(EX_TEMPFAIL, f"not queued: {problem}")
    except (SpoolError, OSError) as problem:
        cause = problem.__cause__ if isinstance(problem, SpoolError) else problem
        cannot = isinstance(cause, PermissionError | FileNotFoundError | NotADirectoryError)
        _fail(EX_CANTCREAT if cannot else EX_TEMPFAIL, f"not queued: {problem}")


def _fail(status: int, sentence: str) -> NoReturn:
    raise CommandError(sentence, status)
