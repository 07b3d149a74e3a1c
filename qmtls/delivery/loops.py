"""Mail that comes back to a mailbox that it was in: Delivered-To says so (as in qmail-local)."""

from __future__ import annotations

from collections.abc import Iterable

from qmtls.smtp.address import folded

MAX_HEADER = 1 << 20  # octets looked at; real headers are far below
_END = b"\r\n\r\n"
_NAME = b"\ndelivered-to:"


def was_delivered_to(content: Iterable[bytes], address: str) -> bool:
    """True if the header of `content` (CRLF, in pieces) has a Delivered-To field with this very address, in any case
    of letters. No more than the header is read."""
    head = b"\n" + _header(content).lower()
    if _NAME not in head:
        return False
    wanted = folded(address).encode("utf-8", "replace")
    return any(field.partition(b"\r")[0].strip() == wanted for field in head.split(_NAME)[1:])


def _header(content: Iterable[bytes]) -> bytes:
    head = b""
    for piece in content:
        if piece.startswith(b"\r\n") and not head:
            return b""  # there is none
        searched = max(0, len(head) - len(_END))
        head += piece
        end = head.find(_END, searched)
        if end >= 0:
            return head[: end + 2]
        if len(head) > MAX_HEADER:
            break
    return head
