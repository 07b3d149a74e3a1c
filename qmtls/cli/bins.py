"""The queue as the commands see it: all bins read where they lie, without a lock, while their owners work in them.

A message may be delivered or move while it is looked at: then it is simply not there. A file that is not ours is
reported and left alone. Of a long queue only names are in memory, and in no order not even those.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Self

from qmtls.cli.home import why
from qmtls.cli.output import DONE, FINDINGS, CommandError, clean
from qmtls.cli.owner import as_owner_of
from qmtls.delivery.holds import Hold, Holds
from qmtls.net.openfiles import raise_limit
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import (
    ATTEMPT,
    HOLD,
    Attempt,
    Malformed,
    SpoolError,
    Waiting,
    ordered_back,
)
from qmtls.spool.bins import is_bin
from qmtls.spool.directories import MARK
from qmtls.spool.files import Files, OsFiles
from qmtls.spool.glance import ALL, Choice, Glance
from qmtls.spool.history import decode_history, still_waiting
from qmtls.spool.maildir import MaildirSpool

HELD_LAST = "9"  # in an order by time, where times begin with a digit below it


def plain_id(name: str) -> str:
    """The id in a name that a mail reader gave to a message's file."""
    return name.partition(MARK)[0]


class State(Enum):
    """What a message waits for."""

    NEW = "new"  # its first attempt
    WAITING = "waiting"  # its next one
    HELD = "held"
    RETURNING = "returning"  # the report to its sender


class Sort(Enum):
    ARRIVED = "arrived"
    NEXT = "next"
    SIZE = "size"
    NONE = "none"


class Looking(OsFiles):
    """For who changes nothing: there is nothing to make last."""

    def sync(self, fd: int) -> None:
        pass


@dataclass(slots=True)
class Entry:
    """One message in one bin: all but its content, and its log decoded only if somebody asks.

    `to`: indices of the recipients still waiting; `ruled`: those of them whom a standing hold keeps.
    """

    bin: MaildirSpool
    waiting: Waiting
    envelope: Envelope
    size: int
    log: bytes
    to: tuple[int, ...]
    ruled: dict[int, Hold]
    _history: tuple[Attempt, ...] | None = None

    @property
    def id(self) -> str:
        return self.waiting.id

    @property
    def history(self) -> tuple[Attempt, ...]:
        """Malformed."""
        if self._history is None:
            self._history = decode_history(self.log)
        return self._history

    @property
    def recipients(self) -> list[Address]:
        """Those still waiting."""
        return [self.envelope.recipients[n].address for n in self.to]

    @property
    def addresses(self) -> list[str]:
        return [str(address) for address in self.recipients]

    @property
    def sender(self) -> str:
        """ "" is the null reverse-path."""
        return "" if self.envelope.reverse_path is None else str(self.envelope.reverse_path)

    @property
    def state(self) -> State:
        if self.waiting.returning:
            return State.RETURNING
        if self.waiting.held or (self.ruled and len(self.ruled) == len(self.to)):
            return State.HELD
        return State.WAITING if self.waiting.due else State.NEW

    @property
    def held(self) -> bool:
        return self.state is State.HELD

    @property
    def next(self) -> float | None:
        """When it is tried next; since its arrival if it never was; None while it is held."""
        if self.held:
            return None
        return self.waiting.due or self.envelope.arrival.time

    @property
    def attempts(self) -> int:
        return sum(1 for attempt in self.history if attempt.event == ATTEMPT)

    @property
    def reason(self) -> str:
        """The sentence of who holds it, and the last attempt's for the first recipient still waiting."""
        waiting = self.to
        if not waiting:
            return ""
        order = self._order()
        words = order.reasons[0][1] if order is not None and order.reasons else ""
        rule = self.ruled.get(waiting[0])
        if not words and rule is not None:
            words = rule.sentence
        last = self._last_reason(waiting[0])
        return words if not last or last == words else f"{words}; {last}" if words else last

    def _order(self) -> Attempt | None:
        """What an operator said last, if that is in force."""
        if self.waiting.returning:
            return ordered_back(self.history)
        if self.waiting.held:
            return next((one for one in reversed(self.history) if one.event == HOLD), None)
        return None

    def _last_reason(self, recipient: int) -> str:
        for attempt in reversed(self.history):
            if attempt.event == ATTEMPT:
                for index, sentence in attempt.reasons:
                    if index == recipient:
                        return sentence
        return ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are meant. The first two only rule out, from what costs least; the third decides.

    `history`: False if nobody will ask what became of those that are found: then a log that is none is no matter.
    """

    name: Callable[[Waiting], bool] = lambda waiting: True
    octets: Choice = ALL
    entry: Callable[[Entry], bool] = lambda entry: True
    history: bool = True


EVERY = Wanted()


class Queue:
    """Every bin below one queue directory. A context manager; `trouble` gets a line for what cannot be read."""

    def __init__(
        self, path: Path, trouble: Callable[[str], None], holds: Holds | None = None, files: Files | None = None
    ) -> None:
        self._path = path
        self._trouble = trouble
        self.holds = holds or Holds()
        self._files = files or Looking()
        self._now = 0.0
        self._stack = ExitStack()
        self._strangers: list[str] = []
        self._unmarked = False
        self.bins: list[MaildirSpool] = []

    def __enter__(self) -> Self:
        try:
            found = sorted(os.scandir(self._path), key=lambda entry: entry.name)
        except OSError as problem:
            raise CommandError(f"{self._path}: {why(problem)}; --home names the home directory") from None
        raise_limit()  # each bin takes three files
        self._stack.enter_context(as_owner_of(self._path))
        for entry in found:
            if not is_bin(entry.name) or not entry.is_dir():
                self._strangers.append(entry.name)
                continue
            try:
                spool = MaildirSpool(self._path / entry.name, self._files)
            except SpoolError as problem:
                self._trouble(str(problem))
                continue
            self._stack.callback(spool.close)
            self.bins.append(spool)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def entries(self, now: float, sort: Sort = Sort.ARRIVED, wanted: Wanted = EVERY) -> Iterator[Entry]:
        """Every message that is wanted, and a word on each thing that is not ours."""
        self._now = now
        if sort is Sort.NONE:
            for spool in self.bins:
                names = (waiting.id for waiting in self._waiting(spool) if wanted.name(waiting))
                yield from self._read_all(spool, names, wanted)
        else:
            yield from self._sorted(sort, wanted)
        for name in self._strangers:
            self._trouble(f"{self._path / name}: not a bin of the queue")

    def find(self, ids: Iterable[str], now: float, wanted: Wanted = EVERY) -> Iterator[Entry]:
        """The messages of these ids, in this order, as far as there are any, and they are wanted."""
        self._now = now
        named = dict.fromkeys(map(plain_id, ids))
        places = ((spool, id) for id in named if (spool := self._place(id)) is not None)
        for spool, group in groupby(places, key=itemgetter(0)):
            yield from self._read_all(spool, (id for _, id in group), wanted)

    def has(self, id: str) -> bool:
        """True if there is a message of that id, readable or not."""
        return self._place(id) is not None

    def _place(self, id: str) -> MaildirSpool | None:
        found = next((spool for spool in self.bins if spool.look(id) is not None), None)
        if found is None and not self._unmarked:
            self._unmark()
            return self._place(id)
        return found

    def _unmark(self) -> None:
        """Once for a command: a listing gives those their names back that a mail reader renamed."""
        self._unmarked = True
        for spool in self.bins:
            try:
                for _ in spool.scan():
                    pass
            except SpoolError as problem:
                self._trouble(str(problem))

    def scan(self) -> Iterator[Waiting]:
        """Names and times of all messages."""
        for spool in self.bins:
            yield from self._waiting(spool)

    def _sorted(self, sort: Sort, wanted: Wanted) -> Iterator[Entry]:
        """One string a message: its place in the order, its name, its bin."""
        keys: list[str] = []
        for number, spool in enumerate(self.bins):
            names = (waiting for waiting in self._waiting(spool) if wanted.name(waiting))
            keys += [f"{_key(sort, spool, waiting)} {waiting.id} {number}" for waiting in names]
        keys.sort(reverse=sort is Sort.SIZE)
        # One that moved while it was listed may be there twice. Its keys are equal, but by the next time.
        places = (key.rsplit(" ", 2)[1:] for key, _ in groupby(keys))
        for number_, group in groupby(places, key=itemgetter(1)):
            yield from self._read_all(self.bins[int(number_)], (id for id, _ in group), wanted)

    def _waiting(self, spool: MaildirSpool) -> Iterator[Waiting]:
        try:
            yield from spool.scan()
        except SpoolError as problem:
            self._trouble(str(problem))
        for line in spool.foreign():
            self._trouble(f"{spool.path}/{line}")

    def _read_all(self, spool: MaildirSpool, ids: Iterable[str], wanted: Wanted) -> Iterator[Entry]:
        """Who was delivered meanwhile is passed over."""
        for id, found in spool.glances(ids, wanted.octets):
            try:
                if isinstance(found, Exception):
                    raise found
                entry = self._entry(spool, found)
                if wanted.entry(entry) and (not wanted.history or entry.history is not None):
                    yield entry
            except (Malformed, SpoolError) as problem:
                self._trouble(f"{spool.path}: {id}: {problem}")

    def _entry(self, spool: MaildirSpool, found: Glance) -> Entry:
        head = found.head()
        to = still_waiting(len(head.envelope.recipients), found.log)
        ruled = self.holds.held(head.envelope, to, self._now) if self.holds else {}
        return Entry(spool, found.waiting, head.envelope, head.size, found.log, to, ruled)


def _key(sort: Sort, spool: MaildirSpool, waiting: Waiting) -> str:
    """Ids sort by the time of arrival."""
    match sort:
        case Sort.NEXT:
            return HELD_LAST if waiting.held else f"{waiting.due:017.6f}"
        case Sort.SIZE:
            return f"{_octets(spool, waiting.id):020}"
        case _:
            return waiting.id


def _octets(spool: MaildirSpool, id: str) -> int:
    """Of the file, with the envelope."""
    for part in ("new", "cur"):
        try:
            return os.lstat(f"{spool.path}/{part}/{id}").st_size
        except OSError:
            continue
    return 0


class Trouble:
    """Names each unreadable thing once, and remembers that there was one."""

    def __init__(self) -> None:
        self.status = DONE
        self._named: set[str] = set()

    def __call__(self, line: str) -> None:
        self.status = FINDINGS
        if line not in self._named:
            self._named.add(line)
            print(f"qmtls: {clean(line)}", file=sys.stderr)
