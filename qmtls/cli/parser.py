"""The command line as argparse sees it: one place for help layout, examples and the status of wrong usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from qmtls.cli.output import USAGE

MAX_DAYS = 3650

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser that exits with `usage_status` on wrong usage (`sendmail` has its own) and keeps examples as written."""

    usage_status = USAGE

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.usage_status, f"{self.prog}: {message}\n")


class Commands:
    """The commands below one parser. Not `required`: the parser does something without one, too."""

    def __init__(self, parser: Parser, title: str = "commands", *, required: bool = True) -> None:
        parser.set_defaults(parser=parser)
        self._below = parser.add_subparsers(title=title, metavar="COMMAND", required=required, parser_class=Parser)

    def add(self, name: str, summary: str, *, run: Run | None = None, about: str = "", examples: str = "") -> Parser:
        """A command: `summary` for the list of commands, `about` and `examples` for its own --help.

        `run` gets the parsed arguments (`args.home` is a Home) and returns the exit status;
        a command with commands of its own has none.
        """
        parser = self._below.add_parser(
            name,
            help=summary,
            description=about or summary[0].upper() + summary[1:] + ".",
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if run:
            parser.set_defaults(run=run, parser=parser)
        return parser


def add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def days(text: str) -> int:
    """An argument: for how many days something that is signed is valid."""
    number = int(text)
    if not 0 < number <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"between 1 and {MAX_DAYS}")
    return number
