"""Lines for the log through a pipe that never blocks mail: what nobody reads is dropped and counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), "?")  # and what ends lines
FLUSH_SECONDS = 0.05  # lines gathered into one write
MAX_HELD = 1024 * 1024  # octets kept while the reader is slow


def one_line(text: str) -> str:
    """The same text without a character that could end the line, tell the reader's terminal something, or be written
    to no file."""
    return text if text.isprintable() else text.translate(_CONTROLS).encode("utf-8", "replace").decode("utf-8")


class Stamp:
    """The time of now for a line: "2026-11-22T15:04:05.678Z"; the second is formatted once."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second = 0
        self._text = ""

    def __call__(self) -> str:
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int(now * 1000) % 1000:03d}Z"


class LineLog:
    """Lines get the time and `prefix`. Also a text file to write to, for observers that want one."""

    def __init__(self, clock: Any, fd: int, prefix: str = "", stamp: Callable[[], str] | None = None) -> None:
        self._clock = clock
        self._prefix = prefix
        self._stamp = stamp or Stamp()
        self._fd = fd
        self._held: list[bytes] = []
        self._size = 0
        self._dropped = 0
        self._timer: Any = None
        os.set_blocking(fd, False)

    def say(self, line: str) -> None:
        """One line, with the time before it."""
        self.write(f"{self._stamp()} {self._prefix}{one_line(line)}\n")

    def write(self, text: str) -> None:
        """Text as it is; dropped and counted when too much waits for the reader."""
        data = text.encode("utf-8", "replace")
        if self._size + len(data) > MAX_HELD:
            self._dropped += 1
            return
        self._held.append(data)
        self._size += len(data)
        if self._timer is None:
            self._timer = self._clock.callLater(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Writes what waits, as far as the reader takes it."""
        self._timer = None
        if self._dropped and not self._held:
            self._held.append(b"%d log lines were dropped: nobody read them\n" % self._dropped)
            self._dropped = 0
        data = b"".join(self._held)
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            written = len(data)  # the reader is gone, and with it soon this process
        rest = data[written:]
        self._held = [rest] if rest else []
        self._size = len(rest)
        if rest or self._dropped:
            self._timer = self._clock.callLater(FLUSH_SECONDS, self.flush)
