"""Scopes, as lines of `tlsclients` and `users` have them behind the identity: `from=@a.example rate=100/h`.

A scope narrows what an identity may do, so nothing in it is ever passed over: a word that cannot be used makes the
whole line a problem.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from math import inf

from qmtls.control.lists import BadValueError, quote
from qmtls.control.values import domain_or_parent, host_or_literal
from qmtls.smtp.address import AddressError, folded, parse_address
from qmtls.tls.scope import UNBOUNDED, Patterns, Rate, Scope

KEYS = ("from", "to", "rate", "size", "until", "label")
PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
NULL_PATH = "<>"

_RATE = re.compile(r"([1-9][0-9]{0,8})/([smhd])\Z")
_SIZE = re.compile(r"([1-9][0-9]{0,11})([KMG]?)\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
# What the trace field shows as it is written (qmtls.smtp.trace).
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@%+/:_-]{0,63}\Z")

# Words end at blanks and list entries at commas, but for those in quotes or behind a backslash.
_PIECE = r"""(?:[^{}"\\]|\\.|"(?:[^"\\]|\\.)*")+"""
_WORD = re.compile(_PIECE.format(r"\s"))
_ENTRY = re.compile(_PIECE.format(","))
_QUOTES_CLOSED = re.compile(r"""(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*\Z""")


def split_words(text: str) -> list[str]:
    """A line at its blanks; what stands in double quotes stays together, quotes and all. Raises BadValueError."""
    if not _QUOTES_CLOSED.match(text):
        raise BadValueError("has a quote that is not closed, or ends in a backslash", 'write: dn:"CN=alice,O=Example"')
    return _WORD.findall(text)


def split_entries(text: str) -> list[str]:
    """A comma list; commas in double quotes divide nothing. Raises BadValueError for an empty one or entry."""
    found = _ENTRY.findall(text)
    if not found or ",".join(found) != text:
        raise BadValueError(f"{quote(text)} has an empty entry", "write entries with one comma between them, no blanks")
    return found


def read_scope(words: Sequence[str]) -> Scope:
    """The words behind an identity, each `key=value` and each key once. Raises BadValueError."""
    if not words:
        return UNBOUNDED
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise BadValueError(f"{quote(word)} is no scope", f"write {'= '.join(KEYS)}=, without blanks around the =")
        if key in values:
            raise BadValueError(f"{key}= is there twice", "write one, with commas between its entries")
        if not value:
            raise BadValueError(f"{key}= has no value", "write one, or remove the word")
        values[key] = value
    return Scope(
        senders=read_patterns(values["from"], null_path=True) if "from" in values else None,
        recipients=read_patterns(values["to"], null_path=False) if "to" in values else None,
        rate=read_rate(values["rate"]) if "rate" in values else None,
        size=read_size(values["size"]) if "size" in values else 0,
        until=read_day_end(values["until"]) if "until" in values else inf,
        label=_label(values["label"]) if "label" in values else "",
    )


def read_rate(text: str) -> Rate:
    """ "100/h": so many in a second, minute, hour or day. Raises BadValueError."""
    found = _RATE.match(text)
    if found is None:
        raise BadValueError(f"{quote(text)} is no rate", "write a number and /s, /m, /h or /d, as 100/h")
    return Rate(int(found[1]), float(PERIODS[found[2]]), text)


def read_size(text: str) -> int:
    """ "10M": octets; K, M and G are 1024s. Raises BadValueError."""
    found = _SIZE.match(text.upper())
    if found is None:
        raise BadValueError(f"{quote(text)} is no size", "write a number of bytes, or one with K, M or G, as 10M")
    return int(found[1]) * UNITS[found[2]]


def read_day_end(text: str) -> float:
    """ "2027-01-01": the end of that day in UTC, Unix seconds. Raises BadValueError."""
    try:
        if not _DATE.match(text):
            raise ValueError
        day = date.fromisoformat(text)
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise BadValueError(f"{quote(text)} is no date", "write YEAR-MONTH-DAY, as 2027-01-31") from None
    return end.timestamp()


def _label(text: str) -> str:
    if not _LABEL.match(text):
        mend = "write up to 64 letters, digits and . @ % + / : _ -, a letter or digit first"
        raise BadValueError(f"{quote(text)} cannot be a label", mend)
    return text


def read_patterns(text: str, *, null_path: bool) -> Patterns:
    """ "@a.example,.b.example,c@d.example", and with `null_path` also "<>". Raises BadValueError."""
    return Patterns(frozenset(_pattern(entry, null_path) for entry in split_entries(text)), text)


def _pattern(text: str, null_path: bool) -> str:
    """One entry as `Patterns` compares it."""
    if text == NULL_PATH:
        if not null_path:
            raise BadValueError("<> is nobody that mail could go to", "remove it from to=")
        return text
    if text.startswith("."):
        return domain_or_parent(text)
    if text.startswith("@"):
        return f"@{host_or_literal(text[1:]).lower()}"
    if "@" not in text:
        raise BadValueError(f"{quote(text)} is no address", f"write @{text} for the domain, .{text} for names below it")
    try:
        address = parse_address(text.removesuffix("."), smtputf8=True)
    except AddressError as problem:
        mend = "write @a.example, .b.example, c@d.example or <>"
        raise BadValueError(f"{quote(text)} is no address ({problem})", mend) from None
    return f"{folded(address.local_part)}@{address.host}"
