"""Reading queue files: the head, and the octets behind it.

A file that is not whole, not ours, or not readable as a plain file is `Malformed`, whoever asks: it is
never delivered in part. Trouble of the disk itself is `SpoolError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qmtls.spool.api import Malformed, SpoolError
from qmtls.spool.files import UNREADABLE, Files, trouble
from qmtls.spool.history import LOG_LIMIT
from qmtls.spool.record import HEAD_LIMIT, Head, decode_head, ends

CHUNK = 64 * 1024  # octets read at a time; smaller messages are read whole, with their head
LOG_CHUNK = 4096  # of a log: most have no more

Opener = Callable[[], int]  # a descriptor of the message's file, wherever it is by now


def read_head(files: Files, fd: int) -> tuple[Head, bytes]:
    """The head, and all octets read on the way. Malformed if the file's length is not what the head says."""
    read, length = read_start(files, fd, CHUNK)
    return understood(read, length), read


def read_start(files: Files, fd: int, first: int) -> tuple[bytes, int]:
    """Octets with the whole head, if there is one, and the length of the file. Malformed, SpoolError.

    `first`: how many are read at once, at first.
    """
    try:
        read = files.read(fd, first, 0)
        while read and not ends(read):
            more = files.read(fd, min(len(read), HEAD_LIMIT), len(read))
            if not more:
                break
            read += more
        return read, files.size(fd)
    except OSError as error:
        raise unreadable("read", error) from error


def understood(read: bytes, length: int) -> Head:
    """The head in these first octets of a file of `length`. Malformed also if that is not what the head says."""
    head = decode_head(read)
    if length != head.length + head.size:
        kind = "cut short" if length < head.length + head.size else "longer than it was"
        raise Malformed(f"{kind}: {length - head.length} octets of content, not {head.size}")
    return head


def read_log(files: Files, fd: int) -> bytes:
    """The whole log. Malformed if it is too long, SpoolError."""
    try:
        more = files.read(fd, LOG_CHUNK, 0)
        if len(more) < LOG_CHUNK:
            return more
        log = bytearray(more)
        while more and len(log) <= LOG_LIMIT:
            log += (more := files.read(fd, CHUNK, len(log)))
    except OSError as error:
        raise unreadable("read its log", error) from error
    if len(log) > LOG_LIMIT:
        raise Malformed(f"its log is longer than {LOG_LIMIT} octets")
    return bytes(log)


def unreadable(what: str, error: OSError) -> Malformed | SpoolError:
    """Malformed where this very file is the trouble (rights, a link, a directory), else SpoolError."""
    if error.errno in UNREADABLE:
        return Malformed(f"{what}: {error.strerror}")
    return trouble(what, error)


class StoredContent:
    """A small message, in memory."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def chunks(self) -> Iterator[bytes]:
        if self._data:
            yield self._data


class FileContent:
    """A message that is read while it is sent. Each `chunks` opens the file anew, for it may have been moved."""

    __slots__ = ("_files", "_offset", "_open", "size")

    def __init__(self, files: Files, opener: Opener, head: Head) -> None:
        self._files = files
        self._open = opener
        self._offset = head.length
        self.size = head.size

    def chunks(self) -> Iterator[bytes]:
        offset, end = self._offset, self._offset + self.size
        fd = self._open()
        try:
            while offset < end:
                try:
                    data = self._files.read(fd, min(CHUNK, end - offset), offset)
                except OSError as error:
                    raise trouble("read content", error) from error
                if not data:
                    raise SpoolError(f"content cut short: {end - offset} octets are missing")
                offset += len(data)
                yield data
        finally:
            self._files.close(fd)
