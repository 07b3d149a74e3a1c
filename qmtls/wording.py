"""How sentences for people are put together."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """ "no key", "1 key", "2 keys"."""
    return f"{number or 'no'} {noun}{'s' if number > 1 else ''}"
