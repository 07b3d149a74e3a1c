"""`limits`: how much one client address may do. `NETWORK|default attr=value…`, see `limitlines`."""

from __future__ import annotations

from collections.abc import Iterable

from qmtls.control.limitlines import LimitFile, count, rate
from qmtls.control.lists import ControlFiles
from qmtls.control.values import network, number
from qmtls.limits import DEFAULT, LimitRules
from qmtls.networks import Network


def read_limits(files: ControlFiles, free: Iterable[Network]) -> LimitRules:
    """The whole file; without it the built-in default. `free` are the networks that only a line of their own limits."""
    default, found = _FILE.read(files)
    return LimitRules(default, found, tuple(free))


# There is always an end to these two, so `none` is no value of theirs.
def _recipients(text: str) -> int:
    return number(text, 1, 1000)


def _errors(text: str) -> int:
    return number(text, 1, 1000)


_FILE = LimitFile(
    name="limits",
    everyone="default",
    built_in=DEFAULT,
    key=network,
    attributes={
        "connections": ("connections", count),
        "rate": ("rate", rate),
        "messages": ("messages", rate),
        "commands": ("commands", rate),
        "logins": ("logins", rate),
        "recipients": ("recipients", _recipients),
        "errors": ("errors", _errors),
    },
)
