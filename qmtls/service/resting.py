"""The rests of a destination: its own, when DNS does not help, and that of its hosts.

Hosts that do not answer rest for all next hops that lead to them. Mail that comes during a rest is told when the last
look was, what it found, and when the next one is permitted; it is due then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from math import inf

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.window import Rest
from qmtls.net.channel import Channel
from qmtls.service.budget import Pool

# RFC 3463: no answer from a host, bad connection. It does not depend on what was asked of it.
_SILENT = frozenset({"4.4.1", "4.4.2"})


class Resting:
    """`name` is the next hop's, for people."""

    __slots__ = ("_name", "_now", "_outcome", "_say", "rest")

    def __init__(self, name: str, now: Callable[[], float], say: Callable[[str], None]) -> None:
        self.rest = Rest()
        self._name = name
        self._now = now
        self._say = say
        self._outcome: Outcome | None = None  # of the last look

    def begin(self, pool: Pool, outcome: Outcome, chance: float) -> None:
        """The last lane found no host that can be used. `chance` in 0..1."""
        silent = is_silence(outcome) and pool.working <= 1
        rest = pool.rest if silent else self.rest
        now = self._now()
        rest.failed(now, chance)
        self._outcome = outcome
        if silent:
            pool.why = outcome.reason
        until = f'failed={rest.times} next="{_time(rest.until)}"'
        self._say(f'resting destination="{self._name}" {until} reason="{outcome.reason}"')

    def answered(self, pool: Pool) -> None:
        self._say(f'answers destination="{self._name}" failed={max(self.rest.times, pool.rest.times)}')
        self.rest.answered()
        pool.rest.answered()

    def lasts(self, pool: Pool) -> bool:
        """Nobody is to connect now."""
        now = self._now()
        return self.rest.lasts(now) or pool.rest.lasts(now)

    def seconds_left(self, pool: Pool) -> float:
        now = self._now()
        return max((rest.until - now for rest in (self.rest, pool.rest) if rest.lasts(now)), default=0.0)

    def look_now(self, pool: Pool, since: float = inf) -> None:
        """Ends rests whose last look was before `since`."""
        for rest in (self.rest, pool.rest):
            if rest.looked < since:
                rest.look_now()

    def told(self, pool: Pool) -> Outcome | None:
        """For a message that comes during a rest; None if there is none now."""
        now = self._now()
        longest = max((rest for rest in (self.rest, pool.rest) if rest.lasts(now)), key=_until, default=None)
        if longest is None:
            return None
        if longest is self.rest and self._outcome is not None:
            outcome = self._outcome
        else:
            outcome = Outcome(Fate.DEFERRED, pool.why, "4.4.1")
        reason = f"not asked again after {_time(longest.looked)}: {outcome.reason}"
        return replace(outcome, reason=f"{reason}; the next look is at {_time(longest.until)}", look=longest.until)


def is_silence(outcome: Outcome) -> bool:
    """It speaks of the hosts, and not of what this destination demands of them."""
    return outcome.status in _SILENT and not outcome.unmet


def broken_off(channel: Channel) -> Outcome:
    """What a channel that was lost in the middle of another message means for those in line."""
    ended = channel.ended
    assert ended is not None
    said = f": {ended.reply}" if ended.reply is not None else ""
    reason = (
        f"{channel.host} took no message to its end lately; the last time: {ended.why} at {ended.stage.value}{said}"
    )
    return Outcome(Fate.DEFERRED, reason, "4.4.2")


def _until(rest: Rest) -> float:
    return rest.until


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
