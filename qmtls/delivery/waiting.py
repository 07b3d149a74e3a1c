"""What waits in the queue and when it is due: a heap of times beside a table of the latest time of each message.

A message's memory here is its key, one float and one heap entry: about 250 octets.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SPARE = 1000  # heap entries out of date, beside as many as there are keys, before the heap is made anew


class DueList(Generic[K]):
    """Keys with due times; O(log n) to add and to take. Equal times come out in the order of their keys."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def due(self, key: K) -> float | None:
        """When this message is due, below 0 after `make_due`; None if it does not wait."""
        return self._due.get(key)

    def add(self, key: K, due: float) -> None:
        """Adds a message, or changes its time."""
        if self._due.get(key) == due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        if len(self._heap) > 2 * len(self._due) + SPARE:
            # Old times stay in the heap until they come: hours, in which many an order to retry may be given.
            self._heap = [(due, key) for key, due in self._due.items()]
            heapq.heapify(self._heap)

    def discard(self, key: K) -> None:
        """Forgets a message; its heap entry is passed over when its time comes."""
        self._due.pop(key, None)

    def take(self, now: float, limit: int) -> list[K]:
        """At most `limit` keys whose time has come, oldest first; they are no longer in the list."""
        taken: list[K] = []
        while self._heap and len(taken) < limit and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                taken.append(key)
        return taken

    def next_due(self) -> float | None:
        """When the next one is due; None if nothing waits."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def make_due(self, keys: Iterable[K] | None = None) -> None:
        """Makes these (or all) due at once; their order by time is kept."""
        chosen = list(self._due) if keys is None else [k for k in keys if k in self._due]
        chosen.sort(key=self._due.__getitem__)
        base = -float(len(chosen))
        for n, key in enumerate(chosen):
            self.add(key, base + n)
