"""`qmtls`: the command line, from arguments to exit status.

Each command is a module with `add`, which describes its arguments and names the function that runs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from qmtls import __version__
from qmtls.cli.home import DEFAULT, Home, default_home, moved, why
from qmtls.cli.output import FINDINGS, CommandError, nobody_reads
from qmtls.cli.parser import Commands, Parser

COMMANDS = (
    "init",
    "check",
    "cert",
    "send",
    "sendmail",
    "queue",
    "mailbox",
    "clients",
    "user",
    "dkim",
    "tlsrpt",
    "import",
    "probe",
    "policy",
)
OTHER_NAMES = {"sendmail": ("sendmail",), "mailq": ("sendmail", "-bp"), "newaliases": ("sendmail", "-bi")}
MODULES = {"import": "imports"}  # of commands whose name is a word of Python's

_ABOUT = "Administers a qmtls home: its certificates, its mailboxes, its queue. The service itself is `twistd qmtls`."
_EPILOG = """exit status: 0 done, 1 findings or not found, 2 usage (sendmail: those of sysexits.h)
`qmtls COMMAND --help` has examples."""


def build_parser(names: Sequence[str] = COMMANDS) -> Parser:
    """The parser for these commands; their modules are imported."""
    parser = Parser(
        prog="qmtls",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"qmtls {__version__}")
    _add_home(parser)
    commands = Commands(parser)
    for name in names:
        import_module(f"qmtls.cli.{MODULES.get(name, name)}").add(commands)
    return parser


def _add_home(parser: Parser) -> None:
    parser.add_argument(
        "--home", metavar="DIR", default=default_home(), help=f"home directory (default: $QMTLS_HOME, else {DEFAULT})"
    )
    for part in ("control", "queue", "state"):
        parser.add_argument(f"--{part}", dest=f"moved_{part}", metavar="DIR", help=f"where not HOME/{part}")


def _named(argv: Sequence[str] | None) -> Sequence[str]:
    """Only the command that is named, if one is: sendmail, run for each mail of a script, should start fast."""
    first = Parser(prog="qmtls", add_help=False, allow_abbrev=False)
    _add_home(first)
    rest = first.parse_known_args(argv)[1]
    return rest[:1] if rest and rest[0] in COMMANDS else COMMANDS


def _take_any_letter() -> None:
    """A listing must not end at an address that the locale has no letters for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit status; only wrong usage and --help exit by themselves."""
    _take_any_letter()
    if argv is None:
        argv = [*OTHER_NAMES.get(Path(sys.argv[0]).name, ()), *sys.argv[1:]]
    args, rest = build_parser(_named(argv)).parse_known_args(argv)
    if rest:
        args.parser.error(f"unknown: {' '.join(rest)}")
    parts = (moved(args.moved_control), moved(args.moved_queue), moved(args.moved_state))
    args.home = Home(Path(args.home).absolute(), *parts)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except CommandError as problem:
        print(f"{args.parser.prog}: {problem}", file=sys.stderr)
        return problem.status
    except OSError as problem:
        if not isinstance(problem, BrokenPipeError):  # `qmtls queue list | head`
            where = problem.filename or "standard output"
            print(f"{args.parser.prog}: {where}: {why(problem)}", file=sys.stderr)
        nobody_reads()
        return FINDINGS
    except KeyboardInterrupt:
        return FINDINGS


if __name__ == "__main__":
    sys.exit(main())
