"""The queue as the commands see it: all bins read where they lie, without a lock, while their owners work in them.

A message may be delivered or move while it is looked at: then it is simply not there. A file that is not ours is
reported and left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from qmtls.cli.home import why
from qmtls.cli.output import CommandError
from qmtls.cli.owner import as_owner_of
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import Attempt, Malformed, NotInSpool, SpoolError, Waiting, pending
from qmtls.spool.bins import is_bin, poke
from qmtls.spool.maildir import MaildirSpool


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in one bin, read whole except for its content."""

    bin: MaildirSpool
    waiting: Waiting
    envelope: Envelope
    size: int
    history: tuple[Attempt, ...]

    @property
    def id(self) -> str:
        return self.waiting.id

    @property
    def to(self) -> tuple[int, ...]:
        """Indices of the recipients still waiting."""
        return pending(len(self.envelope.recipients), self.history)

    @property
    def addresses(self) -> list[str]:
        return [str(self.envelope.recipients[n].address) for n in self.to]

    @property
    def sender(self) -> str:
        """ "" is the null reverse-path."""
        return "" if self.envelope.reverse_path is None else str(self.envelope.reverse_path)

    @property
    def next(self) -> float | None:
        """When it is tried next; since its arrival if it never was; None while it is held."""
        if self.waiting.held:
            return None
        return self.waiting.due or self.envelope.arrival.time

    @property
    def attempts(self) -> int:
        return sum(1 for attempt in self.history if attempt.event == "attempt")

    @property
    def reason(self) -> str:
        """The last attempt's sentence for the first recipient still waiting."""
        waiting = self.to
        for attempt in reversed(self.history):
            for index, sentence in attempt.reasons:
                if waiting and index == waiting[0]:
                    return sentence
        return ""


class Queue:
    """Every bin below one queue directory. A context manager; `trouble` gets a line for what cannot be read."""

    def __init__(self, path: Path, trouble: Callable[[str], None]) -> None:
        self._path = path
        self._trouble = trouble
        self._stack = ExitStack()
        self._bins: list[MaildirSpool] = []

    def __enter__(self) -> Self:
        try:
            names = sorted(entry.name for entry in os.scandir(self._path) if is_bin(entry.name) and entry.is_dir())
        except OSError as problem:
            raise CommandError(f"{self._path}: {why(problem)}; --home names the home directory") from None
        self._stack.enter_context(as_owner_of(self._path))
        for name in names:
            try:
                spool = MaildirSpool(self._path / name)
            except SpoolError as problem:
                self._trouble(str(problem))
                continue
            self._stack.callback(spool.close)
            self._bins.append(spool)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def entries(self) -> Iterator[Entry]:
        """Every message, oldest first (by queue id); only names are in memory at once."""
        found = self._scan(lambda id: True)
        for spool in self._bins:
            for line in spool.foreign():
                self._trouble(f"{spool.path}/{line}")
        yield from self._read_all(found, sorted(found))

    def find(self, ids: Sequence[str]) -> Iterator[Entry]:
        """The messages of these ids, in this order, as far as there are any."""
        wanted = dict.fromkeys(ids)
        found = self._scan(wanted.__contains__)
        yield from self._read_all(found, [id for id in wanted if id in found])

    def _scan(self, wanted: Callable[[str], bool]) -> dict[str, tuple[MaildirSpool, Waiting]]:
        found = {}
        for spool in self._bins:
            try:
                for waiting in spool.scan():
                    if wanted(waiting.id):
                        found[waiting.id] = (spool, waiting)
            except SpoolError as problem:
                self._trouble(str(problem))
        return found

    def _read_all(self, found: dict[str, tuple[MaildirSpool, Waiting]], ids: Iterable[str]) -> Iterator[Entry]:
        for id in ids:
            if entry := self._read(*found[id]):
                yield entry

    def _read(self, spool: MaildirSpool, waiting: Waiting) -> Entry | None:
        id = waiting.id
        try:
            return Entry(spool, waiting, spool.envelope(id), spool.content(id).size, spool.history(id))
        except NotInSpool:
            return None  # delivered meanwhile
        except (Malformed, SpoolError) as problem:
            self._trouble(f"{spool.path}: {id}: {problem}")
            return None


def retry_now(entry: Entry, now: float) -> bool:
    """Makes a waiting message due. False if there is nothing to do: it was never tried, is held, or is gone."""
    if entry.waiting.held or not entry.waiting.due:
        return False
    try:
        os.utime(entry.bin.path / "cur" / entry.id, (now, now), follow_symlinks=False)
        poke(entry.bin.path)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise CommandError(f"{entry.bin.path}/cur/{entry.id}: {why(problem)}") from None
    return True
