"""When a message is tried again: qmail's schedule, stretched a little so that mail that failed together parts."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from qmtls.delivery.outcome import Outcome

# qmail-send's chanskip for remote mail: attempt n (from 0) comes at 400 n^2 seconds of age.
SKIP = 20
# The longest stretch, as a part of the wait.
JITTER = 0.1
# Seconds until the first probe of a next hop that met no TLS demand, if control/policyretest does not say.
FIRST_RETEST = 300
# Each wait is twice the one before, up to so many times the first.
MOST_RETEST = 12


def next_due(arrived: float, now: float, chance: float) -> float:
    """Unix seconds of the next attempt, always later than `now`. `chance` in 0..1 picks the stretch.

    qmail: next = birth + (floor(sqrt(age)) + 20)^2. It is counted from now, so that a clock that was set
    back by a year costs 400 seconds and not a year.
    """
    age = max(0.0, now - arrived)
    wait = (isqrt(int(age)) + SKIP) ** 2 - age
    return now + wait * (1.0 + JITTER * chance)


def retest_wait(first: float, failed: int, chance: float) -> float:
    """Seconds until the next probe of a next hop, `failed` of them having met no TLS demand, one after the other.

    `first` is control/policyretest: 300 gives 5, 10, 20, 40 minutes, and then each hour. `chance` as in `next_due`.
    """
    return first * min(1 << min(failed, MOST_RETEST), MOST_RETEST) * (1.0 + JITTER * chance)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long mail waits, in seconds: `policy` where a TLS demand is not met, else `general` (queuelifetime)."""

    general: float
    policy: float

    def of(self, outcome: Outcome) -> float:
        """What holds for a recipient whose last outcome is this one."""
        return self.policy if outcome.unmet else self.general


def expired(arrived: float, now: float, lifetime: float) -> bool:
    """True if the attempt made at `now` is the last: what it defers has failed (qmail's queuelifetime)."""
    return now - arrived > lifetime
