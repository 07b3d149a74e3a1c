"""Which bins of the queue are ours: found under HOME/queue, held by a lock on their `owner` file.

The lock is fcntl's: it goes when the process ends, however that happens, and on a cluster file system when the
host does. A process also loses it by closing any descriptor of the file, so `owner` is opened here only, once
per bin. Locks are not inherited: take bins after the process has forked, and one `Bins` per process.

A worker receives into one bin of its own and adopts what dead workers left, so that no mail waits for a
process that will not come back. Empty bins are not adopted: they are for the next worker.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from qmtls.net.sharedsync import SharedSync
from qmtls.spool.api import SpoolError
from qmtls.spool.bins import INJECT, OWNER, is_bin, is_numbered
from qmtls.spool.files import DIRECTORY_MODE, FILE_MODE, OsFiles, trouble
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.spares import MOST

INJECT_TMP_AGE = 86_400.0  # seconds that a process may take to add one message
_BUSY = frozenset({errno.EAGAIN, errno.EACCES})


class Bins:
    """The bins of one process under the directory `queue`, which is made if absent."""

    def __init__(self, queue: Path, now: Callable[[], float] = time.time) -> None:
        self._queue = queue
        self._shared = SharedSync()
        self._files = OsFiles(self._shared)
        self._now = now
        self._locks: dict[str, int] = {}
        self._spools: dict[str, MaildirSpool] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._warned: set[str] = set()
        self.warnings: list[str] = []  # what is no bin, and what cannot be opened, each once

    def acquire_own(self) -> MaildirSpool:
        """The first numbered bin that nobody holds, or a new one. SpoolError."""
        numbers = sorted(int(name) for name in self._names() if is_numbered(name))
        for number in numbers:
            spool = self._take(str(number))
            if spool is not None:
                return spool
        number = numbers[-1] if numbers else 0
        while True:
            number += 1
            spool = self._take(str(number))  # None: another worker made it in the same moment
            if spool is not None:
                return spool

    def adopt(self) -> list[MaildirSpool]:
        """Bins with mail that nobody holds any more, and `inject`: those that became ours by this call.

        A bin that cannot be opened is named in `warnings` and tried again by the next call.
        """
        adopted = []
        try:
            candidates = [INJECT, *(name for name in self._names() if name != INJECT and self._has_mail(name))]
        except SpoolError as error:
            self._warn(str(error))
            return []
        for name in candidates:
            try:
                spool = self._take(name)
            except SpoolError as error:
                self._warn(str(error))
                continue
            if spool is not None:
                adopted.append(spool)
        return adopted

    def poked(self) -> list[MaildirSpool]:
        """Bins into which somebody else put mail or times since the last call, by two cheap looks at each.

        Adding a message changes the time of `new` (looked at in `inject` only: elsewhere we change it ourselves); who
        changes a time or releases a message touches `owner` (spool.bins.poke).
        """
        return [spool for name, spool in self._spools.items() if self._changed(name)]

    def _changed(self, name: str) -> bool:
        try:
            owner = (self._queue / name / OWNER).stat().st_mtime_ns
            new = (self._queue / name / "new").stat().st_mtime_ns if name == INJECT else 0
        except OSError:  # the next scan says what is wrong
            return True
        before = self._seen.get(name)
        self._seen[name] = (owner, new)
        return before != (owner, new)

    def tidy(self) -> None:
        """Once a second, off the reactor: each of them lets go of what it does not need."""
        for spool in tuple(self._spools.values()):
            spool.tidy()

    def release(self, spool: MaildirSpool) -> None:
        """Gives one bin back; whoever notices takes it."""
        fd = self._locks.pop(spool.name, -1)
        if fd >= 0:
            del self._spools[spool.name]
            spool.close()
            os.close(fd)

    def release_all(self) -> None:
        """Gives everything back, at the end."""
        for spool in tuple(self._spools.values()):
            self.release(spool)

    def _names(self) -> Iterator[str]:
        try:
            self._queue.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            names = sorted(entry.name for entry in self._queue.iterdir())
        except OSError as error:
            raise trouble(f"list {self._queue}", error) from error
        for name in names:
            if is_bin(name) and (self._queue / name).is_dir():
                yield name
            else:
                self._warn(f"{self._queue / name}: not a bin of the queue")

    def _warn(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            self.warnings.append(line)

    def _has_mail(self, name: str) -> bool:
        for part in ("new", "cur"):
            try:
                with os.scandir(self._queue / name / part) as entries:
                    if next(entries, None) is not None:
                        return True
            except OSError:  # no bin yet, or one whose owner says what is wrong with it
                continue
        return False

    def _take(self, name: str) -> MaildirSpool | None:
        """The bin, made if absent, locked and cleared up; None if another process has it. SpoolError."""
        if name in self._locks:
            return None
        path = self._queue / name
        fd = _lock(path / OWNER)
        if fd is None:
            return None
        try:
            spool = MaildirSpool(path, self._files, spares=self._spares(path))
            try:
                spool.prepare(self._now() - INJECT_TMP_AGE if name == INJECT else None)
            except SpoolError:
                spool.close()
                raise
        except SpoolError:
            os.close(fd)
            raise
        self._locks[name] = fd
        self._spools[name] = spool
        self._changed(name)  # what is put in from now on is news, also before the first look
        return spool

    def _spares(self, path: Path) -> int:
        """Files are used again in bins that we alone receive into, on a local disk: nobody there reads the old ones."""
        return MOST if is_numbered(path.name) and self._shared.knows(path.stat().st_dev) else 0


def _lock(owner: Path) -> int | None:
    """A descriptor of `owner` that holds its lock and says who we are; None if another process holds it."""
    try:
        owner.parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        fd = os.open(owner, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    except OSError as error:
        raise trouble(f"open {owner}", error) from error
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = f"{socket.gethostname()} {os.getpid()}\n".encode("ascii", "replace")
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)
    except OSError as error:
        os.close(fd)
        if error.errno in _BUSY:
            return None
        raise trouble(f"lock {owner}", error) from error
    return fd
