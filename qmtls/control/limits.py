"""`limits`: how much one client address may do.

`NETWORK|default attr=value…`. What a line does not name is as in the `default` line, and what that does not name as it
is built in. A word that is not understood is a problem: never a limit less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.scopes import read_rate
from qmtls.control.values import network, number
from qmtls.limits import DEFAULT, LimitRules, Limits
from qmtls.networks import Network
from qmtls.tls.scope import Rate

FILE = "limits"
EVERYONE = "default"
NO_LIMIT = "none"
MOST = 1_000_000


def read_limits(files: ControlFiles, free: Iterable[Network]) -> LimitRules:
    """The whole file; without it the built-in default. `free` are the networks that only a line of their own limits."""
    lines = files.lines(FILE) or []
    default = DEFAULT
    for line in lines:
        if _name(line) == EVERYONE:
            with files.collecting(line.origin):
                if default is not DEFAULT:
                    raise BadValueError(f"{EVERYONE} is here for the second time", f"{default.origin} is the first")
                default = _limits(line, DEFAULT)
    found: dict[Network, Limits] = {}
    for line in lines:
        if _name(line) != EVERYONE:
            with files.collecting(line.origin):
                block = network(_name(line))
                if block in found:
                    raise BadValueError(f"{block} is here for the second time", f"{found[block].origin} is the first")
                found[block] = _limits(line, default)
    return LimitRules(default, found, tuple(free))


def _name(line: Line) -> str:
    return line.text.split(None, 1)[0]


def _limits(line: Line, base: Limits) -> Limits:
    words = line.text.split()[1:]
    if not words:
        raise BadValueError("limits nothing", f"write {' '.join(_ATTRIBUTES)} behind it, each with = and a value")
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in _ATTRIBUTES:
            raise BadValueError(f"{quote(word)} is no limit", f"write {', '.join(_ATTRIBUTES)} with = and a value")
        if name in values:
            raise BadValueError(f"{name}= is here twice", "keep one of them")
        values[name] = _ATTRIBUTES[name](value)
    return replace(base, origin=line.origin, **values)


def _count(text: str) -> int:
    return 0 if text == NO_LIMIT else number(text, 1, MOST)


def _rate_or_none(text: str) -> Rate | None:
    return None if text == NO_LIMIT else read_rate(text)


# There is always an end to these two, so `none` is no value of theirs.
def _recipients(text: str) -> int:
    return number(text, 1, 1000)


def _errors(text: str) -> int:
    return number(text, 1, 1000)


_ATTRIBUTES: dict[str, Callable[[str], object]] = {
    "connections": _count,
    "rate": _rate_or_none,
    "messages": _rate_or_none,
    "commands": _rate_or_none,
    "logins": _rate_or_none,
    "recipients": _recipients,
    "errors": _errors,
}
