"""Queue ids: unique over all processes and hosts that share a queue, and in order of time within a process."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable


class Ids:
    """Hexadecimal microseconds since 1970 (13 digits until 2112), then 8 digits of chance made once per process.

    Two processes make the same id only if they draw the same 32 bits and use the same microsecond.
    Make it after the process has forked.
    """

    def __init__(self, now: Callable[[], int] = time.time_ns, salt: str = "") -> None:
        self._now = now
        self._salt = salt or secrets.token_hex(4)
        self._last = 0

    def next(self) -> str:
        """Greater than all before it, even while the clock stands still or goes back."""
        self._last = max(self._now() // 1000, self._last + 1)
        return f"{self._last:013x}{self._salt}"
