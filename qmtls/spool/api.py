"""The queue as an interface. Every method may block on the disk; `net.commit` calls them off the reactor.

The states of a message are those of the table in docs/queue.md: being received, accepted, waiting, held, gone.
Acceptance is one operation: the rename inside `commit`. Whatever fails before it leaves nothing behind;
whatever fails after it leaves the message accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from qmtls.smtp.envelope import Envelope


class SpoolError(Exception):
    """The disk did not do as asked. Ours, temporary; `full` when space or inodes ran out (452 4.3.1)."""

    def __init__(self, why: str, full: bool = False) -> None:
        super().__init__(why)
        self.full = full


class NotInSpool(Exception):
    """No such message: it was delivered, removed, or never was."""


class Malformed(Exception):
    """A file in the queue is not one of ours or was cut; it is named in the log and left where it is."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One entry of a listing, made from names and times only: no file is opened for it."""

    id: str
    due: float  # Unix seconds; 0.0 = never tried, held, or to be returned
    held: bool = False
    returning: bool = False  # an operator wants it returned to its sender; its log says why


ATTEMPT = "attempt"
DELAY = "delay"  # the sender was told that the message is late
HOLD = "hold"
RELEASE = "release"
BOUNCE = "bounce"  # whoever still waits is returned to the sender at once


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of a message's log: what one attempt did to some of its recipients, or a hold or release.

    `done` and `failed` are recipients' indices in the envelope that are never tried again;
    `deferred` those still waiting. `reasons` gives the sentence for each index of failed and deferred.
    `unmet` are those of the deferred who wait because a TLS demand was not met; of a DELAY, those whose sender was
    told so.
    """

    time: float
    done: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    deferred: tuple[int, ...] = ()
    reasons: tuple[tuple[int, str], ...] = ()
    event: str = ATTEMPT  # or DELAY, or an operator's order: HOLD, RELEASE, BOUNCE
    unmet: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Filing:
    """What `record` writes for one message: a line for its log, and when it is due next (held: never by itself).

    The end of an attempt does not undo what an operator ordered meanwhile: a message that is held or returning
    stays so.
    """

    id: str
    attempt: Attempt
    due: float
    held: bool = False
    returning: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """All of a message but its content: `size` octets of that."""

    waiting: Waiting
    envelope: Envelope
    size: int
    history: tuple[Attempt, ...]


class Content(Protocol):
    """The octets of one stored message behind its envelope, read from the start, any number of times."""

    size: int

    def chunks(self) -> Iterator[bytes]:
        """At most 64 KiB at a time; SpoolError if the file cannot be read to its end."""


class Incoming(Protocol):
    """A message being received. `write` and the spool's `commit` are never called at the same time."""

    id: str
    size: int

    def write(self, data: bytes) -> bool:
        """Only remembers the octets. True: enough was gathered, call `flush` (it blocks) before writing more."""

    def flush(self) -> None:
        """Moves what was gathered to the disk. SpoolError if it does not fit."""

    def abort(self) -> None:
        """Throws everything away. Harmless after commit or a second time."""


# Waits for the disk. One that is nothing but syncs is a `files.Sync`.
Step = Callable[[], None]
# Each yielded step is made before the generator goes on; what it returns is commit's result.
Steps = Generator[Step, None, list[SpoolError | None]]


def run_through(steps: Steps) -> list[SpoolError | None]:
    """Makes all steps here and now."""
    try:
        while True:
            next(steps)()
    except StopIteration as end:
        results: list[SpoolError | None] = end.value
        return results


class Spool(Protocol):
    """One bin of the queue."""

    name: str

    def begin(self, id: str, envelope: Envelope) -> Incoming:
        """A new message. No I/O: small messages touch the disk in `commit` only."""

    def commit(self, batch: Sequence[Incoming]) -> list[SpoolError | None]:
        """Accepts all of the batch with shared syncs. Item i of the result is None when batch[i] is safely stored."""

    def committing(self, batch: Sequence[Incoming]) -> Steps:
        """`commit` in steps, for whoever must not wait: what is quick is done between the steps, each step blocks."""

    def scan(self) -> Iterator[Waiting]:
        """All messages, from names and times only, in no order. Foreign files are left out (see `foreign`), and what
        is not committed yet."""

    def foreign(self) -> Iterable[str]:
        """Names found by the last scan that are not ours, each with its reason: "new/xyz: not a regular file"."""

    def has(self, id: str) -> bool:
        """True if there is such a message, by its name alone; also if the disk does not say."""

    def look(self, id: str) -> Waiting | None:
        """One message's entry of the listing as it is now; None: no such message. As never tried if the disk does not
        say."""

    def envelope(self, id: str) -> Envelope:
        """NotInSpool, Malformed, or SpoolError."""

    def content(self, id: str) -> Content:
        """NotInSpool, Malformed, or SpoolError."""

    def history(self, id: str) -> tuple[Attempt, ...]:
        """The message's log, oldest first; () if it was never tried. A cut last line is ignored."""

    def record(self, batch: Sequence[Filing]) -> list[SpoolError | None]:
        """Appends to logs, syncs, moves to the waiting state, sets the time of the next attempt."""

    def remove(self, ids: Sequence[str]) -> None:
        """The messages are finished: they and their logs go. Unknown ids are ignored."""

    def remove_at_once(self, id: str) -> bool:
        """`remove`, if that is one quick operation here and now. False: nothing was done."""


def ordered_back(history: Iterable[Attempt]) -> Attempt | None:
    """The order to return the message, if that is the last that operators said of it; None if not."""
    last = None
    for attempt in history:
        if attempt.event in (HOLD, RELEASE, BOUNCE):
            last = attempt
    return last if last is not None and last.event == BOUNCE else None


def pending(recipients: int, history: Iterable[Attempt]) -> tuple[int, ...]:
    """Indices of the recipients that are neither done nor failed after `history`."""
    over: set[int] = set()
    for attempt in history:
        over.update(attempt.done, attempt.failed)
    if not over:
        return tuple(range(recipients))
    return tuple(n for n in range(recipients) if n not in over)


def unmet_since(history: Iterable[Attempt]) -> dict[int, float]:
    """Recipients whose last attempt met no TLS demand: the time of the first in a row of such attempts."""
    since: dict[int, float] = {}
    for attempt in history:
        if attempt.event != ATTEMPT:
            continue
        still = frozenset(attempt.unmet)
        for index in (*attempt.done, *attempt.failed, *attempt.deferred):
            if index not in still:
                since.pop(index, None)
        for index in attempt.unmet:
            since.setdefault(index, attempt.time)
    return since
