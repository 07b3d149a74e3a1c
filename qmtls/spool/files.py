"""The few file operations that the spool is made of, as one small interface.

Everything that changes the disk goes through it, one operation a call: tests stop after each of them, or let it
fail, and so prove the crash table of docs/queue.md line by line. Paths are strings made by the spool only.
A file is never followed through a link, is made new or not at all, and is nobody else's to read.
"""

# The system's calls themselves: a Path object for each would cost as much as the call.
# ruff: noqa: PTH101, PTH102, PTH104, PTH108

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from qmtls.spool.api import SpoolError

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
TOGETHER = 2  # files from which on one sync for all of them is the cheaper one
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = stat.S_IFREG | FILE_MODE
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What we may not or cannot read as a file: no trouble of the disk, but not ours (ENXIO: a socket, ESPIPE: a fifo).
UNREADABLE = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ESPIPE})


class Files(Protocol):
    """Each method is one system call (or one with a harmless check). They raise OSError."""

    def create(self, path: str) -> int:
        """A new file for writing; FileExistsError if there is one."""

    def reuse(self, path: str) -> tuple[int, int]:
        """An existing file for writing over it, and its size; OSError unless it is plain, ours, and has one name."""

    def append_to(self, path: str) -> int:
        """The file, made if absent, for reading its end and writing behind it."""

    def open(self, path: str) -> int:
        """An existing file for reading."""

    def open_directory(self, path: str) -> int:
        """A directory, to sync it."""

    def write(self, fd: int, parts: Sequence[bytes]) -> None:
        """All of the parts, one behind the other, however many calls the system needs."""

    def patch(self, fd: int, data: bytes, offset: int) -> None:
        """`data` in place of what stands at `offset`."""

    def cut(self, fd: int, size: int) -> None:
        """The file ends behind `size` octets."""

    def start_writing(self, fd: int) -> None:
        """Asks the system to begin writing to the disk now; promises nothing and never fails."""

    def sync(self, fd: int) -> None:
        """Returns when file or directory is on the disk."""

    def sync_together(self, fd: int) -> bool:
        """Syncs all that lies on the file system of `fd`, if that is one call; False: sync each file by itself.

        The system tells of what it could not write since `fd` was opened: it must be older than the files.
        """

    def close(self, fd: int) -> None: ...

    def size(self, fd: int) -> int: ...

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` octets from `offset`; b"" at the end."""

    def exists(self, path: str) -> bool: ...

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def set_mtime(self, path: str, time: float) -> None: ...

    def mtime(self, path: str) -> float: ...

    def mtime_of(self, fd: int) -> float: ...

    def make_directory(self, path: str) -> None:
        """FileExistsError if there is something of that name."""

    def entries(self, path: str) -> Iterator[os.DirEntry[str]]: ...


class OsFiles:
    """The real ones. `shared` is the way to sync many files at once, if the system has one (net.sharedsync)."""

    def __init__(self, shared: Callable[[int], bool] | None = None) -> None:
        self._shared = shared

    def create(self, path: str) -> int:
        return _own(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, FILE_MODE))

    def reuse(self, path: str) -> tuple[int, int]:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | _SAFE)
        found = os.fstat(fd)
        # Another name is somebody's copy of the old message (cp -l), other rights are somebody's wish.
        if found.st_mode != _PLAIN or found.st_nlink != 1:
            os.close(fd)
            raise OSError(errno.EPERM, "changed by somebody else")
        return fd, found.st_size

    def append_to(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_APPEND | _SAFE)
        except FileNotFoundError:
            return _own(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _SAFE, FILE_MODE))

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | _SAFE)  # O_NONBLOCK: a fifo must not hold us

    def open_directory(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def write(self, fd: int, parts: Sequence[bytes]) -> None:
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        written = os.write(fd, data)
        while written < len(data):  # a signal, or a disk that gets full: the next call says why
            written += os.write(fd, memoryview(data)[written:])

    def patch(self, fd: int, data: bytes, offset: int) -> None:
        if os.pwrite(fd, data, offset) != len(data):
            raise OSError(errno.EIO, "short write")

    def cut(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def start_writing(self, fd: int) -> None:
        # With the data of a whole batch under way before the first fsync, ext4 commits its journal once for all
        # of them (measured: 25 to 40 % more messages a second). The advice drops clean pages only: none are.
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except (OSError, AttributeError):  # AttributeError: systems without it
            pass

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_together(self, fd: int) -> bool:
        return self._shared is not None and self._shared(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def exists(self, path: str) -> bool:
        try:
            os.lstat(path)
        except FileNotFoundError:
            return False
        return True

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def set_mtime(self, path: str, time: float) -> None:
        nanoseconds = int(time * 1_000_000_000)
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)

    def mtime(self, path: str) -> float:
        return os.lstat(path).st_mtime

    def mtime_of(self, fd: int) -> float:
        return os.fstat(fd).st_mtime

    def make_directory(self, path: str) -> None:
        os.mkdir(path, DIRECTORY_MODE)
        os.chmod(path, DIRECTORY_MODE)

    def entries(self, path: str) -> Iterator[os.DirEntry[str]]:
        with os.scandir(path) as found:
            yield from found


class Sync:
    """A step that is nothing but syncs. Calling it makes them, and blocks; or whoever has a better way makes them.

    Afterwards `errors` has None or the error for each of `fds`. `above` is an older descriptor on the same file system.
    """

    __slots__ = ("_above", "_files", "errors", "fds")

    def __init__(self, files: Files, fds: Sequence[int], above: int) -> None:
        self.fds = fds
        self.errors: list[OSError | None] = [None] * len(fds)
        self._files = files
        self._above = above

    def __call__(self) -> None:
        files, fds = self._files, self.fds
        if len(fds) >= TOGETHER and files.sync_together(self._above):
            return
        if len(fds) > 1:
            for fd in fds:
                files.start_writing(fd)
        for n, fd in enumerate(fds):
            try:
                files.sync(fd)
            except OSError as error:
                self.errors[n] = error


def _own(fd: int) -> int:
    """A new file with exactly our mode: a umask can take rights away from the owner too, until after a restart."""
    try:
        os.fchmod(fd, FILE_MODE)
    except OSError:
        os.close(fd)
        raise
    return fd


def trouble(what: str, error: OSError) -> SpoolError:
    """The SpoolError for a failed operation; `what` says what was tried, for the log."""
    return SpoolError(f"{what}: {error.strerror or error}", full=error.errno in _FULL)


def sync_directory(files: Files, path: str) -> None:
    """Makes the names in `path` last. OSError."""
    fd = files.open_directory(path)
    try:
        files.sync(fd)
    finally:
        files.close(fd)
