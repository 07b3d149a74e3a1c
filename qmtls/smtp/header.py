"""What the header section of a message says, seen while it passes (RFC 5322 section 2.2).

    scan.feed(piece)    for each piece of content, until it returns True: the header section is over
    scan.finish()       the content ended without an empty line: all of it was header

Only whether a few fields are there, and what one of them says. Whatever the cut, the findings are the same. The scan
holds what it was fed, so that nobody else need do so, and of a long header little more than MAX_HEADER octets; what
stands behind them is not looked at, and `whole` is False.

Content whose first line is no field has no header section: it is `headless`, and whoever puts fields before it must
put an empty line between, or a first line that begins with a blank would continue the last of them.
"""

from __future__ import annotations

import re

MAX_HEADER = 64 * 1024  # octets; some large MTAs take no longer ones
MAX_FIRST = 999  # octets until the first colon: a line has no more than 998 of them (RFC 5322 section 2.1.1)

_END = b"\r\n\r\n"
_START = b"\r\n"  # as if the header stood behind a line end, so that every field does
_MOST = MAX_HEADER + len(_START)
# A field name, the blanks that obsolete syntax lets stand before the colon (RFC 5322 section 4.5), the body with folds.
_FIELD = re.compile(
    rb"\r\n(date|message-id|tls-required)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?=\r\n|\Z)", re.IGNORECASE
)
# A first line that is left as it is: a field, the empty line, what programs that know mailbox files leave there.
_FIRST = re.compile(rb"[^ \t\r\n:][^\r\n:]{0,%d}:|\r\n|>?From " % (MAX_FIRST - 2))


def says_nothing(data: bytes) -> bool:
    """True if the whole header section is there, and no wish about TLS in it: then most mail needs no scan."""
    end = data.find(_END)
    return end >= 0 and b"tls-required" not in data[:end].lower() and _FIRST.match(data) is not None


class HeaderScan:
    """See the module. The findings are final once it is `over`, and nothing before."""

    __slots__ = ("_begun", "_fields", "_header", "_seen", "headless", "over", "whole")

    def __init__(self) -> None:
        self.over = False
        self.whole = False  # its end was seen, and nothing was left out
        self.headless = False
        self._begun = False  # with a field
        self._seen = bytearray(_START)
        self._header = b""
        self._fields: dict[bytes, list[bytes]] | None = None  # looked for when somebody asks: for most mail nobody does

    def feed(self, data: bytes) -> bool:
        """Looks at the next piece. True once the header section is over: nothing more needs to be fed."""
        if self.over:
            return True
        seen = self._seen
        begin = max(len(seen) - len(_END) + 1, 0)
        seen += data
        if not self._begun and self._begins_without():
            self._close(0, whole=True)
            return True
        end = seen.find(_END, begin, _MOST)
        if end >= 0:
            self._close(end, whole=True)
        elif len(seen) >= _MOST:
            self._close(_MOST, whole=False)
        return self.over

    def finish(self) -> None:
        """The content is over."""
        if not self.over:
            self.headless = not self._begun and len(self._seen) > len(_START)
            self._close(0 if self.headless else len(self._seen), whole=True)

    def take(self) -> bytes:
        """All that was fed, once: it is held no longer."""
        fed, self._seen = bytes(memoryview(self._seen)[len(_START) :]), bytearray()
        return fed

    def _begins_without(self) -> bool:
        """It is certain that no header section comes. Sets `_begun` if one does."""
        seen, start = self._seen, len(_START)
        self._begun = _FIRST.match(seen, start) is not None
        if not self._begun and len(seen) > start:
            ended = len(seen) >= start + MAX_FIRST or seen.find(b"\r\n", start) >= 0
            self.headless = ended or seen[start] in b" \t:"
        return self.headless

    @property
    def has_date(self) -> bool:
        return bool(self._bodies(b"date"))

    @property
    def has_message_id(self) -> bool:
        return bool(self._bodies(b"message-id"))

    @property
    def tls_optional(self) -> bool:
        """`TLS-Required: No`, once and nothing else (RFC 8689 section 5): whoever is in doubt gets TLS."""
        if not self.whole or b"tls-required" not in self._header.lower():
            return False  # also if what was not looked at may say something else
        bodies = self._bodies(b"tls-required")
        return len(bodies) == 1 and bodies[0].strip().lower() == b"no"

    def _bodies(self, name: bytes) -> list[bytes]:
        if self._fields is None:
            self._fields = {}
            for match in _FIELD.finditer(self._header):
                self._fields.setdefault(match[1].lower(), []).append(match[2])
        return self._fields.get(name, [])

    def _close(self, end: int, *, whole: bool) -> None:
        self.over = True
        self.whole = whole
        self._header = bytes(memoryview(self._seen)[:end])
