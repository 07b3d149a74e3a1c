"""Content made transparent for DATA (RFC 5321 section 4.5.2): a dot before every line that begins with one."""

from __future__ import annotations


class DotStuffer:
    """Stateful over the whole content: a line may begin in any piece, also at the very start.

    A dot behind a lone LF is doubled too: should content ever hold one, no reading of it ends early.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets; the content begins at the start of a line

    def feed(self, data: bytes) -> bytes:
        """The next piece, stuffed."""
        if not data:
            return data
        stuffed = data.replace(b"\n.", b"\n..")
        if data[0] == 0x2E and self._tail.endswith(b"\n"):
            stuffed = b"." + stuffed
        self._tail = data[-2:] if len(data) > 1 else self._tail[-1:] + data
        return stuffed

    def end(self) -> bytes:
        """What ends the content: the dot alone on its line, behind a CRLF if the last line had none."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
