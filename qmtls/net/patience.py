"""How long a connection may take: one deadline that is moved for nothing, and one timer that looks at it.

A timer of Twisted's that is moved to an earlier time is searched for among all timers, and making and cancelling
one for each wait costs more than the wait. So a deadline is a number; a timer fires every few seconds at
the most, and calls only when the deadline has passed. It is never late: what is asked for later than the next look is
looked at then, what is asked for sooner moves the timer.

Every close has an abort behind it: over TCP a peer that does not read would keep the connection for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

ABORT_AFTER = 10.0  # seconds that a peer gets to read our last words and to close
LOOK = 10.0  # seconds between two looks at a deadline far ahead


class Patience:
    """`expired` is called once for each deadline that passes."""

    __slots__ = ("_clock", "_expired", "_looks_at", "_timer", "deadline")

    def __init__(self, clock: Any, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._timer: Any = None
        self._looks_at = inf  # no timer
        self.deadline = 0.0

    def allow(self, seconds: float) -> None:
        """The deadline is `seconds` from now, in place of the one before."""
        now = self._clock.seconds()
        self.deadline = deadline = now + seconds
        if deadline < self._looks_at:
            self._look_in(now, seconds)

    def hurry(self, seconds: float) -> None:
        """The deadline is `seconds` from now at the latest."""
        if self.deadline > self._clock.seconds() + seconds:
            self.allow(seconds)

    def end(self) -> None:
        """There is no deadline any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._looks_at = inf

    def _look_in(self, now: float, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds = min(seconds, LOOK)
        self._looks_at = now + seconds
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looks_at = inf
        now = self._clock.seconds()
        if self.deadline > now:
            self._look_in(now, self.deadline - now)
        else:
            self._expired()
