"""Octets of a server into replies (RFC 5321 section 4.2), in whatever pieces they come.

Promises: a reply is exactly three digits, then blank, hyphen or the end of the line, the same code on each line
of it; every buffer is bounded; the text given on is printable ASCII. On anything else `MalformedReply`: the
stream is then not to be trusted any further.

A lone LF ends a line as well as CRLF does: some servers send it, and it cannot move a boundary between two
replies, because a reply is a number of whole lines in either reading. STARTTLS needs no exception: whatever
stands behind the 220, in either style, is `pending`, and the session ends for it.
"""

from __future__ import annotations

import re

from qmtls.smtp.reply import Reply, printable

# RFC 5321 section 4.5.3.1.5 says 512 octets with code and CRLF; real servers put URLs and session ids there.
MAX_REPLY_LINE = 2000
# An EHLO reply has some twenty lines; nothing sensible has ten times as many.
MAX_REPLY_LINES = 200
MAX_REPLY_OCTETS = 32 * 1024
# What is kept of one line for people to read.
MAX_TEXT = 512

_LINE = re.compile(rb"([0-9]{3})(?:([ -])([^\n]*)|\r*)\n")
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |\Z)")


class MalformedReply(Exception):
    """What came is no SMTP reply; the text says what is wrong, in printable ASCII."""


class ReplyParser:
    """Feed it octets, take replies until there is None; then it holds less than one reply."""

    __slots__ = ("_at", "_buffer", "_code", "_lines", "_octets")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._code = b""  # of the multi-line reply under way
        self._lines: list[str] = []
        self._octets = 0

    @property
    def pending(self) -> bool:
        """True if octets came that no reply given out so far accounts for."""
        return self._at < len(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> None:
        """Stores what came."""
        if self._at == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None if more octets are needed. MalformedReply ends it all."""
        while (found := _LINE.match(self._buffer, self._at)) is not None:
            code, separator, text = found.groups()
            end = found.end()
            if end - self._at > MAX_REPLY_LINE:
                raise MalformedReply("reply line too long")
            if not self._lines and separator != b"-":
                self._at = end
                return _reply(code, (_clean(text),))
            self._add(code, text, end)
            if separator != b"-":
                lines, self._lines, self._octets = tuple(self._lines), [], 0
                return _reply(code, lines)
        self._check_rest()
        return None

    def _add(self, code: bytes, text: bytes | None, end: int) -> None:
        if self._lines and code != self._code:
            raise MalformedReply(f"reply code changes from {self._code.decode()} to {code.decode()}")
        self._code = code
        self._octets += end - self._at
        self._at = end
        self._lines.append(_clean(text))
        if len(self._lines) > MAX_REPLY_LINES or self._octets > MAX_REPLY_OCTETS:
            raise MalformedReply("reply too long")

    def _check_rest(self) -> None:
        """What is left is no line of a reply: it is either incomplete, or wrong."""
        line_end = self._buffer.find(b"\n", self._at)
        if line_end >= 0:
            line = self._buffer[self._at : line_end].rstrip(b"\r")
            raise MalformedReply(f'malformed reply "{printable(line.decode("latin-1"), 80)}"')
        if len(self._buffer) - self._at > MAX_REPLY_LINE:
            raise MalformedReply("reply line too long")


def _clean(text: bytes | None) -> str:
    if text is None:
        return ""
    line = text.rstrip().decode("latin-1")
    if line.isascii() and line.isprintable() and len(line) <= MAX_TEXT:
        return line
    return printable(line, MAX_TEXT)


def _reply(code: bytes, lines: tuple[str, ...]) -> Reply:
    """RFC 2034: the enhanced status stands on each line; it counts only if its class is that of the code."""
    found = _STATUS.match(lines[0])
    if found is None or found[1] != chr(code[0]):
        return Reply(int(code), "", lines)
    status = found[0]
    return Reply(
        int(code),
        status,
        tuple(line[len(status) :].lstrip() if line.startswith(status) else line for line in lines),
    )
