"""A disk that remembers the order of its writes: one file, `disk`, in a FUSE file system of its own process.

    python -m tests.power.logdisk MOUNTPOINT IMAGE LOG

It prints "ready" when it can be used. Each write is appended to LOG before it goes to IMAGE: 'W', offset (8 octets),
length (4), data; each flush as 'F', 0, 0. A power cut leaves what was written before the last flush, and any part
of what came after it.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

RECORD = struct.Struct("<cQI")


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    data: bytes


def replay(log: Path, until: int, size: int, chance: random.Random | None = None) -> bytearray:
    """The disk after a power cut at `until` octets of LOG: up to the last flush, by `chance` some of what follows."""
    image = bytearray(size)
    unflushed: list[Write] = []
    for record in _records(log, until):
        if record is not None:
            unflushed.append(record)
            continue
        _apply(image, unflushed)
        unflushed.clear()
    if chance is not None:
        _apply(image, [write for write in unflushed if chance.random() < 0.5])
    return image


def _apply(image: bytearray, writes: list[Write]) -> None:
    for write in writes:
        image[write.offset : write.offset + len(write.data)] = write.data


def _records(log: Path, until: int) -> Iterator[Write | None]:
    """Each write, and None for each flush."""
    with log.open("rb") as file:
        while file.tell() < until:
            kind, offset, length = RECORD.unpack(file.read(RECORD.size))
            yield Write(offset, file.read(length)) if kind == b"W" else None


def serve(mountpoint: str, image: str, log: str) -> None:
    """Runs until it is unmounted."""
    mfusepy: Any = import_module("mfusepy")  # here only: it wants libfuse, which a reader of logs does not
    size = Path(image).stat().st_size
    disk = os.open(image, os.O_RDWR)
    journal = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    class LogDisk(mfusepy.Operations):  # type: ignore[misc]
        def init(self, path: str) -> None:
            print("ready", flush=True)

        def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            if path == "/disk":
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def open(self, path: str, flags: int) -> int:
            return 0

        def read(self, path: str, length: int, offset: int, fh: Any) -> bytes:
            return os.pread(disk, length, offset)

        def write(self, path: str, data: bytes, offset: int, fh: Any) -> int:
            os.write(journal, RECORD.pack(b"W", offset, len(data)) + data)
            return os.pwrite(disk, data, offset)

        def fsync(self, path: str, datasync: int, fh: Any) -> int:
            os.write(journal, RECORD.pack(b"F", 0, 0))
            return 0

    mfusepy.FUSE(LogDisk(), mountpoint, foreground=True, nothreads=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
