"""What operators order for mail that waits: held by a rule, held by name, returned to its sender.

An order given by name stands in the message's log and in the time of its file, a rule in `control/holds`. Both are
asked before an attempt, and once more when a message that waited in line comes to its turn.
"""

from __future__ import annotations

from collections.abc import Iterable

from qmtls.delivery.holds import Hold, Holds
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.service.attempt import Attempt, Task
from qmtls.spool.api import Attempt as Entry

NOT_NOW = "4.3.2"  # RFC 3463: system not accepting network messages
RETURNED = "5.3.2"
RETURNED_WORDS = "returned by the administrator before it could be delivered"

_ORDERED = Outcome(Fate.HELD, "an operator gave an order for it", NOT_NOW)


def held_by(hold: Hold) -> Outcome:
    """For whom a rule holds."""
    return Outcome(Fate.HELD, hold.sentence, NOT_NOW)


def held_now(attempt: Attempt, indices: Iterable[int], holds: Holds, now: float) -> dict[int, Outcome]:
    """The outcomes of those of `indices` whom a rule holds. Only while the envelope is in memory."""
    if not holds:
        return {}
    assert attempt.envelope is not None
    return {index: held_by(hold) for index, hold in holds.held(attempt.envelope, indices, now).items()}


def held_meanwhile(task: Task, holds: Holds, now: float) -> dict[int, Outcome]:
    """For a task that was in line."""
    return held_now(task.attempt, task.recipients, holds, now)


def ordered_meanwhile(attempt: Attempt) -> Outcome | None:
    """For a message that was in line: not None if its file says that it is held, or to be returned."""
    found = attempt.spool.look(attempt.id)
    if found is None or not (found.held or found.returning):
        return None
    attempt.look_again = True
    return _ORDERED


def returned(indices: Iterable[int], order: Entry) -> dict[int, Outcome]:
    """What becomes of a message that is to be returned; the words are those of the order."""
    words = dict(order.reasons)
    return {index: Outcome(Fate.FAILED, words.get(index, RETURNED_WORDS), RETURNED) for index in indices}
