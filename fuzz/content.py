# Invariant: content that is accepted has CR and LF only as CRLF, and no NUL; its end, its octets and its fault are the
# same however the stream was cut; stuffed again and read again it is the same.
"""Fuzz target: the content of DATA, in and out (qmtls/smtp/content.py)."""

from __future__ import annotations

from fuzz.harness import main, pieces
from qmtls.smtp.content import ContentCheck, DotReader, DotStuffer, Fault

SEEDS = (
    b"\x00Subject: x\r\n\r\n..a\r\n.b\r\n.\r\nQUIT\r\n",
    b"\x00a\n.\nMAIL FROM:<a@b>\r\n.\r\n",
    b"\x03a\r\n.\r\r\n.\r\n",
    b"\x01Received: x\r\nDelivered-To: y\r\n\r\n\0\r\n.\r\n",
)
MAX_SIZE = 200


def read(parts: list[bytes]) -> tuple[bytes, Fault | None, bytes | None]:
    reader, check, buffer, content = DotReader(), ContentCheck(MAX_SIZE), bytearray(), b""
    for part in parts:
        buffer += part
        if not reader.done:
            data = reader.take(buffer)
            check.feed(data)
            content += data
    if not reader.done:
        return b"", None, None
    check.finish()
    return content, check.fault, bytes(buffer)


def target(data: bytes) -> None:
    stream, parts = pieces(data)
    content, fault, left = read([stream])
    assert (content, fault, left) == read(parts)
    if left is None or fault is not None:
        return
    assert not {*content.replace(b"\r\n", b"")} & {*b"\r\n\0"} and len(content) <= MAX_SIZE
    stuffer = DotStuffer()
    wire = b"".join(map(stuffer.feed, pieces(b"\x02" + content)[1])) + stuffer.end()
    assert read([wire]) == (content, None, b"")


if __name__ == "__main__":
    main(target, SEEDS)
