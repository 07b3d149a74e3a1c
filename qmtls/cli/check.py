"""`qmtls check`: compiles the control directory as the service would, and prints everything there is to say about it.

Exit status 1 if the service would not start with it, or if mail would wait because of it. Nothing is changed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from qmtls.cli.home import Home, why
from qmtls.cli.output import DONE, FINDINGS, Row, clean, emit
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, add_json
from qmtls.control.compile import compile_control
from qmtls.control.describe import describe, ordered
from qmtls.control.findings import Finding, FindingLevel
from qmtls.control.reach import describe_recipients
from qmtls.control.settings import ControlError, Settings
from qmtls.net.contexts import ContextError
from qmtls.net.mailboxes import Mailboxes
from qmtls.net.snapshot import make_snapshot
from qmtls.service.crosscheck import cross_check
from qmtls.service.listening import CannotServe, read_endpoint, wanted
from qmtls.service.oneshot import Bench, GaveUp, ask
from qmtls.tls.policy import Origin
from qmtls.wording import counted

DNS_SECONDS = 120.0  # for all questions together


def add(commands: Commands) -> None:
    parser = commands.add(
        "check",
        "compile the control directory and say what is wrong with it",
        run=run,
        about="Compiles the control directory. Prints every problem with file, line and mend, what each pin file\n"
        "is, and which certificates end soon. Exit status 1 if there is an error; warnings and notes are only told.",
        examples="  qmtls check\n  qmtls check --dns\n  qmtls check --control /var/qmail/control --json",
    )
    parser.add_argument("--control", metavar="DIR", type=Path, help="another directory (default: HOME/control)")
    parser.add_argument("--dns", action="store_true", help="compare pin files with MX, TLSA and MTA-STS records too")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    home: Home = args.home
    control: Path = args.control or home.control
    compiled: Settings | ControlError
    try:
        # Another directory is not this home's: neither its mailboxes nor its owner count.
        with nullcontext() if args.control else as_owner_of(home.queue):
            compiled = compile_control(control)
    except ControlError as problems:
        compiled = problems
    findings = describe(compiled, time.time())
    refused = isinstance(compiled, ControlError)
    if isinstance(compiled, Settings):
        beyond = [*_contexts(compiled), *_listeners(compiled)]
        refused = bool(beyond)
        findings = beyond + findings
        if args.dns and not refused:
            findings = ordered([*findings, *_dns(home, compiled)])
        if not args.control:
            findings = ordered([*findings, *_recipients(home, compiled)])
    emit(map(_row, findings), args.json, _text)
    errors = sum(finding.level is FindingLevel.ERROR for finding in findings)
    if not args.json:
        print(f"{control}: {_verdict(errors, refused)}")
    return FINDINGS if errors else DONE


def _recipients(home: Home, settings: Settings) -> Iterator[Finding]:
    """What only the mailboxes can say."""
    try:
        with as_owner_of(home.queue):
            users = Mailboxes(home.mail).users()
    except FileNotFoundError:
        users = frozenset()
    except OSError as problem:
        yield Finding(FindingLevel.ERROR, Origin(str(home.mail)), f"cannot be listed ({why(problem)}); its mail waits")
        return
    yield from describe_recipients(settings, users)


def _dns(home: Home, settings: Settings) -> Iterable[Finding]:
    """What only the network can say."""

    def question(bench: Bench) -> Coroutine[Any, Any, list[Finding]]:
        assert bench.witness.policies is not None
        return cross_check(settings, bench.resolver, bench.witness.policies)

    try:
        with as_owner_of(home.state):
            return ask(settings, home.state, question, DNS_SECONDS)
    except GaveUp as problem:
        return [Finding(FindingLevel.NOTE, Origin("DNS"), f"pin files were not compared with it: {problem}")]


def _contexts(settings: Settings) -> Iterator[Finding]:
    """What only OpenSSL can say."""
    try:
        make_snapshot(settings)
    except ContextError as problem:
        file, _, text = str(problem).partition(": ")
        yield Finding(FindingLevel.ERROR, Origin(file), text)


def _listeners(settings: Settings) -> Iterator[Finding]:
    """What only the service can say of `listen`; systemd's sockets are there in the service alone."""
    for listener in settings.listeners:
        try:
            wanted((), (listener,), certificate=settings.server_credential is not None)
            if "systemd:" not in listener.endpoint:
                read_endpoint(None, listener)
        except CannotServe as problem:
            text = str(problem).removeprefix(f"{listener.origin}: ")
            yield Finding(FindingLevel.ERROR, listener.origin, text)


def _verdict(errors: int, refused: bool) -> str:
    if not errors:
        return "good"
    count = counted(errors, "error")
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
