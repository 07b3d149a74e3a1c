"""What would have to change before a message goes: read from what its last attempt said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qmtls.cli.bins import Entry
from qmtls.cli.output import local_time

# How the sentences of qmtls.tls end: the mend, and what mail does meanwhile.
_UNTIL_THEN = "; mail waits until then"
_MEND = re.compile(r"; ((?:its administrator|if that key|if it is genuine|write a line) .*)\Z")
# Other sentences, and what mends that; of each only what is found first, but every login.
_OTHERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"pin file (\S+) cannot be used: .*; mail for \S+ waits until it is mended"), r"\1: mend or remove it"),
    (
        re.compile(
            r"mail waits until DNS answers|DNS: the \w+ records of \S+ cannot be looked up|did not come in time"
        ),
        "DNS must answer",
    ),
    (
        re.compile(r"the pinned hosts of \S+ have no address"),
        "a host that is pinned must have an address, or one that has an address be pinned",
    ),
    (
        re.compile(r"the relay (\S+) of control/smtproutes has no address"),
        r"control/smtproutes must name another relay, or \1 have an address",
    ),
    (
        re.compile(r"the MX records of (\S+) name no host|no mail exchanger of (\S+) has an address"),
        r"the administrator of \1\2 must mend its records in DNS",
    ),
    (re.compile(r"cannot be connected to: "), "somebody must take connections there"),
    (re.compile(r"the mailbox of (\S+) cannot be written"), r"the mailbox of \1 must be one that can be written"),
    (re.compile(r"make one: (qmtls mailbox add \S+)"), r"the mailbox must be made: `\1`"),
    (re.compile(r"the queue file cannot be read"), "the queue file must be readable"),
    (re.compile(r"trouble on our side"), "the fault is ours, and the log of the service names it"),
)
_IN_LINE = "while the service runs, it stands in line"
_LOGIN = re.compile(r"(?:wants no login that|does not take the login of) (control/authroutes:\d+)")


def changes(entry: Entry, said: Sequence[str], kept: Sequence[str] = ()) -> list[str]:
    """One line for each thing; always at least one. `said` is what the last attempt told those who still wait, `kept`
    what the settings keep back now."""
    if entry.waiting.returning:
        return ["nothing: an operator sends it back, and its sender gets a report"]
    if entry.waiting.held:
        return [f"an operator holds it: `qmtls queue release {entry.id}` lets it go"]
    if entry.held:
        return [f"the rule that holds it must go: {rule.sentence}" for rule in dict.fromkeys(entry.ruled.values())]
    if kept:
        return list(dict.fromkeys(kept))
    if not entry.attempts:
        return [f"nothing that is known: no attempt is on record yet; {_IN_LINE} or is being tried"]
    found = dict.fromkeys(mend for sentence in said for mend in mends_in(sentence))
    return list(found) or ["nothing here, as far as the last attempt tells"]


def again(entry: Entry, now: float) -> str:
    """When it is tried next; "" if it is not, or was not yet."""
    if entry.next is None or entry.waiting.returning or not entry.attempts:
        return ""
    order = f"`qmtls queue retry {entry.id}`"
    if entry.next <= now:
        # The service alone knows which of these it is: nothing is written of it.
        where = f"{_IN_LINE}, is being tried, or waits until its hosts have rested; {order} ends such a rest"
        return f"it is due since {local_time(entry.next)}; {where}"
    return f"it is tried again at {local_time(entry.next)}, or now with {order}"


def mends_in(reason: str) -> Iterator[str]:
    """The mends in the sentences of all hosts that were tried."""
    for sentence in reason.split(_UNTIL_THEN)[:-1]:
        found = _MEND.search(sentence)
        if found:
            yield found[1]
    for pattern, mend in _OTHERS:
        found = pattern.search(reason)
        if found:
            yield found.expand(mend)
    for login in _LOGIN.finditer(reason):
        yield f"{login[1]}, or what the relay takes"
