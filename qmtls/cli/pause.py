"""`qmtls queue pause` and `resume`: lines of `control/holds` that keep mail back from one destination.

A running service reads the file again within a second or two; one that starts reads it then.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from qmtls.cli.home import Home
from qmtls.cli.output import DONE, FINDINGS, CommandError, clean, emit, one_sentence
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, Parser, add_json
from qmtls.delivery.holds import Hold, Holds
from qmtls.tls.policy import Origin

HOLDS = "holds"


def add(below: Commands) -> list[Parser]:
    """The commands, below `qmtls queue`."""
    pause = below.add(
        "pause",
        "take no mail to a destination, until it is resumed",
        run=run_pause,
        about="Mail for the recipients' domain, or through the host, of that name stays in the queue; new mail is\n"
        "taken. Without a name: the lines of control/holds.",
        examples='  qmtls queue pause example.org --until 2027-01-31 --reason "they move"\n  qmtls queue pause',
    )
    resume = below.add(
        "resume",
        "take mail to a paused destination again, at once",
        run=run_resume,
        examples="  qmtls queue resume example.org",
    )
    pause.add_argument("destination", metavar="DOMAIN|HOST", nargs="?")
    pause.add_argument("--until", metavar="DATE", help="to the end of this day, UTC: 2027-01-31")
    pause.add_argument("--reason", metavar="TEXT", help="shown wherever mail is said to wait")
    add_json(pause)
    resume.add_argument("destination", metavar="DOMAIN|HOST")
    return [pause, resume]


def standing(home: Home, trouble: Callable[[str], None]) -> Holds:
    """The rules of the file, if there is one. A service with one that cannot be used keeps to those it had."""
    if not (home.control / HOLDS).exists():
        return Holds()  # and nothing is loaded that takes time
    control = import_module("qmtls.control.holds")
    try:
        with as_owner_of(home.queue):
            found: Holds = control.load_holds(home.control)
            return found
    except import_module("qmtls.control.settings").ControlError as problems:
        trouble(f"standing holds are not shown: {problems}")
        return Holds()


def run_pause(args: argparse.Namespace) -> int:
    home: Home = args.home
    if args.destination is None:
        return _list(home, args.json)
    words = [f"destination={args.destination}"]
    if args.until:
        words.append(f"until={args.until}")
    if args.reason:
        plain = one_sentence(args.reason.replace('"', "'").replace("\\", "/"))
        words.append(f'reason="{plain}"')
    new = " ".join(words)
    hold = _asked(args, new)
    if hold.until <= time.time():
        args.parser.error(f"{args.until} has passed")
    with _changing(home) as lines:
        lines[:] = [line for line in lines if not _pauses(line, hold.destination)]
        lines.append(new)
    print(f"{home.control / HOLDS}: {clean(new)}")
    return DONE


def run_resume(args: argparse.Namespace) -> int:
    home: Home = args.home
    wanted = _asked(args, f"destination={args.destination}")
    with _changing(home) as lines:
        found = [line for line in lines if _pauses(line, wanted.destination)]
        lines[:] = [line for line in lines if line not in found]
    for line in found:
        print(f"{home.control / HOLDS}: {clean(line)}: removed")
    if not found:
        print(f"{home.control / HOLDS}: {wanted.destination} is not paused")
        return FINDINGS
    return DONE


def _list(home: Home, as_json: bool) -> int:
    def unusable(line: str) -> None:
        raise CommandError(line)

    rules = standing(home, unusable).rules
    emit(
        ({"line": rule.origin.line, "rule": rule.text, "reason": rule.reason} for rule in rules),
        as_json,
        lambda row: clean(f"{HOLDS}:{row['line']}: {row['rule']}" + (f"  {row['reason']}" if row["reason"] else "")),
    )
    return DONE


def _asked(args: argparse.Namespace, line: str) -> Hold:
    """The rule that the arguments make; wrong usage if they make none."""
    try:
        return _read_line(line)
    except ValueError as problem:
        args.parser.error(str(problem))
        raise  # it has ended


def _read_line(line: str) -> Hold:
    """BadValueError, which is a ValueError."""
    control, lists = import_module("qmtls.control.holds"), import_module("qmtls.control.lists")
    found: Hold = control.read_hold(lists.Line(line.rstrip(), Origin(f"control/{HOLDS}")))
    return found


def _pauses(line: str, destination: str) -> bool:
    if line.startswith("#") or not line.strip():
        return False
    try:
        return _read_line(line).destination == destination
    except ValueError:
        return False


@contextmanager
def _changing(home: Home) -> Iterator[list[str]]:
    """The lines of the file, to be changed in place. One command at a time."""
    pem = import_module("qmtls.cli.pem")
    path: Path = home.control / HOLDS
    with as_owner_of(home.control), pem.alone_in(home.control.resolve()):
        before = pem.read(path).decode("utf-8", "surrogateescape").splitlines() if path.exists() else []
        lines = list(before)
        yield lines
        if lines != before:
            pem.replace(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
