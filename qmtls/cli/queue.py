"""`qmtls queue`: what waits and why, and what an operator does about it: list, show, retry, remove.

Reads the queue where it lies; the service need not run, and is not disturbed if it does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from qmtls.cli.bins import Entry, Queue, retry_now
from qmtls.cli.output import DONE, FINDINGS, CommandError, Row, byte_count, clean, emit, local_time
from qmtls.cli.parser import Commands, Parser, add_json
from qmtls.spool.api import Attempt, SpoolError


def add(commands: Commands) -> None:
    below = Commands(commands.add("queue", "mail that waits: list, show, retry, remove"))
    listing = below.add(
        "list",
        "what waits, for whom, since when, and why",
        run=run_list,
        examples="  qmtls queue list\n  qmtls queue list --domain example.org --json",
    )
    show = below.add(
        "show", "one message: its envelope and each attempt", run=run_show, examples="  qmtls queue show ID"
    )
    retry = below.add(
        "retry",
        "try waiting mail now",
        run=run_retry,
        about="Makes waiting messages due at once; a running service sees it within seconds.",
        examples="  qmtls queue retry ID\n  qmtls queue retry --domain example.org",
    )
    remove = below.add(
        "remove",
        "remove mail from the queue",
        run=run_remove,
        about="Removes messages; nobody is told. One that is being sent at this moment may still arrive.",
        examples="  qmtls queue remove ID\n  qmtls queue remove --from spammer@example.org",
    )
    show.add_argument("ids", metavar="ID", nargs="+")
    for parser in (retry, remove):
        parser.add_argument("ids", metavar="ID", nargs="*")
    for parser in (listing, retry, remove):
        _add_filters(parser)
    for parser in (listing, show):
        add_json(parser)


def _add_filters(parser: Parser) -> None:
    parser.add_argument("--from", dest="sender", metavar="ADDR", help="reverse-path: an address, @domain, or '<>'")
    parser.add_argument("--to", metavar="ADDR", help="a recipient still waiting: an address or @domain")
    parser.add_argument(
        "--domain", metavar="DOMAIN", help="a domain of recipients still waiting; .DOMAIN: all below it"
    )


def run_list(args: argparse.Namespace) -> int:
    trouble = _Trouble()
    with Queue(args.home.queue, trouble) as queue:
        emit((_row(entry) for entry in queue.entries() if _wanted(args, entry)), args.json, _text)
    return trouble.status


def run_show(args: argparse.Namespace) -> int:
    trouble = _Trouble()
    seen = set()
    with Queue(args.home.queue, trouble) as queue:
        for entry in queue.find(args.ids):
            seen.add(entry.id)
            emit([_details(entry)], args.json, _details_text)
    return trouble.status | _missing(args.ids, seen)


def run_retry(args: argparse.Namespace) -> int:
    now = time.time()
    return _each(args, lambda entry: _retry(entry, now))


def run_remove(args: argparse.Namespace) -> int:
    return _each(args, _remove)


def _each(args: argparse.Namespace, act: Callable[[Entry], str]) -> int:
    """Does `act` to the messages that are named or match, and prints what it says."""
    if not args.ids and not (args.sender or args.to or args.domain):
        args.parser.error("name messages by ID, or choose them by --from, --to, --domain")
    trouble = _Trouble()
    seen = set()
    with Queue(args.home.queue, trouble) as queue:
        for entry in queue.find(args.ids) if args.ids else queue.entries():
            if _wanted(args, entry):
                seen.add(entry.id)
                print(f"{entry.id}: {act(entry)}")
    if not args.ids and not seen:
        print("no such message", file=sys.stderr)
        return FINDINGS
    return trouble.status | _missing(args.ids, seen)


def _retry(entry: Entry, now: float) -> str:
    if retry_now(entry, now):
        return "due now"
    return "held" if entry.waiting.held else "was due already"


def _remove(entry: Entry) -> str:
    try:
        entry.bin.remove([entry.id])
    except SpoolError as problem:
        raise CommandError(f"{entry.id}: not removed: {problem}") from None
    return f"removed ({entry.sender or '<>'} to {', '.join(entry.addresses) or 'nobody left'})"


class _Trouble:
    """Names each unreadable thing once, and remembers that there was one."""

    def __init__(self) -> None:
        self.status = DONE

    def __call__(self, line: str) -> None:
        self.status = FINDINGS
        print(f"qmtls: {clean(line)}", file=sys.stderr)


def _missing(ids: list[str], seen: set[str]) -> int:
    missing = [id for id in ids if id not in seen]
    for id in missing:
        print(f"qmtls: {clean(id)}: no such message; it was delivered, removed, or never was", file=sys.stderr)
    return FINDINGS if missing else DONE


def _wanted(args: argparse.Namespace, entry: Entry) -> bool:
    if args.sender and not _matches(args.sender, entry.sender):
        return False
    recipients = [entry.envelope.recipients[n].address for n in entry.to]
    if args.to and not any(_matches(args.to, str(address)) for address in recipients):
        return False
    return not args.domain or any(_within(address.host, args.domain.lower()) for address in recipients)


def _matches(pattern: str, address: str) -> bool:
    pattern, address = pattern.lower(), address.lower()
    if pattern.startswith("@"):
        return address.endswith(pattern)
    return address == ("" if pattern == "<>" else pattern)


def _within(host: str, domain: str) -> bool:
    return host.endswith(domain) if domain.startswith(".") else host == domain


def _row(entry: Entry) -> Row:
    return {
        "id": entry.id,
        "from": entry.sender,
        "to": entry.addresses,
        "size": entry.size,
        "arrived": entry.envelope.arrival.time,
        "attempts": entry.attempts,
        "next": entry.next,
        "held": entry.waiting.held,
        "reason": entry.reason,
    }


def _text(row: Row) -> str:
    to, due = row["to"], row["next"]
    assert isinstance(to, list)
    when = f"next {local_time(float(str(due)))}" if due is not None else "held"
    arrived = local_time(float(str(row["arrived"])))
    size = byte_count(int(str(row["size"])))
    lines = [f"{row['id']}  {size}  from <{row['from']}>  arrived {arrived}  attempts {row['attempts']}  {when}"]
    lines += [f"    to <{address}>" for address in to]
    if row["reason"]:
        lines.append(f"    {row['reason']}")
    return "\n".join(clean(line) for line in lines)


def _details(entry: Entry) -> Row:
    arrival = entry.envelope.arrival
    names = [str(recipient.address) for recipient in entry.envelope.recipients]
    return {
        **_row(entry),
        "bin": entry.bin.name,
        "recipients": names,
        "body": entry.envelope.body,
        "requiretls": entry.envelope.requiretls,
        "client": arrival.client,
        "helo": arrival.helo,
        "protocol": arrival.protocol,
        "tls": arrival.tls,
        "identity": arrival.identity,
        "history": [_attempt(attempt, names) for attempt in entry.history],
    }


def _attempt(attempt: Attempt, names: list[str]) -> Row:
    def named(indices: tuple[int, ...]) -> list[str]:
        return [names[n] for n in indices if n < len(names)]

    return {
        "time": attempt.time,
        "event": attempt.event,
        "done": named(attempt.done),
        "failed": named(attempt.failed),
        "deferred": named(attempt.deferred),
        "reasons": {names[n]: sentence for n, sentence in attempt.reasons if n < len(names)},
    }


def _details_text(row: Row) -> str:
    came = [f"  came      with {row['protocol']}"]
    if row["client"]:
        came[0] += f" from {row['client']} ({row['helo']})"
    if row["tls"]:
        came.append(f"  over      {row['tls']}")
    if row["identity"]:
        came.append(f"  {'made' if row['protocol'] == 'local' else 'let in'} by {row['identity']}")
    history = row["history"]
    assert isinstance(history, list)
    lines = [_text(row), f"  bin       {row['bin']}", *came]
    for attempt in history:
        lines += _attempt_lines(attempt)
    return "\n".join([lines[0], *(clean(line) for line in lines[1:])])


def _attempt_lines(attempt: Row) -> Iterator[str]:
    yield f"  {local_time(float(str(attempt['time'])))}  {attempt['event']}"
    reasons = attempt["reasons"]
    assert isinstance(reasons, dict)
    for fate in ("done", "failed", "deferred"):
        names = attempt[fate]
        assert isinstance(names, list)
        for name in names:
            yield f"    {fate:<9} <{name}>" + (f"  {reasons[name]}" if name in reasons else "")
