"""Due mail that its destinations cannot take now: their lines are full, or they rest.

On the disk it is as it was, and in memory there is its name only, on the shelf of one destination: 20,000 messages for
a host that hangs neither fill the memory nor stand before mail for others. The relayer takes them off as the
destination gets on, in the order in which they were due. None stays beyond the moment when its sender is to be told:
those moments are in the list of what is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from qmtls.control.settings import Settings
from qmtls.service.attempt import Attempt, Key
from qmtls.service.destination import LINE, Destination

FRESH_LINE = 5000  # the same for mail that was just taken: a kilobyte each, and not to be read twice in a short rush
LOW = 100  # tasks in line, below which there is room
REFILL = 100  # messages taken off a shelf in one go


class Shelves:
    """A message is on one shelf at most. `seen` is the time of its file when it was put there."""

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[Destination, float]] = {}
        self._shelves: dict[Destination, dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    @property
    def stuck(self) -> int:
        """Tasks of the destinations with a shelf: they are many, and reading more slowly would help nobody."""
        return sum(len(destination) + destination.lanes for destination in self._shelves)

    def put(self, key: Key, place: Destination, seen: float) -> None:
        self.discard(key)
        self._entries[key] = (place, seen)
        self._shelves.setdefault(place, {})[key] = None
        place.shelved += 1

    def changed(self, key: Key, due: float) -> bool:
        """True if somebody gave the file of a message on a shelf another time."""
        return due not in (0.0, self._entries[key][1])

    def discard(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            place = entry[0]
            del self._shelves[place][key]
            self._count(place)

    def take(self, place: Destination, most: int) -> list[Key]:
        """Those that are first on a shelf; they are no longer there."""
        keys = list(islice(self._shelves.get(place, ()), most))
        for key in keys:
            self.discard(key)
        return keys

    def clear(self) -> list[tuple[Key, float]]:
        """All of them, with the times of their files."""
        found = [(key, seen) for key, (_, seen) in self._entries.items()]
        places, self._shelves = self._shelves, {}
        self._entries.clear()
        for place in places:
            place.shelved = 0
        return found

    def _count(self, place: Destination) -> None:
        place.shelved = len(self._shelves[place])
        if not place.shelved:
            del self._shelves[place]


def place_for(
    attempt: Attempt, ways: Sequence[Destination | None], *, fresh: bool, off: Destination | None
) -> Destination | None:
    """The shelf for a message that goes these ways (None: to a mailbox of ours); None if one of them can take it.

    `off` is the destination from whose shelf it just came.
    """
    found: Destination | None = None
    for way in ways:
        if way is None:
            return None
        if way.is_resting:
            if not attempt.tried:
                return None  # it is told why it waits, so that its listing says so
            found = found or way
        elif len(way) >= (FRESH_LINE if fresh else LINE) or (way.shelved and way is not off):
            found = way if found is None or found.is_resting else found
        else:
            return None
    return found


def until(attempt: Attempt, last: float, settings: Settings, now: float) -> float:
    """When a message must not be on a shelf any more, because its sender is to be told; 0.0: it is so far.

    `last` is the time of its last attempt: that one decided about a warning if it was late then.
    """
    times = [attempt.arrived + min(settings.queue_lifetime, settings.policy_lifetime) + 1.0]
    late = attempt.arrived + settings.delay_warn
    if settings.delay_warn and not attempt.warned and last < late:
        times.append(late)
    first = min(times)
    return first if first > now else 0.0
