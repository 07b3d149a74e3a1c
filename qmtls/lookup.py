"""How rules are found by name: without case in ASCII, the whole name first, then its nearest parent.

Files of rules name a host, or with a dot before it a domain: ".example.org" is everything below example.org, and not
example.org itself (as in rcpthosts and smtproutes of qmail). Host names are given in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from string import ascii_lowercase, ascii_uppercase
from typing import TypeVar

T = TypeVar("T")

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def folded(text: str) -> str:
    """For comparisons without case: ASCII letters only. The Kelvin sign is another character than k, and so another
    user, though Python's lower() makes it one."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def parents(host: str) -> Iterator[str]:
    """What stands in a file for all the domains that the host is in, the nearest first: ".b.example", ".example"."""
    dot = host.find(".", 1)
    while dot > 0:
        yield host[dot:]
        dot = host.find(".", dot + 1)


def nearest(entries: Mapping[str, T], host: str) -> T | None:
    """The entry for the host itself, else for the first of its parents that has one."""
    found = entries.get(host)
    dot = host.find(".")
    while found is None and dot >= 0:
        found = entries.get(host[dot:])
        dot = host.find(".", dot + 1)
    return found


def is_listed(hosts: Set[str], host: str) -> bool:
    """True if the host or one of its parents is in `hosts`."""
    if host in hosts:
        return True
    dot = host.find(".")
    while dot >= 0:
        if host[dot:] in hosts:
            return True
        dot = host.find(".", dot + 1)
    return False
