"""`qmtls tlsrpt`: TLS reports (RFC 8460). Those that others sent us, readable; and ours, now."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from qmtls.cli.home import why
from qmtls.cli.output import DONE, FINDINGS, Row, clean
from qmtls.cli.parser import Commands, add_json
from qmtls.delivery.tlsreading import MAX_FILE, BadReport, Detail, ReceivedReport, ReportedPolicy, read_report


def add(commands: Commands) -> None:
    parser = commands.add("tlsrpt", "TLS reports: reading those of others, sending ours now")
    below = Commands(parser)
    show = below.add(
        "show",
        "read a TLS report that somebody sent us",
        run=run_show,
        about="Reads reports as they come: a mail as it lies in a mailbox, the .json.gz in it, or plain JSON; - is\n"
        "standard input. Exit status 1 if one cannot be read, or tells of failures.",
        examples="  qmtls tlsrpt show mail/tlsrpt/new/*\n  qmtls tlsrpt show --json report.json.gz",
    )
    show.add_argument("files", metavar="FILE", nargs="+")
    add_json(show)
    send = below.add(
        "send",
        "send our reports now",
        run=lambda args: int(import_module("qmtls.cli.tlsrptsend").run(args)),  # which takes a while to load
        about="Sends the reports that the service would send in the next hours: of the last two days, what is not\n"
        "sent yet. control/tlsrpt must be there. Mail goes into the queue, also while the service is down.",
        examples="  qmtls tlsrpt send\n  qmtls tlsrpt send --day 2026-11-21 --again",
    )
    send.add_argument("--day", metavar="D", help="this day (UTC) only, as 2026-11-21; one that is over")
    send.add_argument("--again", action="store_true", help="those too that are sent already")


# ------------------------------------------------------------ those of others


def run_show(args: argparse.Namespace) -> int:
    status = DONE
    for name in args.files:
        try:
            report = read_report(_octets(name))
        except (BadReport, OSError) as problem:
            reason = why(problem) if isinstance(problem, OSError) else str(problem)
            print(f"{args.parser.prog}: {clean(name)}: {clean(reason)}", file=sys.stderr)
            status = FINDINGS
            continue
        if args.json:
            for policy in report.policies:
                print(json.dumps(_row(report, policy)))
        else:
            print("\n".join([_heading(report), *map(_shown, report.policies)]))
        if any(policy.failed for policy in report.policies):
            status = FINDINGS
    return status


def _octets(name: str) -> bytes:
    """One more than may be read, at most."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_FILE + 1)
    with Path(name).open("rb") as file:
        return file.read(MAX_FILE + 1)


def _heading(report: ReceivedReport) -> str:
    contact = f" ({report.contact})" if report.contact else ""
    return clean(f"{report.organization or 'somebody'}{contact}: {report.begin} to {report.end}, report {report.id}")


def _row(report: ReceivedReport, policy: ReportedPolicy) -> Row:
    return {
        "organization": report.organization,
        "contact": report.contact,
        "report": report.id,
        "begin": report.begin,
        "end": report.end,
        "domain": policy.domain,
        "policy": policy.type,
        "policy_strings": list(policy.strings),
        "mx_hosts": list(policy.mx_hosts),
        "good": policy.good,
        "failed": policy.failed,
        "failures": [_detail_row(detail) for detail in policy.details],
    }


def _detail_row(detail: Detail) -> Row:
    return {
        "result": detail.result,
        "sessions": detail.sessions,
        "from": detail.sending_ip,
        "mx": detail.mx,
        "helo": detail.mx_helo,
        "to": detail.receiving_ip,
        "reason": detail.reason,
        "information": detail.information,
    }


def _shown(policy: ReportedPolicy) -> str:
    lines = [f"  {policy.domain} ({policy.type}): {policy.good} sessions good, {policy.failed} failed"]
    for detail in policy.details:
        to = " ".join(part for part in (detail.mx, f"({detail.receiving_ip})" if detail.receiving_ip else "") if part)
        words = [f"{detail.sessions} x {detail.result}"]
        words += [f"at {to}"] if to else []
        words += [f"from {detail.sending_ip}"] if detail.sending_ip else []
        reason = f": {detail.reason}" if detail.reason else ""
        lines.append(f"    {' '.join(words)}{reason}")
    return "\n".join(map(clean, lines))
