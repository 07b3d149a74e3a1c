"""What would have to change before a message goes: read from what its last attempt said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qmtls.cli.bins import Entry
from qmtls.cli.output import local_time

# How the sentences of qmtls.tls end: the mend, and what mail does meanwhile.
_UNTIL_THEN = "; mail waits until then"
_MEND = re.compile(r"; ((?:its administrator|if that key|if it is genuine|write a line) .*)\Z")
_BROKEN_PIN = re.compile(r"pin file (\S+) cannot be used: .*; mail for \S+ waits until it is mended")
_NO_DNS = re.compile(
    r"mail waits until DNS answers|DNS: the \w+ records of \S+ cannot be looked up now|did not come in time"
)
_LOGIN = re.compile(r"(?:wants no login that|does not take the login of) (control/authroutes:\d+)")
_AWAY = "cannot be connected to: "


def changes(entry: Entry, kept: Sequence[str] = ()) -> list[str]:
    """One line for each thing; always at least one. `kept` is what the settings keep back now."""
    if entry.waiting.returning:
        return ["nothing: an operator sends it back, and its sender gets a report"]
    if entry.waiting.held:
        return [f"an operator holds it: `qmtls queue release {entry.id}` lets it go"]
    if entry.held:
        return [f"the rule that holds it must go: {rule.sentence}" for rule in dict.fromkeys(entry.ruled.values())]
    if kept:
        return list(dict.fromkeys(kept))
    if not entry.attempts:
        return ["nothing: it has not been tried yet, and stands in line"]
    return list(dict.fromkeys(mends_in(entry.reason))) or ["nothing here, as far as the last attempt tells"]


def again(entry: Entry) -> str:
    """When it is tried next; "" if it is not."""
    if entry.next is None or entry.waiting.returning or not entry.attempts:
        return ""
    return f"it is tried again at {local_time(entry.next)}, or now with `qmtls queue retry {entry.id}`"


def mends_in(reason: str) -> Iterator[str]:
    """The mends in the sentences of all hosts that were tried."""
    for sentence in reason.split(_UNTIL_THEN)[:-1]:
        found = _MEND.search(sentence)
        if found:
            yield found[1]
    broken = _BROKEN_PIN.search(reason)
    if broken:
        yield f"{broken[1]}: mend or remove it"
    if _NO_DNS.search(reason):
        yield "DNS must answer"
    for login in _LOGIN.finditer(reason):
        yield f"{login[1]}, or what the relay takes"
    if _AWAY in reason:
        yield "somebody must take connections there"
