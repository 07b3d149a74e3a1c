"""Command lines out of a stream of octets.

A line ends at CRLF and nowhere else. The first offence in the order of the stream decides, so that the result
never depends on how the octets were cut into segments. No more octets of a line than its limit are
ever needed in memory; the rest of a longer one is thrown away as it comes.
"""

from __future__ import annotations

import re
from enum import Enum

# A command is 512 octets at least (RFC 5321 section 4.5.3.1.4). Extensions make MAIL or RCPT longer: SIZE by 26
# (RFC 1870), BODY by 17 (RFC 6152), SMTPUTF8 by 10 (RFC 6531), REQUIRETLS by 11 (RFC 8689), ORCPT, NOTIFY, RET
# and ENVID by 500 (RFC 3461), AUTH by 500 (RFC 4954). All at once: 1576; rounded up.
MAX_COMMAND_LINE = 2048  # octets without CRLF

MAX_SKIPPED = 64 * 1024  # octets of an over-long line that are read past before the session gives up

_END = re.compile(rb"[\r\n]")


class LineFault(Enum):
    """What came instead of a line."""

    TOO_LONG = "too long"  # given once; the rest of the line is skipped by itself
    BARE = "bare CR or LF"  # nothing behind it can be trusted
    ENDLESS = "endless"  # MAX_SKIPPED was not enough


class LineReader:
    """Takes lines off the front of a buffer. After BARE or ENDLESS it must not be asked again."""

    __slots__ = ("_skipped",)

    def __init__(self) -> None:
        self._skipped = -1  # octets of an over-long line thrown away so far; -1 = not within one

    def next(self, buffer: bytearray, limit: int = MAX_COMMAND_LINE) -> bytes | LineFault | None:
        """The next line without its CRLF, or what is wrong with it; None if more octets are needed."""
        if self._skipped >= 0:
            fault = self._skip(buffer)
            if fault or self._skipped >= 0:
                return fault
        # Most of the time one line has come, and nothing else.
        end = len(buffer) - 2
        if 0 <= end <= limit and buffer.find(b"\r") == end and buffer.find(b"\n") == end + 1:
            line = bytes(buffer[:end])
            buffer.clear()
            return line
        found = _END.search(buffer)
        end = found.start() if found else len(buffer)
        if end > limit:
            self._skipped = 0
            return LineFault.TOO_LONG
        if found is None or _cut_at_cr(buffer, end):
            return None
        if not buffer.startswith(b"\r\n", end):
            return LineFault.BARE
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _skip(self, buffer: bytearray) -> LineFault | None:
        found = _END.search(buffer)
        end = found.start() if found else len(buffer)
        self._skipped += end
        del buffer[:end]
        if self._skipped > MAX_SKIPPED:
            return LineFault.ENDLESS
        if found is None or _cut_at_cr(buffer, 0):
            return None
        if not buffer.startswith(b"\r\n"):
            return LineFault.BARE
        del buffer[:2]
        self._skipped = -1
        return None


def _cut_at_cr(buffer: bytearray, at: int) -> bool:
    """True if the buffer ends with the CR at `at`: its LF may still come."""
    return len(buffer) == at + 1 and buffer[at] == 0x0D
