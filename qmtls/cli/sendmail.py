"""`qmtls sendmail`: what cron, scripts and mail readers call as /usr/sbin/sendmail, mailq and newaliases.

The message comes on standard input, or a whole SMTP session with `-bs`. Exit statuses are those of sysexits.h. Anything
that time may mend is EX_TEMPFAIL: the caller keeps the message.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from qmtls.cli.addresses import BadAddress, read_path, read_sender
from qmtls.cli.compose import Draft, DraftError, read_draft, take_recipients
from qmtls.cli.home import Home, why
from qmtls.cli.inject import BadControl, Posting, inject, login_name
from qmtls.cli.output import DONE, CommandError
from qmtls.cli.parser import Commands, Parser
from qmtls.delivery.verp import owner
from qmtls.smtp.address import Address
from qmtls.smtp.xtext import encode_xtext
from qmtls.spool.api import SpoolError

EX_USAGE = os.EX_USAGE  # 64
EX_DATAERR = os.EX_DATAERR  # 65
EX_NOUSER = os.EX_NOUSER  # 67
EX_CANTCREAT = os.EX_CANTCREAT  # 73
EX_TEMPFAIL = os.EX_TEMPFAIL  # 75
EX_CONFIG = os.EX_CONFIG  # 78

NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
RET = {"FULL": "FULL", "HDRS": "HDRS", "HEADERS": "HDRS"}
MOST_ENVID = 100  # characters before they are encoded: RFC 3461 section 4.4
_INTERVAL = re.compile(r"([0-9]+[smhdw]?)+")
_MODES = frozenset("mspi")


def add(commands: Commands) -> None:
    parser = commands.add(
        "sendmail",
        "the same, as programs expect of /usr/sbin/sendmail",
        run=run,
        about="Reads a message from standard input and queues it. A line with only a dot ends it, unless -i is given.\n"
        "Exit status: 0 queued, 64 usage, 65 bad message, 67 bad address, 73 no right to the queue, 75 try again,\n"
        "78 no usable home. Called by the names sendmail, mailq or newaliases it does as they do.",
        examples="  qmtls sendmail -i -f joe@here.example -- ann@there.example <letter.eml\n"
        "  qmtls sendmail -t -N never <letter.eml\n  qmtls sendmail -bp\n  qmtls sendmail -q",
    )
    parser.usage_status = EX_USAGE
    _add_message(parser)
    _add_modes(parser)
    _add_without_effect(parser)
    parser.add_argument("recipients", metavar="RECIPIENT", nargs="*")


def _add_message(parser: Parser) -> None:
    add = parser.add_argument
    add("-f", "-r", dest="sender", metavar="ADDR", help="reverse-path; '<>' or '' is the null one")
    add("-F", dest="full_name", metavar="NAME", default="", help="the author's name, if From is missing")
    add("-t", dest="from_header", action="store_true", help="recipients from To, Cc, Bcc; drops Bcc")
    add("-i", dest="dots", action="store_true", help="a line with only a dot does not end the message")
    add("-N", dest="notify", metavar="WHEN", help="DSN: never, or some of success,failure,delay")
    add("-R", dest="ret", metavar="WHAT", help="DSN: full or hdrs come back")
    add("-V", dest="envid", metavar="ID", help="DSN: told in reports")


def _add_modes(parser: Parser) -> None:
    mode = "-bm queue a message, -bs speak SMTP, -bp list the queue, -bi nothing: aliases need no database"
    parser.add_argument("-b", dest="mode", metavar="X", default="m", help=mode)
    flush = "make waiting mail due: all, IID a message, SADDR of a sender, RADDR for a recipient or domain"
    parser.add_argument("-q", dest="flush", metavar="WHAT", nargs="?", const="", help=flush)


def _add_without_effect(parser: Parser) -> None:
    options = "-oi is -i; others: no effect"
    parser.add_argument("-o", dest="options", metavar="X", action="append", default=[], help=options)
    parser.add_argument("-O", dest="settings", metavar="NAME=VALUE", action="append", default=[], help="no effect")
    for flag in "BACDLMXep":
        parser.add_argument(f"-{flag}", metavar="X", dest=f"no_{flag}", help=argparse.SUPPRESS)
    for flag in "GUmnsvx":
        parser.add_argument(f"-{flag}", action="store_true", dest=f"no_{flag}", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if args.mode not in _MODES:
        args.parser.error(f"-b{args.mode} is not known here; the service itself is twistd qmtls")
    for setting in args.settings:
        if "=" not in setting:
            args.parser.error(f"-O {setting}: write NAME=VALUE")
    if args.flush is not None:
        return _queue_command(args.home, _flush(args), quiet=True)
    match args.mode:
        case "i":
            return DONE
        case "p":
            return _queue_command(args.home, ["list"], quiet=False)
        case "s":
            return _speak(args.home)
        case _:
            return _submit(args)


# ------------------------------------------------------------ a message


def _submit(args: argparse.Namespace) -> int:
    if not args.recipients and not args.from_header:
        args.parser.error("no recipient: name some, or give -t")
    parameters, notify = _dsn(args)
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
    posting = Posting(sender, recipients, author, args.full_name, parameters=parameters, notify=notify)
    _queue(home, draft, posting)
    return DONE


def _dsn(args: argparse.Namespace) -> tuple[tuple[tuple[str, str], ...], str]:
    """The parameters of MAIL, and NOTIFY of each RCPT ("" = not asked for), as RFC 3461 has them."""
    parameters = []
    if args.ret is not None:
        if args.ret.upper() not in RET:
            args.parser.error(f"-R {args.ret}: write full or hdrs")
        parameters.append(("RET", RET[args.ret.upper()]))
    if args.envid is not None:
        if not (args.envid.isascii() and args.envid.isprintable() and 0 < len(args.envid) <= MOST_ENVID):
            args.parser.error(f"-V: write up to {MOST_ENVID} printable ASCII characters")
        parameters.append(("ENVID", encode_xtext(args.envid)))
    notify = (args.notify or "").upper()
    words = notify.split(",")
    if (
        args.notify is not None
        and notify != "NEVER"
        and not (NOTIFY.issuperset(words) and len(set(words)) == len(words))
    ):
        args.parser.error(f"-N {args.notify}: write never, or some of success,failure,delay with commas")
    return tuple(parameters), notify


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
        _fail(_status(problem), f"not queued: {problem}")


def _status(problem: SpoolError | OSError) -> int:
    cause = problem.__cause__ if isinstance(problem, SpoolError) else problem
    cannot = isinstance(cause, PermissionError | FileNotFoundError | NotADirectoryError)
    return EX_CANTCREAT if cannot else EX_TEMPFAIL


# ------------------------------------------------------------ the other modes


def _speak(home: Home) -> int:
    """`-bs`: loaded only then, with all that a session needs."""
    _names(home)
    try:
        import_module("qmtls.cli.stdinsmtp").serve(home)
    except (SpoolError, OSError) as problem:
        _fail(_status(problem), str(problem))
    return DONE


def _flush(args: argparse.Namespace) -> list[str]:
    """`-q` as a command of `qmtls queue`."""
    parser: Parser = args.parser
    what = args.flush
    if _INTERVAL.fullmatch(what):
        parser.error(f"-q{what}: the service looks after its queue by itself; start it with twistd qmtls")
    retry = ["retry", "--yes", "--state", "waiting"]
    if not what:
        return retry
    kind, value = what[0], what[1:]
    if kind == "I" and value:
        return ["retry", "--", value]
    if kind not in "RS" or not value:
        parser.error(f"-q{what} is not known here; write -q, -qIID, -qRADDR or -qSADDR")
    if kind == "R":
        return [*retry, f"--to={value}" if "@" in value else f"--domain={value}"]
    return [*retry, f"--from={value}" if "@" in value or value == "<>" else f"--from=@{value}"]


def _queue_command(home: Home, words: list[str], *, quiet: bool) -> int:
    """As `qmtls queue` does it. Nothing to flush is no failure."""
    try:
        args = import_module("qmtls.cli.main").build_parser(("queue",)).parse_args(["queue", *words])
    except SystemExit:  # it said what is no domain or address
        raise SystemExit(EX_USAGE) from None
    args.home = home
    if not quiet:
        return int(args.run(args))
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        args.run(args)
    return DONE


def _fail(status: int, sentence: str) -> NoReturn:
    raise CommandError(sentence, status)
