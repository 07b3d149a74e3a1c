"""`qmtls import`: policy tables and control directories of other mail servers become control files.

For each line of input it says what the other server does by it, what ours does, and the control line, or why there is
none and what to do instead. Nothing is written without --write, and nothing at all unless the result compiles.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qmtls.cli.foreign.mapping import Fate, Report, Row
from qmtls.cli.foreign.postfix import import_postfix
from qmtls.cli.foreign.postfix_model import SMTP_TRANSPORTS, Postfix
from qmtls.cli.foreign.proof import Compared, Peer, compare, read_peers
from qmtls.cli.foreign.qmail import checked, import_qmail
from qmtls.cli.foreign.sqmail import import_sqmail
from qmtls.cli.foreign.writing import Plan, plan, would_be, write_all
from qmtls.cli.home import Home
from qmtls.cli.output import DONE, FINDINGS, clean, emit
from qmtls.cli.output import Row as OutputRow
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, Parser, add_json
from qmtls.control.settings import ControlError, Settings
from qmtls.tls.names import is_host_name
from qmtls.tls.policy import Origin

OTHERS = "all-others.invalid"  # stands for every domain that no table names

_WRITE = """
Prints for each line what the other server does by it, what this one does, and the control line. With --write the
lines are added to the control files: nothing that is there is taken away, a file that changes is kept as
NAME.DATE~ beside it, and nothing is written unless the result compiles. Exit status 1 if something could not be carried
as it is."""


def add(commands: Commands) -> None:
    below = Commands(commands.add("import", "bring in the policies of Postfix, s/qmail or qmail"))
    postfix = below.add(
        "postfix",
        "main.cf, TLS policy tables, transport_maps, relay_clientcerts",
        run=run_postfix,
        about="FILE is a main.cf (its tables are read too), or the text of a table: smtp_tls_policy_maps,\n"
        "transport_maps, relay_clientcerts; which one is seen by its lines. Postfix need not be installed." + _WRITE,
        examples="  qmtls import postfix /etc/postfix/main.cf\n"
        "  qmtls import postfix /etc/postfix/tls_policy --peers peers.txt --write",
    )
    postfix.add_argument(
        "--peers", metavar="FILE", type=Path, help="lines of DOMAIN [MX-HOST]: compare both servers' decisions for them"
    )
    sqmail = below.add(
        "sqmail",
        "s/qmail's control directory, tlsdestinations, domaincerts",
        run=run_sqmail,
        about="FILE is s/qmail's control directory, or its tlsdestinations or domaincerts." + _WRITE,
        examples="  qmtls import sqmail /var/qmail/control/tlsdestinations",
    )
    qmail = below.add(
        "qmail",
        "a control directory of qmail's, with or without the TLS patch",
        run=run_qmail,
        about="FILE is the control directory: it works as it is, and is checked and copied." + _WRITE,
        examples="  qmtls import qmail /var/qmail/control --control /var/qmtls/control --write",
    )
    for parser in (postfix, sqmail, qmail):
        _add_common(parser)


def _add_common(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--control", metavar="DIR", type=Path, help="into this directory (default: HOME/control)")
    parser.add_argument("--write", action="store_true", help="write the control files")
    add_json(parser)


def run_postfix(args: argparse.Namespace) -> int:
    given = read_peers(args.peers) if args.peers else []
    control = _control(args)
    report, postfix = import_postfix(args.files, control)
    return _finish(args, report, lambda settings: _proof(postfix, settings, given))


def run_sqmail(args: argparse.Namespace) -> int:
    return _finish(args, import_sqmail(args.files, _control(args)))


def run_qmail(args: argparse.Namespace) -> int:
    if len(args.files) > 1:
        args.parser.error("name one control directory")
    report = import_qmail(args.files[0])
    if _control(args).resolve() == args.files[0].resolve():
        report.copies.clear()  # it is used where it is

    def check(settings: Settings) -> list[Compared]:
        checked(settings, report, time.time())
        return []

    return _finish(args, report, check)


def _control(args: argparse.Namespace) -> Path:
    home: Home = args.home
    return (args.control or home.control).absolute()


# ------------------------------------------------------------ the result, compiled and written


def _finish(
    args: argparse.Namespace, report: Report, look: Callable[[Settings], list[Compared]] = lambda settings: []
) -> int:
    """Compiles what would be, prints everything, writes it if that was asked for."""
    control = _control(args)
    source = ", ".join(str(path) for path in args.files)
    wanted = plan(control, report.written, report.copies, source)
    _tell_conflicts(wanted, report)
    problem: ControlError | None = None
    compared: list[Compared] = []
    try:
        settings = would_be(control, wanted.files, placeholder=not args.write)
        compared = look(settings)
    except ControlError as error:
        problem = error
        for one in error.problems:
            report.refuse(one.origin, "the control directory as it would be", f"{one.what}; {one.mend}")
    shown = compared if getattr(args, "peers", None) else [one for one in compared if not one.equal]
    emit(map(_line_row, report.rows), args.json, _line_text)
    emit(map(_peer_row, shown), args.json, _peer_text)
    findings = report.has_findings or not all(one.equal for one in compared)
    if problem is not None:
        if not args.json:
            print(f"{control}: nothing written: it would not compile")
        return FINDINGS
    if args.write:
        _write(args, control, wanted)
    if not args.json:
        print(_summary(args, control, report, wanted, compared))
    return FINDINGS if findings else DONE


def _tell_conflicts(wanted: Plan, report: Report) -> None:
    for conflict in wanted.conflicts:
        place = Origin(f"control/{conflict.line.file}", conflict.number)
        problem = f"not written: {place} says already: {conflict.there}; remove one of the two"
        report.refuse(place, str(conflict.line), problem)


def _write(args: argparse.Namespace, control: Path, wanted: Plan) -> None:
    date = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    with as_owner_of(control):
        for name, backup in write_all(control, wanted.files, date):
            row = {"kind": "file", "file": name, "backup": backup or None}
            emit([row], args.json, _file_text)


def _file_text(row: OutputRow) -> str:
    if row["backup"]:
        return f"control/{row['file']}: changed; as it was before: control/{row['backup']}"
    return f"control/{row['file']}: new"


def _summary(
    args: argparse.Namespace, control: Path, report: Report, wanted: Plan, compared: Sequence[Compared]
) -> str:
    counts = [f"{sum(row.fate is fate for row in report.rows)} {fate.value}" for fate in Fate]
    text = f"{control}: {', '.join(counts)}"
    if compared:
        text += f"; {sum(one.equal for one in compared)} of {len(compared)} peers with equal decisions"
    if wanted.files and not args.write:
        text += "; nothing written, --write does that"
    return text


# ------------------------------------------------------------ both servers on the same peers


def _proof(postfix: Postfix, settings: Settings, given: Sequence[Peer]) -> list[Compared]:
    """The peers that were given, and one for each key of the tables."""
    return list(compare(postfix.decide, settings, [*given, *_known(postfix)]))


def _known(postfix: Postfix) -> Iterator[Peer]:
    for key in (*postfix.policies, *postfix.transports):
        domain = f"any{key}" if key.startswith(".") else key
        if is_host_name(domain) and postfix.route(domain)[0] in SMTP_TRANSPORTS:
            yield Peer(domain, domain)
    if postfix.main.known and postfix.route(OTHERS)[0] in SMTP_TRANSPORTS:
        yield Peer(OTHERS, OTHERS)


# ------------------------------------------------------------ what is printed


def _line_row(row: Row) -> OutputRow:
    return {
        "kind": "line",
        "file": row.origin.file,
        "line": row.origin.line,
        "text": row.text,
        "fate": row.fate.value,
        "before": row.before,
        "after": row.after,
        "written": [f"{line.file}: {line.text}" for line in row.written],
        "problem": row.problem,
    }


def _line_text(row: OutputRow) -> str:
    place = f"{row['file']}:{row['line']}" if row["line"] else str(row["file"])
    lines = [f"{place}: {row['text']}"]
    if row["before"]:
        lines.append(f"    before   {row['before']}")
    if row["after"]:
        lines.append(f"    {'after ' if row['fate'] != Fate.IDLE.value else 'idle  '}   {row['after']}")
    written = row["written"]
    assert isinstance(written, list)
    lines += [f"    control/{line}" for line in written]
    if row["problem"]:
        lines.append(f"    {row['fate']}: {row['problem']}")
    return "\n".join(clean(line) for line in lines)


def _peer_row(one: Compared) -> OutputRow:
    return {
        "kind": "peer",
        "domain": one.peer.domain,
        "host": one.peer.host,
        "before": str(one.theirs),
        "after": str(one.ours),
        "equal": one.equal,
        "rule": one.rule,
    }


def _peer_text(row: OutputRow) -> str:
    name = row["domain"] if row["domain"] == row["host"] else f"{row['domain']} at {row['host']}"
    if row["equal"]:
        return clean(f"equal      {name}: {row['after']}, by {row['rule']}")
    return clean(f"DIFFERENT  {name}: before {row['before']}; after {row['after']}, by {row['rule']}")
