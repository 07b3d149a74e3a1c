"""How many lanes (connections out) there may be: for each next hop, and in all.

A lane needs an open file, and so do clients and the queue: without a limit one message to a thousand domains takes
them all, and nobody can be accepted or stored any more. From half of that limit on a next hop gets its first lane
only, so a few hosts that hang never hold so many that others wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

MAX_LANES = 1000  # until the assembly says what the open files allow
TRIES = 10  # of those that wait for a lane, when one more is there


class Waits(Protocol):
    """Who wants lanes."""

    def wake(self) -> None:
        """There may be one: takes what it still needs, by `Budget.take`."""


class Line:
    """Who waits, the first to come first, each once."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Waits, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one: Waits) -> None:
        self._waiting.setdefault(one)

    def wake_first(self) -> None:
        first = next(iter(self._waiting))
        del self._waiting[first]
        first.wake()


@dataclass(slots=True)
class Lanes:
    """Those of a worker, over all next hops."""

    limit: int = MAX_LANES
    used: int = 0
    waiting: Line = field(default_factory=Line)

    def has_room(self, *, first: bool) -> bool:
        return self.used < (self.limit if first else self.limit // 2)

    def give_back(self) -> None:
        self.used -= 1
        for n in range(len(self.waiting)):
            # In the upper half most of those who wait may not take more: some are asked now, others the next time.
            if self.used >= self.limit or (n >= TRIES and not self.has_room(first=False)):
                return
            self.waiting.wake_first()


@dataclass(slots=True)
class Budget:
    """The lanes that one next hop may have, over all its destinations."""

    limit: Callable[[], int]
    lanes: Lanes = field(default_factory=Lanes)
    used: int = 0
    waiting: Line = field(default_factory=Line)

    @property
    def crowded(self) -> bool:
        """Somebody waits: nobody should keep a lane for later."""
        return bool(len(self.waiting) or len(self.lanes.waiting))

    def take(self, destination: Waits) -> bool:
        """One lane for `destination`, or a place in the line."""
        if self.used >= self.limit():
            self.waiting.add(destination)
        elif not self.lanes.has_room(first=self.used == 0):
            self.lanes.waiting.add(destination)
        else:
            self.used += 1
            self.lanes.used += 1
            return True
        return False

    def give_back(self) -> None:
        self.used -= 1
        # Some in the line have been served by their own lanes meanwhile: those do not take it.
        for _ in range(len(self.waiting)):
            if self.used >= self.limit():
                break
            self.waiting.wake_first()
        self.lanes.give_back()
