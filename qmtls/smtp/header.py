"""What the header section of a message says, seen while it passes (RFC 5322 section 2.2).

    scan.feed(piece)    for each piece of content, until it returns True: the header section is over
    scan.finish()       the content ended without an empty line: all of it was header

Only whether a few fields are there, and what one of them says. Whatever the cut, the findings are the same. Never more
than MAX_HEADER octets are held; what stands behind them is not looked at, and `whole` is False.
"""

from __future__ import annotations

import re

MAX_HEADER = 256 * 1024  # octets; large MTAs stop at 64 to 150 KiB, and longer ones are no accident

_END = b"\r\n\r\n"
_START = b"\r\n"  # as if the header stood behind a line end, so that every field does
# A field name, the blanks that obsolete syntax lets stand before the colon (RFC 5322 section 4.5), the body with folds.
_FIELD = re.compile(
    rb"\r\n(date|from|message-id|tls-required)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?=\r\n|\Z)", re.IGNORECASE
)


class HeaderScan:
    """See the module. The findings are those of the header so far, and final once it is `over`."""

    __slots__ = ("_fields", "_seen", "over", "whole")

    def __init__(self) -> None:
        self.over = False
        self.whole = False  # its end was seen, and nothing was left out
        self._seen = bytearray(_START)
        self._fields: dict[bytes, list[bytes]] = {}

    def feed(self, data: bytes) -> bool:
        """Looks at the next piece. True once the header section is over: nothing more needs to be fed."""
        if self.over:
            return True
        seen = self._seen
        begin = max(len(seen) - len(_END) + 1, 0)
        seen += data[: MAX_HEADER + len(_START) - len(seen)]
        end = seen.find(_END, begin)
        if end >= 0:
            self._close(end, whole=True)
        elif len(seen) >= MAX_HEADER + len(_START):
            self._close(len(seen), whole=False)
        return self.over

    def finish(self) -> None:
        """The content is over."""
        if not self.over:
            self._close(len(self._seen), whole=True)

    @property
    def has_date(self) -> bool:
        return b"date" in self._fields

    @property
    def has_from(self) -> bool:
        return b"from" in self._fields

    @property
    def has_message_id(self) -> bool:
        return b"message-id" in self._fields

    @property
    def tls_optional(self) -> bool:
        """`TLS-Required: No`, once and nothing else (RFC 8689 section 5): whoever is in doubt gets TLS."""
        bodies = self._fields.get(b"tls-required", [])
        return len(bodies) == 1 and bodies[0].strip().lower() == b"no"

    def _close(self, end: int, *, whole: bool) -> None:
        self.over = True
        self.whole = whole
        for match in _FIELD.finditer(self._seen, 0, end):
            self._fields.setdefault(match[1].lower(), []).append(match[2])
        self._seen = bytearray()
