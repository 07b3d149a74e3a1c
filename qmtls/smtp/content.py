"""Message content on the wire: where it ends, what it must not hold, and how its dots are doubled.

Inbound, a framing (`DotReader` for DATA, `ChunkReader` for BDAT) takes content off the front of a buffer, and
`ContentCheck` looks at all of it. DATA ends at CRLF.CRLF and nowhere else (RFC 5321 section 4.1.1.4); CR and LF
are only ever accepted as CRLF (section 2.3.8), because a second parser may take them for the end of a
line, and then for the end of the message. Outbound, `DotStuffer` makes the dots of section 4.5.2.

All of them are functions of the stream: it never matters how it was cut into segments. All work on whole segments,
keep a few octets between two of them, and never hold the message.
"""

from __future__ import annotations

import re
from enum import Enum

from qmtls.smtp.reply import Reply, reply

# RFC 5321 section 4.5.3.1.6 wants 1000 octets with the CRLF, and asks for no limit where it can be helped. Here lines
# cost nothing, programs do send a page of HTML or base64 in one, and every large MTA takes it.
# The limit is for what can no longer be called a line of text.
MAX_CONTENT_LINE = 1024 * 1024

MAX_HOPS = 100  # Received and Delivered-To fields that make a loop; RFC 5321 section 6.3, qmail's number

# Octets of refused content that are read past to find its true end; then the connection is closed at once. Enough for
# a message sent blindly to a server with a usual limit: its sender sees the reply and not a reset connection.
MAX_DISCARD = 64 * 1024 * 1024

_END = b"\r\n.\r\n"
# A CR without LF, a LF without CR. Each begins with its one octet, which the engine finds by memchr.
_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE_LF = re.compile(rb"\n(?<!\r\n)")
_HOP = re.compile(rb"\r\n(?:received|delivered-to):", re.IGNORECASE)
_HOP_TAIL = len(b"\r\nDelivered-To:") - 1  # octets that may begin a field which the next segment completes


class Fault(Enum):
    """Why content is refused, the weightiest first: of several the session reports that one."""

    BARE = reply(550, "5.5.2", "bare CR or LF; lines end with CRLF only")
    LOOP = reply(554, "5.4.6", "too many hops, this message is looping")
    TOO_LARGE = reply(552, "5.3.4", "sorry, that message size exceeds my databytes limit")
    LONG_LINE = reply(500, "5.5.2", "line too long")
    # RFC 5322 section 3.5 has no NUL, and a program that cuts the message short there sees another one than we do.
    NUL = reply(550, "5.6.0", "NUL in the message")

    @property
    def reply(self) -> Reply:
        return self.value


_WEIGHT = {fault: n for n, fault in enumerate(Fault)}


class DotReader:
    """The content of DATA, dots unstuffed, off the front of a buffer. `done` after CRLF.CRLF was taken."""

    __slots__ = ("_started", "done")

    def __init__(self) -> None:
        self._started = False  # before the first octet the stream stands behind a CRLF, that of DATA
        self.done = False

    def take(self, buffer: bytearray) -> bytes:
        """All content that is certain; what may belong to CRLF.CRLF stays in the buffer, four octets at most."""
        if not self._started and buffer.startswith(b"."):
            if buffer.startswith(b".\r\n"):
                del buffer[:3]
                self.done = True
                return b""
            if b".\r\n".startswith(buffer):
                return b""
            del buffer[:1]
        # What is big is base64, which has no dot: one look for the octet spares two searches for what begins with CR.
        dots = b"." in buffer
        end = buffer.find(_END) if dots else -1
        if end >= 0:
            data = bytes(buffer[: end + 2])
            del buffer[: end + len(_END)]
            self.done = True
        else:
            data = self._certain(buffer)
        if data:
            self._started = True
        return data.replace(b"\r\n.", b"\r\n") if dots else data

    def _certain(self, buffer: bytearray) -> bytes:
        held = 0
        # Every beginning of CRLF.CRLF has a CR within its last three octets; most segments end in text.
        if b"\r" in buffer[-3:]:
            held = next((n for n in (4, 3, 2, 1) if buffer.endswith(_END[:n])), 0)
        data = bytes(buffer[: len(buffer) - held])
        del buffer[: len(data)]
        return data


class ChunkReader:
    """The octets of one BDAT, as they are, off the front of a buffer. `done` when all were taken."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def done(self) -> bool:
        return self._left == 0

    def take(self, buffer: bytearray) -> bytes:
        data = bytes(buffer[: self._left])
        del buffer[: len(data)]
        self._left -= len(data)
        return data


class ContentCheck:
    """Looks at all content of one message, piece by piece; `fault` is the weightiest thing found so far."""

    __slots__ = ("_cr", "_hops", "_line", "_tail", "discarded", "fault", "max_size", "size")

    def __init__(self, max_size: int = 0) -> None:
        self.fault: Fault | None = None
        self.size = 0  # octets seen
        self.discarded = 0  # octets seen since `fault` was set
        self.max_size = max_size  # octets, 0 = no limit
        self._line = 0  # octets of the line under way
        self._cr = False  # the last octet was a CR
        self._hops = 0
        # The end of the header seen so far: behind a CRLF at first, None once the header is over.
        self._tail: bytes | None = b"\r\n"

    def feed(self, data: bytes) -> None:
        if self.fault:
            self.discarded += len(data)
        self.size += len(data)
        if self.max_size and self.size > self.max_size:
            self._found(Fault.TOO_LARGE)
        if b"\0" in data:
            self._found(Fault.NUL)
        if self._tail is not None:
            self._count_hops(self._tail, data)
        self._measure(data)
        self._check_ends(data)

    def finish(self) -> None:
        """The content is over; a CR that was last has lost its LF."""
        if self._cr:
            self._found(Fault.BARE)

    def refuse(self, fault: Fault) -> None:
        """The content is refused for what was announced."""
        self._found(fault)

    def _found(self, fault: Fault) -> None:
        if self.fault is None or _WEIGHT[fault] < _WEIGHT[self.fault]:
            self.fault = fault

    def _check_ends(self, data: bytes) -> None:
        if self._cr:
            data = b"\r" + data
        self._cr = data.endswith(b"\r")
        if self._cr:
            data = data[:-1]
        if _BARE_CR.search(data) or _BARE_LF.search(data):
            self._found(Fault.BARE)

    def _measure(self, data: bytes) -> None:
        if self._line + len(data) > MAX_CONTENT_LINE:
            first, *others = data.replace(b"\r", b"").split(b"\n")
            if self._line + len(first) > MAX_CONTENT_LINE or any(len(line) > MAX_CONTENT_LINE for line in others):
                self._found(Fault.LONG_LINE)
        begin = data.rfind(b"\n") + 1
        octets = len(data) - begin - data.endswith(b"\r")
        self._line = octets if begin else self._line + octets

    def _count_hops(self, tail: bytes, data: bytes) -> None:
        window = tail + data
        end = window.find(b"\r\n\r\n")
        header = window if end < 0 else window[:end]
        hops = _HOP.findall(header)
        # What lies wholly within the tail was counted with the piece before.
        self._hops += len(hops) - len(_HOP.findall(tail))
        if self._hops >= MAX_HOPS:
            self._found(Fault.LOOP)
        self._tail = window[-_HOP_TAIL:] if end < 0 else None


class DotStuffer:
    """Content on its way out, over the whole stream: dots doubled, CRLF.CRLF at the end (RFC 5321 section 4.5.2)."""

    __slots__ = ("_begin",)

    def __init__(self) -> None:
        self._begin = b"\r\n"  # what the stream so far ends with of a CRLF; it begins behind that of DATA

    def feed(self, data: bytes) -> bytes:
        """The octets to send for the next piece of content; any piece, also an empty one."""
        begin = self._begin
        tail = data[-2:] if len(data) >= 2 else (begin + data)[-2:]
        self._begin = tail if tail == b"\r\n" else b"\r" if tail.endswith(b"\r") else b""
        if b"." not in data:
            return data
        return (begin + data).replace(b"\r\n.", b"\r\n..")[len(begin) :]

    def end(self) -> bytes:
        """What ends the content: a CRLF if it lacks one, then the dot. The stuffer is used up."""
        return b".\r\n" if self._begin == b"\r\n" else b"\r\n.\r\n"
