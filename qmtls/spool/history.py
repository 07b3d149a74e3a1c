"""A message's log: one JSON line for each attempt, hold or release.

    {"time":1795000000.5,"event":"attempt","done":[0],"failed":[],"deferred":[1],"reasons":[["it said 451",1]]}

`"unmet":[1]` stands behind that only where a TLS demand was not met.
Equal reasons that follow each other share their sentence: a message to 10,000 recipients that one host
refuses has one sentence, not 10,000. A line that is not whole was cut while it was written, so its results were
never confirmed: it is passed over, and at worst its recipients get the message a second time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby

from qmtls.spool.api import Attempt, Malformed, pending
from qmtls.spool.record import decode_json

LOG_LIMIT = 64 * 1024 * 1024  # octets: 10,000 recipients, 5 days of attempts
_NOBODY = b'"done":[],"failed":[]'  # is in no sentence: there its quotes would stand behind backslashes
_INT = frozenset({int})
_KEYS = frozenset({"time", "event", "done", "failed", "deferred", "reasons"})
_MORE_KEYS = _KEYS | {"unmet"}

_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode_attempt(attempt: Attempt) -> bytes:
    """One line with its LF."""
    reasons = [[why, *[n for n, _ in group]] for why, group in groupby(attempt.reasons, key=lambda pair: pair[1])]
    parts: dict[str, object] = {
        "time": attempt.time,
        "event": attempt.event,
        "done": attempt.done,
        "failed": attempt.failed,
        "deferred": attempt.deferred,
        "reasons": reasons,
    }
    if attempt.unmet:
        parts["unmet"] = attempt.unmet
    return _dump(parts).encode("ascii") + b"\n"


def decode_history(log: bytes) -> tuple[Attempt, ...]:
    """Every whole line, oldest first. Malformed for a line that is JSON but no attempt."""
    return tuple(_attempts(line for line in log.split(b"\n") if line))


def still_waiting(recipients: int, log: bytes) -> tuple[int, ...]:
    """`api.pending` of a log of which nothing else is wanted: most of its lines need not be decoded."""
    return pending(recipients, _attempts(line for line in log.split(b"\n") if line and _NOBODY not in line))


def _attempts(lines: Iterable[bytes]) -> Iterator[Attempt]:
    for line in lines:
        try:
            parts = decode_json(line.decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        yield _attempt(parts)


def _attempt(parts: object) -> Attempt:
    if not isinstance(parts, dict) or parts.keys() not in (_KEYS, _MORE_KEYS):
        raise Malformed("log: a line is not an attempt")
    time, event = parts["time"], parts["event"]
    if type(time) not in (int, float) or not isinstance(event, str):
        raise Malformed("log: time or event of the wrong type")
    return Attempt(
        time=time,
        done=_indices(parts["done"]),
        failed=_indices(parts["failed"]),
        deferred=_indices(parts["deferred"]),
        reasons=_reasons(parts["reasons"]),
        event=event,
        unmet=_indices(parts.get("unmet", [])),
    )


def _reasons(value: object) -> tuple[tuple[int, str], ...]:
    pairs: list[tuple[int, str]] = []
    if not isinstance(value, list):
        raise Malformed("log: reasons are not a list")
    for group in value:
        if not isinstance(group, list) or not group or not isinstance(group[0], str):
            raise Malformed("log: a reason is not a sentence with its recipients")
        pairs.extend((n, group[0]) for n in _indices(group[1:]))
    return tuple(pairs)


def _indices(value: object) -> tuple[int, ...]:
    if value == []:
        return ()
    if not isinstance(value, list) or not _INT.issuperset(map(type, value)) or min(value) < 0:
        raise Malformed("log: recipients are not a list of numbers")
    return tuple(value)
