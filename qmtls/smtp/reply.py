"""One SMTP reply, as it is sent and as it was received (RFC 5321 section 4.2, RFC 2034)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: three-digit `code`, enhanced `status` such as "5.7.1" ("" where none belongs), `lines` of text.

    The text never holds CR, LF or octets outside printable ASCII: whoever builds a reply from a
    peer's words passes them through `printable` first.
    """

    code: int
    status: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """Every line of text joined by blanks, without code and status."""
        return " ".join(self.lines)

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 400

    @property
    def is_permanent(self) -> bool:
        """Only a clear 5xx is permanent; anything unknown is temporary."""
        return 500 <= self.code < 600

    def encode(self) -> bytes:
        """The reply on the wire, each line ended by CRLF."""
        return _encode(self.code, self.status, self.lines)

    def __str__(self) -> str:
        status = f"{self.status} " if self.status else ""
        return f"{self.code} {status}{self.text}"


@lru_cache(maxsize=256)  # most replies are the same few
def _encode(code: int, status: str, lines: tuple[str, ...]) -> bytes:
    prefix = f"{status} " if status else ""
    last = len(lines) - 1
    return "".join([f"{code}{' ' if n == last else '-'}{prefix}{line}\r\n" for n, line in enumerate(lines)]).encode(
        "ascii", "replace"
    )


def reply(code: int, status: str, *lines: str) -> Reply:
    """Short form: reply(250, "2.0.0", "ok")."""
    return Reply(code, status, lines or ("",))


def printable(text: str, limit: int = 400) -> str:
    """`text` with every character outside printable ASCII replaced by "?", cut to `limit` characters."""
    cut = text[:limit]
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(c if " " <= c <= "~" else "?" for c in cut)
