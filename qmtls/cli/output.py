"""What the commands print, and how they fail: listings as text or JSON lines, one sentence per error.

Exit status: 0 done, 1 findings or not found, 2 wrong usage. `sendmail` alone has statuses of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping

DONE = 0
FINDINGS = 1
USAGE = 2

Row = Mapping[str, object]

_dump = json.JSONEncoder(ensure_ascii=True).encode

# Controls, what turns the direction of writing, and surrogates, which no terminal can be sent.
_UNPRINTABLE = dict.fromkeys(
    (*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)), "?"
)


class CommandError(Exception):
    """The command cannot do what was asked; str() is the sentence for people, `status` the exit status."""

    def __init__(self, sentence: str, status: int = FINDINGS) -> None:
        super().__init__(sentence)
        self.status = status


def emit(rows: Iterable[Row], as_json: bool, text: Callable[[Row], str]) -> None:
    """Prints each row as it comes, as one JSON object per line or by `text`."""
    for row in rows:
        sys.stdout.write(f"{_dump(row) if as_json else text(row)}\n")


def clean(text: str) -> str:
    """`text` with control characters shown as "?": what a peer wrote must not steer a terminal."""
    return text if text.isprintable() else text.translate(_UNPRINTABLE)


def one_sentence(text: str) -> str:
    """What an operator wrote, as it may stand in files and reports: one line, and no octets that are no text."""
    return clean(" ".join(text.split()))


def nobody_reads() -> None:
    """From now on standard output goes nowhere, also what is still on its way: its reader went, or its disk is full."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def local_time(seconds: float) -> str:
    """Unix seconds as "2026-11-22 14:05:09 +0100" in the zone of this host."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def byte_count(octets: int) -> str:
    """ "812", "14K", "3.2M": at most four characters and a unit, units of 1024."""
    if octets < 1024:
        return str(octets)
    size = octets / 1024
    for unit in "KMG":
        if size < 1024 or unit == "G":
            break
        size /= 1024
    return f"{size:.1f}{unit}" if size < 10 else f"{size:.0f}{unit}"
