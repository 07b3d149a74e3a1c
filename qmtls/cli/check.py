"""`qmtls check`: compiles the control directory as the service would, and prints everything there is to say about it.

Exit status 1 if the service would not start with it, or if mail would wait because of it. Nothing is changed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from qmtls.cli.home import Home
from qmtls.cli.output import DONE, FINDINGS, Row, clean, emit
from qmtls.cli.parser import Commands, add_json
from qmtls.control.compile import compile_control
from qmtls.control.describe import Finding, FindingLevel, describe
from qmtls.control.settings import ControlError, Settings


def add(commands: Commands) -> None:
    parser = commands.add(
        "check",
        "compile the control directory and say what is wrong with it",
        run=run,
        about="Compiles the control directory. Prints every problem with file, line and mend, what each pin file\n"
        "is, and which certificates end soon. Exit status 1 if there is an error; warnings and notes are only told.",
        examples="  qmtls check\n  qmtls check --control /var/qmail/control --json",
    )
    parser.add_argument("--control", metavar="DIR", type=Path, help="another directory (default: HOME/control)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    home: Home = args.home
    control: Path = args.control or home.control
    compiled: Settings | ControlError
    try:
        # Another directory is not this home's: its mailboxes are not looked at.
        compiled = compile_control(control, home=None if args.control else home.root)
    except ControlError as problems:
        compiled = problems
    findings = describe(compiled, time.time())
    emit(map(_row, findings), args.json, _text)
    errors = sum(finding.level is FindingLevel.ERROR for finding in findings)
    if not args.json:
        print(f"{control}: {_verdict(errors, isinstance(compiled, ControlError))}")
    return FINDINGS if errors else DONE


def _verdict(errors: int, refused: bool) -> str:
    if not errors:
        return "good"
    count = f"{errors} error{'s' if errors > 1 else ''}"
    return f"{count}; the service does not start with this, and does not reload it" if refused else count


def _text(row: Row) -> str:
    place = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
    return clean(f"{row['level']}: {place}: {row['text']}")


def _row(finding: Finding) -> Row:
    return {
        "level": finding.level.value,
        "file": finding.origin.file,
        "line": finding.origin.line,
        "text": finding.text,
    }
