"""A file of fixed size that all processes of one host map into their memory, with a lock and a number for each.

It holds what may be lost but should not be at every restart. A file that is not ours, of another format or damaged is
put aside and begun anew, and that is said; one of an earlier boot is begun anew without a word (its times mean
nothing). Where no file can be had the same memory is private, which is said too: whoever counts in it goes on.

Locks are fcntl's, on octets of the file: they go when their process ends, however that happens. A process also loses
them by closing any descriptor of the file, so each opens it once; and a child does not inherit them, so open it after
forking.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import stat
import struct
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

HEADER = 4096  # octets; the locks lie on its first ones
PROCESSES = 64  # that can have a number at a time
_MUTEX = PROCESSES  # the octet after those of the processes
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BUSY = frozenset({errno.EAGAIN, errno.EACCES})

_HEAD = struct.Struct("<16s16s16sQI")  # format, boot, salt, size, checksum of the foregoing
_SUMMED = _HEAD.size - 4
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# A process holds the lock for some microseconds. One that is stopped just then must not stop the others.
PATIENCE = 0.2  # seconds that are waited for it
PAUSE = 0.0001  # between two tries
RESPITE = 10.0  # seconds without waiting after patience has ended
ATTEMPTS = 5  # to open a file that others open or replace at the same time

# On btrfs a write that copies needs room, and a write to mapped memory without room ends the process (SIGBUS).
_GET_FLAGS, _SET_FLAGS, _NO_COPY = 0x80086601, 0x40086602, 0x00800000


EARLIER_BOOT = "is of an earlier boot"


class Unusable(Exception):
    """No file can be had; str() says why."""


class HostFile:
    """`memory` has `size` octets from HEADER on, zero in a new file. `shared` False: only this process sees it."""

    def __init__(self, path: Path, format: bytes, size: int, say: Callable[[str], None]) -> None:
        self.path = path
        self._format = format
        self._size = HEADER + size
        self._say = say
        self._fd = -1
        self._inode = 0
        self._rests_until = 0.0
        self.number = -1  # of this process; -1 = there are too many
        self.shared = False
        try:
            self._fd = self._open()
            self.memory = mmap.mmap(self._fd, self._size)
            self._inode = os.fstat(self._fd).st_ino
            self.shared = True
            self.number = next((n for n in range(PROCESSES) if self._try(n)), -1)
        except (OSError, ValueError, Unusable) as problem:
            self._give_up(getattr(problem, "strerror", None) or str(problem))
        self.salt = _HEAD.unpack_from(self.memory)[2]

    def close(self) -> None:
        """Ends this process's part in it; its locks go."""
        self.memory.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # ------------------------------------------------------------ locks

    def lock(self) -> bool:
        """True: no other process is between `lock` and `unlock`. False: one has been for too long; leave it."""
        try:
            return self._fd < 0 or self._try(_MUTEX) or self._wait()
        except OSError:  # a file system that has no locks any more
            return False

    def unlock(self) -> None:
        """Others may count again."""
        if self._fd >= 0:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _MUTEX)

    def lives(self, number: int) -> bool:
        """Does a process with this number run?"""
        if number == self.number or self._fd < 0:
            return True
        free = self._try(number)
        if free:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, number)
        return not free

    def _try(self, octet: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, octet)
        except OSError as problem:
            if problem.errno not in _BUSY:
                raise
            return False
        return True

    def _wait(self) -> bool:
        now = time.monotonic()
        if now < self._rests_until:
            return False
        while time.monotonic() < now + PATIENCE:
            time.sleep(PAUSE)
            if self._try(_MUTEX):
                return True
        self._rests_until = now + PATIENCE + RESPITE
        self._say(f"{self.path}: its lock is held by a process that does not go on; not counted for a moment")
        return False

    # ------------------------------------------------------------ is it still the file?

    def is_whole(self) -> bool:
        """False: somebody cut it, and whoever touches what is missing is killed."""
        return not self.shared or self.memory.size() >= self._size

    def is_current(self) -> bool:
        """False: there is another file in its place, or none, and new processes do not see this one.

        A file of another boot stays where it is: it belongs to another host with the same directory.
        """
        if not self.shared:
            return False
        try:
            if self.path.lstat().st_ino == self._inode:
                return True
            fd = os.open(self.path, _FLAGS)
        except OSError:
            return False
        try:
            return self._fault(fd) == EARLIER_BOOT
        finally:
            os.close(fd)

    # ------------------------------------------------------------ opening

    def _open(self) -> int:
        """A descriptor of a file that is good. OSError, Unusable."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        for _ in range(ATTEMPTS):
            try:
                fd = os.open(self.path, _FLAGS)
            except FileNotFoundError:
                self._make()
                continue
            except OSError as problem:
                if problem.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise
                self._put_aside("is no file")
                continue
            fault = self._fault(fd)
            if fault is None:
                return fd
            os.close(fd)
            self._put_aside(fault)
        raise Unusable("others replace it all the time")

    def _fault(self, fd: int) -> str | None:
        """Why it cannot be used; None = it can."""
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return "is no file"
        head = os.pread(fd, _HEAD.size, 0)
        if len(head) < _HEAD.size or found.st_size != self._size:
            return "has not the right size"
        format, boot, _, size, checksum = _HEAD.unpack(head)
        if format != self._format or size != self._size or checksum != zlib.crc32(head[:_SUMMED]):
            return "is damaged, or something else"
        return None if boot == _boot() else EARLIER_BOOT

    def _put_aside(self, fault: str) -> None:
        if fault == EARLIER_BOOT:
            self.path.unlink(missing_ok=True)
            return
        aside = self.path.with_name(self.path.name + ".bad")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return  # somebody else was faster
        self._say(f"{self.path}: {fault}; put aside as {aside.name}, and begun anew")

    def _make(self) -> None:
        """Puts a new file there, unless another process has. Its octets are reserved: a full disk is met here only."""
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _do_not_copy(fd)
            os.posix_fallocate(fd, 0, self._size)
            os.pwrite(fd, self._head(), 0)
            os.link(temporary, self.path)
        except FileExistsError:
            pass
        finally:
            os.close(fd)
            temporary.unlink(missing_ok=True)

    def _head(self) -> bytes:
        head = _HEAD.pack(self._format, _boot(), secrets.token_bytes(16), self._size, 0)[:_SUMMED]
        return head + struct.pack("<I", zlib.crc32(head))

    def _give_up(self, why: str) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.shared, self.number = False, 0
        self.memory = mmap.mmap(-1, self._size)
        self.memory[: _HEAD.size] = self._head()
        self._say(f"{self.path}: {why}; until it can be used each worker counts for itself")


def _do_not_copy(fd: int) -> None:
    """Overwriting needs no room from now on. Only btrfs knows this of a file; to others it does not apply."""
    flags = bytearray(8)
    try:
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        (found,) = struct.unpack_from("=I", flags)
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=Q", found | _NO_COPY))
    except OSError:
        pass


def _boot() -> bytes:
    """Sixteen octets that are others after the next boot; the same for ever where the system does not tell."""
    try:
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    except (OSError, ValueError):
        return bytes(16)
