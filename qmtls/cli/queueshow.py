"""How the queue is shown: for people, for programs (one JSON object a line), and as qmail's programs did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from qmtls.cli.bins import Entry, State
from qmtls.cli.output import Row, byte_count, clean, local_time
from qmtls.cli.retests import since, tls_words
from qmtls.smtp.address import Address
from qmtls.spool.api import Attempt

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def row(entry: Entry) -> Row:
    """What `list --json` promises."""
    return {
        "id": entry.id,
        "from": entry.sender,
        "to": entry.addresses,
        "size": entry.size,
        "arrived": entry.envelope.arrival.time,
        "attempts": entry.attempts,
        "next": entry.next,
        "held": entry.held,
        "reason": entry.reason,
    }


def text(entry: Entry, first_probe: float | None = None) -> str:
    """A few lines for people. `first_probe` as in `retests`."""
    due, arrived = entry.next, local_time(entry.envelope.arrival.time)
    when = f"next {local_time(due)}" if due is not None else "held"
    if entry.state is State.RETURNING:
        when = "is being returned"
    head = f"{entry.id}  {byte_count(entry.size)}  from <{entry.sender}>  arrived {arrived}"
    lines = [f"{head}  attempts {entry.attempts}  {when}"]
    lines += [f"    to <{address}>" for address in entry.addresses]
    lines += [f"    {line}" for line in (entry.reason, tls_words(entry, first_probe)) if line]
    return "\n".join(clean(line) for line in lines)


def details(entry: Entry) -> Row:
    """All there is to know."""
    arrival = entry.envelope.arrival
    recipients = entry.envelope.recipients
    names = [str(recipient.address) for recipient in recipients]
    return {
        **row(entry),
        "state": entry.state.value,
        "unmet": {names[n]: time for n, time in since(entry).items()},
        "holds": {names[n]: rule.sentence for n, rule in entry.ruled.items()},
        "bin": entry.bin.name,
        "recipients": names,
        "parameters": {
            **dict(entry.envelope.parameters),
            **{names[n]: dict(one.parameters) for n, one in enumerate(recipients) if one.parameters},
        },
        "body": entry.envelope.body,
        "smtputf8": entry.envelope.smtputf8,
        "requiretls": entry.envelope.requiretls,
        "tlsoptional": entry.envelope.tls_optional,
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


def details_text(entry: Entry, first_probe: float | None = None) -> str:
    """The same for people."""
    envelope, arrival = entry.envelope, entry.envelope.arrival
    came = f"  came      with {arrival.protocol}"
    if arrival.client:
        came += f" from {arrival.client} ({arrival.helo})"
    lines = [f"  bin       {entry.bin.name}", came]
    if arrival.tls:
        lines.append(f"  over      {arrival.tls}")
    if arrival.identity:
        lines.append(f"  {'made' if arrival.protocol == 'local' else 'let in'} by {arrival.identity}")
    demands = [
        *(["REQUIRETLS"] if envelope.requiretls else ["TLS-Required: no"] if envelope.tls_optional else []),
        *(["SMTPUTF8"] if envelope.smtputf8 else []),
        envelope.body,
        *(f"{key}={value}" for key, value in envelope.parameters),
    ]
    lines.append(f"  asks      {' '.join(demands)}")
    for recipient in envelope.recipients:
        if recipient.parameters:
            asked = " ".join(f"{key}={value}" for key, value in recipient.parameters)
            lines.append(f"  asks      for <{recipient.address}> {asked}")
    for n, rule in entry.ruled.items():
        lines.append(f"  hold      <{envelope.recipients[n].address}>  {rule.sentence}")
    for attempt in entry.history:
        lines += _attempt_lines(attempt, [str(recipient.address) for recipient in envelope.recipients])
    return "\n".join([text(entry, first_probe), *(clean(line) for line in lines)])


def _attempt_lines(attempt: Attempt, names: list[str]) -> Iterator[str]:
    yield f"  {local_time(attempt.time)}  {attempt.event}"
    reasons = dict(attempt.reasons)
    told: set[int] = set()
    for fate, indices in (("done", attempt.done), ("failed", attempt.failed), ("deferred", attempt.deferred)):
        for n in indices:
            if n < len(names):
                told.add(n)
                yield f"    {fate:<9} <{names[n]}>" + (f"  {reasons[n]}" if n in reasons else "")
    for sentence in dict.fromkeys(words for n, words in reasons.items() if n not in told):
        yield f"    {sentence}"


def qread(entry: Entry, is_local: Callable[[Address], bool]) -> str:
    """As qmail-qread: the message, then each recipient, done or not, with its channel."""
    at = datetime.fromtimestamp(int(entry.envelope.arrival.time), UTC)
    day = f"{at.day} {_MONTHS[at.month - 1]} {at.year} {at:%H:%M:%S} GMT"
    bouncing = " bouncing" if entry.state is State.RETURNING else ""
    lines = [f"{day}  #{entry.id}  {entry.size}  <{entry.sender}> {bouncing}"]
    waiting = frozenset(entry.to)
    for n, recipient in enumerate(entry.envelope.recipients):
        channel = "local" if is_local(recipient.address) else "remote"
        lines.append(f"{'' if n in waiting else '  done'}\t{channel}\t{recipient.address}")
    return "\n".join("\t".join(clean(part) for part in line.split("\t")) for line in lines)


def one_line(addresses: Iterable[str], most: int = 5) -> str:
    """A few of them."""
    listed = list(addresses)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
