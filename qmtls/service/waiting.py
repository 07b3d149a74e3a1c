"""Mail that waits: what the disk says of a message when its time has come, and who is parked although it has come.

What a rule of `control/holds` keeps back is parked in memory and nowhere else: on the disk it is as it was, so it is
free as soon as the rule is gone, also if that happens while the service is down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qmtls.delivery.holds import Holds
from qmtls.service.attempt import Attempt, Key
from qmtls.spool.api import DELAY, Malformed, NotInSpool, Spool, SpoolError, ordered_back, pending, unmet_since
from qmtls.spool.api import Attempt as Entry


@dataclass(frozen=True, slots=True)
class Due:
    """A message that is due, or why it cannot be attempted. `order`: it is to be returned.

    `seen` is the time of its file, `last` that of the last line in its log.
    """

    key: Key
    attempt: Attempt | Exception
    todo: tuple[int, ...] = ()
    order: Entry | None = None
    seen: float = 0.0
    last: float = 0.0


def read_due(spool: Spool, id: str) -> Due:
    """Blocking: envelope and log. NotInSpool also stands for one that was held meanwhile."""
    key = (spool.name, id)
    try:
        found = spool.look(id)
        if found is None or found.held:
            raise NotInSpool(id)
        envelope = spool.envelope(id)
        history = spool.history(id)
    except (NotInSpool, Malformed, SpoolError) as problem:
        return Due(key, problem)
    attempt = Attempt(spool, id, envelope, tried=bool(history))
    warnings = [entry for entry in history if entry.event == DELAY]
    attempt.warned = bool(warnings)
    attempt.warned_unmet = any(entry.unmet for entry in warnings)
    if any(entry.unmet for entry in history):
        attempt.unmet_since = unmet_since(history)
    todo = pending(len(envelope.recipients), history)
    last = history[-1].time if history else 0.0
    return Due(key, attempt, todo, ordered_back(history), found.due, last)


class Parked:
    """Held by rules, by the rules' sentences."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._parked: dict[Key, str] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._parked

    def add(self, attempt: Attempt) -> None:
        """All of its outcomes say that it is held."""
        sentence = next(iter(attempt.outcomes.values())).reason
        self._parked[attempt.key] = sentence
        self._say(f'held id={attempt.id} reason="{sentence}"')

    def discard(self, key: Key) -> None:
        self._parked.pop(key, None)

    def free(self, holds: Holds, now: float) -> list[Key]:
        """Those whose rule went, or ended: no longer parked."""
        if not self._parked:
            return []
        rules = holds.sentences(now)
        found = [key for key, sentence in self._parked.items() if sentence not in rules]
        for key in found:
            del self._parked[key]
        return found
