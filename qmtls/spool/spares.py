"""Files of finished messages, kept for the next ones: writing over a file costs half of making and removing one.

A spare lies in `tmp`, where nothing counts and the next start clears up. It may be written over only when no power cut
can bring its old name in `new` back, or that name would hold another message, or half of one: so it cools until
a sync of `new` has begun after it left, and ended well. Spares beyond what a second needed go, and all of them
when nothing is received: a finished message does not stay on the disk for long.

Three threads come here (one receives, one syncs, one removes): each step takes or adds by one operation of a deque.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from qmtls.spool.files import Files

SMALL = 64 * 1024  # octets of a file that is kept, envelope included
MOST = 100  # files: as many as one batch of commits


class Spares:
    """`limit` 0: none are kept."""

    __slots__ = ("_cooling", "_files", "_idle", "_least", "_limit", "_ready")

    def __init__(self, files: Files, limit: int) -> None:
        self._files = files
        self._limit = limit
        self._cooling: deque[str] = deque()
        self._ready: deque[str] = deque()
        self._least = 0  # that were ready at any moment since the last `tidy`: nobody needed those
        self._idle = True  # no sync since then

    def keep(self, message: str, spare: str) -> bool:
        """Moves a finished message's file from `new` to `tmp`. False: it is not wanted, or not there. OSError."""
        if len(self._ready) + len(self._cooling) >= self._limit:
            return False
        try:
            self._files.rename(message, spare)
        except FileNotFoundError:
            return False
        self._cooling.append(spare)
        return True

    def cooling(self) -> list[str]:
        """Called before a sync of `new`: what will have cooled by it. Give it to `cooled` or `not_cooled`."""
        taken: list[str] = []
        if self._limit:
            _drain(self._cooling, taken)
        return taken

    def cooled(self, spares: Iterable[str]) -> None:
        """The sync is done."""
        self._idle = False
        self._ready.extend(spares)

    def not_cooled(self, spares: Iterable[str]) -> None:
        """The sync failed."""
        self._cooling.extend(spares)

    def take(self) -> str:
        """The path of a file to write over, the youngest first; "" if there is none."""
        try:
            spare = self._ready.pop()
        except IndexError:
            return ""
        self._least = min(self._least, len(self._ready))
        return spare

    def drop(self, spare: str) -> None:
        """It cannot be used."""
        self._unlink([spare])

    def tidy(self) -> None:
        """Once a second: unlinks what was not needed in the last one."""
        surplus: list[str] = []
        if self._idle:
            _drain(self._cooling, surplus)
        self._idle = True
        for _ in range(min(self._least, len(self._ready))):
            try:
                surplus.append(self._ready.popleft())
            except IndexError:
                break
        self._least = len(self._ready)
        self._unlink(surplus)

    def clear(self) -> None:
        """Unlinks all; nothing is kept from now on."""
        self._limit = 0
        surplus: list[str] = []
        _drain(self._cooling, surplus)
        _drain(self._ready, surplus)
        self._unlink(surplus)

    def _unlink(self, spares: Iterable[str]) -> None:
        for spare in spares:
            try:
                self._files.unlink(spare)
            except OSError:  # it lies in tmp: the next start tries again
                pass


def _drain(queue: deque[str], into: list[str]) -> None:
    try:
        while True:
            into.append(queue.popleft())
    except IndexError:
        pass
