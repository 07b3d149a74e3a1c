"""`qmtls mailbox`: the local mailboxes below HOME/mail, one Maildir for each user."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from qmtls.cli.home import Home, why
from qmtls.cli.output import DONE, FINDINGS, CommandError, Row, emit
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, Parser, add_json
from qmtls.net.mailboxes import FOLDERS
from qmtls.recipients import is_user
from qmtls.wording import counted

OURS = 0o700


def add(commands: Commands) -> None:
    below = Commands(commands.add("mailbox", "local mailboxes: add, list, remove"))
    _user(below.add("add", "make a mailbox", run=run_add, examples="  qmtls mailbox add joe"))
    listing = below.add("list", "list the mailboxes", run=run_list, examples="  qmtls mailbox list --json")
    add_json(listing)
    remove = below.add(
        "remove",
        "remove a mailbox",
        run=run_remove,
        about="Removes a mailbox. One that holds mail stays, unless --with-mail is given.",
        examples="  qmtls mailbox remove joe\n  qmtls mailbox remove joe --with-mail",
    )
    _user(remove)
    remove.add_argument("--with-mail", action="store_true", help="remove its mail too")


def _user(parser: Parser) -> None:
    parser.add_argument("user", metavar="USER", help="the part of the address before the @")


def _name(args: argparse.Namespace) -> str:
    name = str(args.user).lower()
    if not is_user(name):
        raise CommandError(
            f"{args.user!r} cannot be a mailbox: letters, digits and . _ + - only, not beginning with . + -"
        )
    return name


def run_add(args: argparse.Namespace) -> int:
    home: Home = args.home
    path = home.mail / _name(args)
    if not home.root.is_dir():
        raise CommandError(f"{home.root}: no such directory; `qmtls init` makes a home, --home names another one")
    try:
        with as_owner_of(home.mail):
            home.mail.mkdir(OURS, exist_ok=True)
            path.mkdir()
            path.chmod(OURS)  # whatever the umask says
            for folder in FOLDERS:
                (path / folder).mkdir(OURS)
    except FileExistsError:
        raise CommandError(f"{path}: exists already") from None
    except OSError as problem:
        raise CommandError(f"{path}: {why(problem)}") from None
    print(f"{path}: made; mail to {path.name}@DOMAIN is taken for every DOMAIN of control/locals")
    return DONE


def run_list(args: argparse.Namespace) -> int:
    emit(_rows(args.home), args.json, lambda row: f"{row['user']}\t{row['new']} new, {row['seen']} seen")
    return DONE


def _rows(home: Home) -> Iterator[Row]:
    try:
        for path in sorted(home.mail.iterdir()):
            if path.is_dir() and is_user(path.name):
                new, seen = (_count(path / folder) for folder in ("new", "cur"))
                yield {"user": path.name, "path": str(path), "new": new, "seen": seen}
    except OSError as problem:
        raise CommandError(f"{home.mail}: {why(problem)}") from None


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def run_remove(args: argparse.Namespace) -> int:
    home: Home = args.home
    path = home.mail / _name(args)
    if not path.is_dir():
        print(f"{path}: no such mailbox")
        return FINDINGS
    held = sum(_count(path / folder) for folder in ("new", "cur"))
    if held and not args.with_mail:
        raise CommandError(f"{path}: holds {counted(held, 'message')}; --with-mail removes its mail too")
    try:
        with as_owner_of(home.mail):
            shutil.rmtree(path)
    except OSError as problem:
        raise CommandError(f"{path}: {why(problem)}") from None
    print(f"{path}: removed")
    return DONE
