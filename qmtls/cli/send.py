"""`qmtls send`: one message into the queue, from a file or from standard input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO

from qmtls.cli.addresses import BadAddress, read_path, read_sender
from qmtls.cli.compose import DraftError, read_draft
from qmtls.cli.home import Home, why
from qmtls.cli.inject import BadControl, Posting, inject
from qmtls.cli.output import DONE, CommandError
from qmtls.cli.parser import Commands
from qmtls.delivery.verp import owner
from qmtls.spool.api import SpoolError


def add(commands: Commands) -> None:
    parser = commands.add(
        "send",
        "put a message into the queue",
        run=run,
        about="Puts a message from FILE or standard input into the queue and prints its queue id. From, To, Date and\n"
        "Message-ID are added where they are missing. Works while the service is down.",
        examples="  echo hello | qmtls send --from joe@here.example --to ann@there.example --subject Hi\n"
        "  qmtls send --from joe@here.example --to ann@there.example --to bob@there.example letter.eml",
    )
    parser.add_argument("--from", dest="sender", metavar="ADDR", required=True, help="'<>' is the null reverse-path")
    parser.add_argument("--to", metavar="ADDR", action="append", required=True, help="a recipient; repeatable")
    parser.add_argument("--subject", help="used if the message has none")
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="the message (default: standard input)")


def run(args: argparse.Namespace) -> int:
    home: Home = args.home
    me = home.me()
    try:
        sender = read_sender(args.sender, me)
        recipients = [read_path(text, home.default_host()) for text in args.to]
    except BadAddress as problem:
        args.parser.error(str(problem))
    posting = Posting(
        sender,
        recipients,
        str(owner(sender) if sender else f"postmaster@{me}"),
        subject=args.subject,
        to=[str(path) for path in recipients],
    )
    try:
        if args.file is None:
            id = _queue(home, sys.stdin.buffer, posting)
        else:
            with args.file.open("rb") as file:
                id = _queue(home, file, posting)
    except OSError as problem:
        raise CommandError(f"{problem.filename or args.file}: {why(problem)}") from None
    except (BadControl, DraftError, SpoolError) as problem:
        raise CommandError(f"not queued: {problem}") from None
    print(id)
    return DONE


def _queue(home: Home, stream: BinaryIO, posting: Posting) -> str:
    return inject(home, read_draft(stream), posting)
