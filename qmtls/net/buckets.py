"""Counting together: rates and connections, shared by all workers of a host through HOME/state/buckets.

A rate is a token bucket: as many tokens as its count, filled up evenly in its time. What is kept of it is one number,
the moment when it will be full again (the "theoretical arrival time" of ATM's generic cell rate algorithm), so an
interrupted write leaves one moment or another, and never a mixture. Connections are kept for each address and process:
those of a process that was killed are found to be nobody's when they would be in the way.

The tables have a fixed size, in sets of eight entries that a salted hash chooses. A full set gives up the entry
with the least to lose: who floods us from very many addresses is counted less exactly, and costs nothing more. The
identities' buckets have a table of their own, which addresses cannot flood.

One call takes some microseconds and never fails: where nothing can be counted, everything is allowed.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from qmtls.net.hostfile import HEADER, PROCESSES, HostFile

FILE = "buckets"
FORMAT = b"qmtls buckets 1\n"
IDENTITY = b"i"  # keys that begin with it are in the table of the identities

DIGEST = 16  # octets of a key
WAYS = 8  # entries of a set
_KEYS = WAYS * DIGEST
_RATE_SET = _KEYS + WAYS * 8
_COUNTS = PROCESSES * 2
_PRESENCE_SET = _KEYS + WAYS * _COUNTS

IDENTITY_SETS = 4096
ADDRESS_SETS = 4096
PRESENCE_SETS = 1024
_ADDRESSES_AT = HEADER + IDENTITY_SETS * _RATE_SET
_PRESENCE_AT = _ADDRESSES_AT + ADDRESS_SETS * _RATE_SET
SIZE = _PRESENCE_AT + PRESENCE_SETS * _PRESENCE_SET - HEADER  # 2.7 MB

LOOK_SECONDS = 1.0  # is it still the file that new workers open?
RETRY_SECONDS = 60.0  # with private memory: can it be had now?
HORIZON = 100_000.0  # seconds; no bucket takes longer than a day to fill, so a later moment is damage
SLACK = 1e-6  # seconds of rounding

_MOMENT = struct.Struct("<d")
_MOMENTS = struct.Struct(f"<{WAYS}d")
_COUNT = struct.Struct("<H")
_ROW = struct.Struct(f"<{PROCESSES}H")
_MOST = 0xFFFF
_NOBODY = bytes(_COUNTS)


class Rate(Protocol):
    """`count` in `seconds`."""

    @property
    def count(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Buckets:
    """One for each process, used by its reactor's thread. The file is opened by the first use: fork before.

    `now` must be a clock that all processes share, and that nobody sets.
    """

    def __init__(self, state: Path, say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._path = state / FILE
        self._say = say
        self.now = now
        self._file: HostFile | None = None
        self._look_at = 0.0
        self._held: dict[bytes, int] = {}  # connections of this process
        self._digest: Callable[[bytes], bytes]

    def take(self, key: bytes, rate: Rate, tokens: int = 1) -> float:
        """Takes that many tokens and returns 0.0; or takes none, and returns the seconds until they are there.

        -1 gives one back.
        """
        now = self.now()
        file = self._ready(now)
        digest = self._digest(key)
        sets, start = (IDENTITY_SETS, HEADER) if key[:1] == IDENTITY else (ADDRESS_SETS, _ADDRESSES_AT)
        base = start + int.from_bytes(digest[:4], "little") % sets * _RATE_SET
        cost = rate.seconds * min(tokens, rate.count) / rate.count
        if not file.lock():
            return 0.0
        try:
            memory = file.memory
            way = _find(file, digest, base)
            full = now
            if way >= 0:
                (kept,) = _MOMENT.unpack_from(memory, base + _KEYS + way * 8)
                if kept > now:
                    full = min(kept, now + rate.seconds)  # of a line that had another rate, or damaged
            wait = full + cost - now - rate.seconds
            if wait > SLACK:
                return float(wait)
            if way < 0:
                way = self._least(file, base, now)
                _MOMENT.pack_into(memory, base + _KEYS + way * 8, full + cost)
                memory[base + way * DIGEST : base + (way + 1) * DIGEST] = digest
            else:
                _MOMENT.pack_into(memory, base + _KEYS + way * 8, full + cost)
        finally:
            file.unlock()
        return 0.0

    def enter(self, key: bytes, most: int) -> bool:
        """Counts one more connection; False, and does not, if there are `most` already. Then `leave` is not for it."""
        file = self._ready(self.now())
        own = self._held.get(key, 0)
        if not file.lock():
            self._held[key] = own + 1  # the file has it from the next call about this key on
            return True
        try:
            row = self._row(file, self._digest(key))
            if row >= 0:
                counts = _ROW.unpack_from(file.memory, row)
                elsewhere = sum(counts) - (counts[file.number] if file.number >= 0 else 0)
                if own + elsewhere >= most and (own >= most or own + self._alive(file, row) >= most):
                    return False
                self._held[key] = own + 1
                self._write(file, row, own + 1)
            elif own >= most:
                return False
            else:
                self._held[key] = own + 1
        finally:
            file.unlock()
        return True

    def leave(self, key: bytes) -> None:
        """A counted connection has ended."""
        own = self._held.get(key, 0) - 1
        if own < 0:
            return
        if own:
            self._held[key] = own
        else:
            del self._held[key]
        file = self._ready(self.now())
        if not file.lock():
            return
        try:
            digest = self._digest(key)
            base = _presence_base(digest)
            way = _find(file, digest, base)
            if way >= 0:
                row = base + _KEYS + way * _COUNTS
                self._write(file, row, own)
                if not own and file.memory[row : row + _COUNTS] == _NOBODY:
                    file.memory[base + way * DIGEST : base + (way + 1) * DIGEST] = bytes(DIGEST)
        finally:
            file.unlock()

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # ------------------------------------------------------------ the file

    def _ready(self, now: float) -> HostFile:
        file = self._file
        if file is None or now >= self._look_at or not file.is_whole():
            file = self._look(file, now)
        return file

    def _look(self, file: HostFile | None, now: float) -> HostFile:
        """Opens the file anew if it is another one now, and tells it of our connections."""
        if file is None or not (file.is_current() and file.is_whole()):
            if file is not None:
                file.close()
            file = self._file = HostFile(self._path, FORMAT, SIZE, self._say)
            self._digest = lru_cache(maxsize=4096)(partial(_digest, file.salt))
            self._arrive(file)
        self._look_at = now + (LOOK_SECONDS if file.shared else RETRY_SECONDS)
        return file

    def _arrive(self, file: HostFile) -> None:
        """Clears what a process that had our number before has left, and writes what is ours."""
        if not file.shared or file.number < 0 or not file.lock():
            return
        try:
            for base in range(_PRESENCE_AT, HEADER + SIZE, _PRESENCE_SET):
                for row in range(base + _KEYS, base + _PRESENCE_SET, _COUNTS):
                    self._write(file, row, 0)
            for key, own in self._held.items():
                row = self._row(file, self._digest(key))
                if row >= 0:
                    self._write(file, row, own)
        finally:
            file.unlock()

    @staticmethod
    def _least(file: HostFile, base: int, now: float) -> int:
        """The entry of a set that is full again first; a damaged one at once."""
        moments = _MOMENTS.unpack_from(file.memory, base + _KEYS)
        least = [moment if 0.0 <= moment <= now + HORIZON else 0.0 for moment in moments]
        return least.index(min(least))

    def _row(self, file: HostFile, digest: bytes) -> int:
        """Where the counts for this key lie, made if absent; -1: its set is full of others that are connected."""
        base = _presence_base(digest)
        way = _find(file, digest, base)
        if way < 0:
            rows = range(base + _KEYS, base + _PRESENCE_SET, _COUNTS)
            way = next((way for way, row in enumerate(rows) if file.memory[row : row + _COUNTS] == _NOBODY), -1)
            if way < 0:
                way = next((way for way, row in enumerate(rows) if not self._alive(file, row, own=True)), -1)
            if way < 0:
                return -1
            file.memory[base + way * DIGEST : base + (way + 1) * DIGEST] = digest
        return base + _KEYS + way * _COUNTS

    @staticmethod
    def _write(file: HostFile, row: int, own: int) -> None:
        if file.number >= 0:
            _COUNT.pack_into(file.memory, row + file.number * 2, min(own, _MOST))

    @staticmethod
    def _alive(file: HostFile, row: int, own: bool = False) -> int:
        """The connections of other processes (and our own) in a row, after those of dead ones have been taken out."""
        found = 0
        for number, count in enumerate(_ROW.unpack_from(file.memory, row)):
            if not count or (number == file.number and not own):
                continue
            if file.lives(number):
                found += count
            else:
                _COUNT.pack_into(file.memory, row + number * 2, 0)
        return found


def _digest(salt: bytes, key: bytes) -> bytes:
    """Salted, so that nobody can choose addresses that push a certain one out of its set."""
    return blake2b(key, digest_size=DIGEST, key=salt).digest()


def _presence_base(digest: bytes) -> int:
    return _PRESENCE_AT + int.from_bytes(digest[:4], "little") % PRESENCE_SETS * _PRESENCE_SET


def _find(file: HostFile, digest: bytes, base: int) -> int:
    """Which entry of the set at `base` has this key; -1 if none."""
    place = file.memory.find(digest, base, base + _KEYS) - base
    return place // DIGEST if place >= 0 and not place % DIGEST else -1
