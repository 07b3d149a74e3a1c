"""`qmtls user`: who may log in with a password: the lines of control/users.

A password comes from the terminal, or from standard input where that is none; never from an argument, which other
users of the host can see. The file is replaced as a whole, so the service never reads half of it, and what is in
it stays: comments, and lines of others.
"""

from __future__ import annotations

import argparse
import fcntl
import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qmtls.cli.home import Home, why
from qmtls.cli.output import DONE, FINDINGS, CommandError, Row, emit
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, Parser, add_json
from qmtls.cli.pem import replace, write
from qmtls.control.lists import BadValueError
from qmtls.control.scopes import read_scope
from qmtls.control.users import FILE, user_name
from qmtls.net.passwords import make_hash

MODE = 0o640  # as the keys: the service may be in the owner's group
LEAST_PASSWORD = 8  # characters; NIST SP 800-63B
MOST_PASSWORD = 255  # octets; RFC 4616 section 2 wants as many to be taken


def add(commands: Commands) -> None:
    below = Commands(commands.add("user", "who may log in with a password: add, list, remove"))
    adding = below.add(
        "add",
        "add a user, or change one",
        run=run_add,
        about="Adds a user who may log in with a password under TLS (AUTH PLAIN, LOGIN), and relay within\n"
        "the scope. The password is asked for; without a terminal it is the first line of standard input.",
        examples="  qmtls user add joe\n  qmtls user add joe@example.org from=@example.org rate=100/h\n"
        "  pwgen 20 1 | qmtls user add printer to=@example.org",
    )
    _user(adding)
    adding.add_argument(
        "scope", metavar="SCOPE", nargs="*", help="from= to= rate= size= until= label=, as in tlsclients"
    )
    adding.add_argument("--replace", action="store_true", help="the user may exist: new password and new scope")
    listing = below.add("list", "list the users", run=run_list, examples="  qmtls user list --json")
    add_json(listing)
    remove = below.add("remove", "remove a user", run=run_remove, examples="  qmtls user remove joe")
    _user(remove)


def _user(parser: Parser) -> None:
    parser.add_argument("user", metavar="USER", help="the name to log in with; may be an address")


def run_add(args: argparse.Namespace) -> int:
    path = _path(args.home)
    try:
        name = user_name(args.user)
        read_scope(args.scope)
    except BadValueError as bad:
        raise CommandError(str(bad)) from None
    if not args.replace and _places(_read(path), name):
        raise _exists(path, name)
    line = " ".join((name, make_hash(_password(name)), *args.scope))
    with _changing(path) as lines:
        places = _places(lines, name)
        if places and not args.replace:
            raise _exists(path, name)
        place = places[0] if places else len(lines)
        lines[place : place + 1] = [line]
    print(f"{path}: {name} {'changed' if places else 'added'}; AUTH is offered under TLS")
    return DONE


def _exists(path: Path, name: str) -> CommandError:
    return CommandError(f"{path}: {name} exists already; --replace gives a new password and scope")


def run_list(args: argparse.Namespace) -> int:
    emit(_rows(_read(_path(args.home))), args.json, lambda row: f"{row['user']}\t{row['scope']}".rstrip())
    return DONE


def _rows(lines: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and not line.startswith("#"):
            yield {"user": words[0].lower(), "scope": " ".join(words[2:]), "line": number}


def run_remove(args: argparse.Namespace) -> int:
    path = _path(args.home)
    name = str(args.user).lower()
    if not _places(_read(path), name):
        print(f"{path}: no such user")
        return FINDINGS
    with _changing(path) as lines:
        for place in reversed(_places(lines, name)):
            del lines[place]
    print(f"{path}: {name} removed")
    return DONE


def _path(home: Home) -> Path:
    if not home.control.is_dir():
        raise CommandError(f"{home.control}: no such directory; `qmtls init` makes a home, --home names another one")
    return home.control / FILE


def _password(name: str) -> str:
    if sys.stdin.isatty():
        password = getpass.getpass(f"New password for {name}: ")
        if getpass.getpass("Again: ") != password:
            raise CommandError("the two are not the same; nothing was changed")
    else:
        try:
            password = sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise CommandError("the password is no UTF-8, as which mail programs send it") from None
    if not len(password) >= LEAST_PASSWORD or len(password.encode("utf-8", "surrogatepass")) > MOST_PASSWORD:
        raise CommandError(f"a password has {LEAST_PASSWORD} characters at least and {MOST_PASSWORD} octets at most")
    if not password.isprintable():
        raise CommandError("a password cannot have control characters in it")
    return password


def _places(lines: Sequence[str], name: str) -> list[int]:
    return [place for place, line in enumerate(lines) if line.lower().split(None, 1)[:1] == [name]]


def _read(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as problem:
        raise CommandError(f"{path}: {why(problem)}") from None


@contextmanager
def _changing(path: Path) -> Iterator[list[str]]:
    """The lines of the file, to be changed in place; written when the block ends well. One command at a time."""
    try:
        with as_owner_of(path.parent):
            lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                lines = _read(path)
                yield lines
                _write(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
            finally:
                os.close(lock)
    except OSError as problem:
        raise CommandError(f"{path}: {why(problem)}") from None


def _write(path: Path, data: bytes) -> None:
    if not path.exists():
        write(path, data, MODE)
        return
    path.chmod(path.stat().st_mode & 0o770)  # a file that others could read would not be taken
    replace(path, data)
