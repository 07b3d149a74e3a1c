"""How many lanes a set of hosts bears, and when hosts that are down are looked at again.

Pure: times are arguments. A window counts in seconds of any clock that only goes forward; a rest in Unix seconds, for
people read of it, and it ends when the clock is set back.
"""

from __future__ import annotations

INITIAL = 5  # lanes to hosts that nobody knows yet; as many as Postfix begins with
HOLD_SECONDS = 30.0  # no more lanes than there are, after one failed
FIRST_REST = 60.0
LONGEST_REST = 3600.0
JITTER = 0.2  # the part of a rest that chance may take off


class Window:
    """The lanes that may have a task at a time.

    It begins small, and is one wider with each success as long as nothing has failed: all lanes busy, that is twice as
    wide with each round. A failure takes it back to the lanes that still get on; from then on a whole round of
    successes makes it one wider. It is never widened while it is not used up.
    """

    __slots__ = ("_held_until", "_quick", "_size", "row")

    def __init__(self, initial: int = INITIAL) -> None:
        self._size = float(initial)
        self._quick = True
        self._held_until = 0.0
        self.row = 0  # failures since the last success

    @property
    def limit(self) -> int:
        """At least 1."""
        return int(self._size)

    def succeeded(self, working: int, ceiling: int, now: float) -> bool:
        """A host took or refused a message, with `working` lanes at work. True if one more lane may be, up to
        `ceiling` of them."""
        self.row = 0
        size = self._size
        if working < int(size) or size >= ceiling or now < self._held_until:
            return False
        # A rounding error must not keep it below a whole number for another round.
        self._size = min(size + (1.0 if self._quick else 1.0 / int(size) + 1e-9), float(ceiling))
        return int(self._size) > int(size)

    def failed(self, others: int, now: float) -> None:
        """A lane could not use any host, or lost it in the middle of a message; `others` are those that still can."""
        self.row += 1
        self._quick = False
        self._size = max(1.0, min(self._size - 1.0, float(others)))
        self._held_until = now + HOLD_SECONDS


class Rest:
    """The time in which hosts are left alone because all lanes to them failed; twice as long each time."""

    __slots__ = ("looked", "times", "until")

    def __init__(self) -> None:
        self.times = 0  # failed looks in a row
        self.looked = 0.0  # when the last one failed
        self.until = 0.0  # when the next one is permitted; 0.0 = at once

    def failed(self, now: float, chance: float) -> None:
        """A look failed. `chance` in 0..1 makes destinations that failed together part."""
        wait = min(FIRST_REST * 2.0 ** min(self.times, 10), LONGEST_REST)
        self.times += 1
        self.looked = now
        self.until = now + wait * (1.0 - JITTER * chance)

    def answered(self) -> None:
        """A host was reached."""
        self.times = 0
        self.until = 0.0

    def look_now(self) -> None:
        """Somebody wants it looked at; how often it failed is kept."""
        self.until = 0.0

    def lasts(self, now: float) -> bool:
        """True while nobody is to connect."""
        return self.looked <= now < self.until
