# Invariant: a line never holds CR or LF, is never longer than MAX_COMMAND_LINE, and the lines and faults of a stream
# are the same however it was cut.
"""Fuzz target: command lines (qmtls/smtp/lines.py)."""

from __future__ import annotations

from fuzz.harness import main, pieces
from qmtls.smtp.lines import MAX_COMMAND_LINE, LineFault, LineReader

SEEDS = (
    b"\x00EHLO a\r\nMAIL FROM:<a@b>\r\nQUIT\r\n",
    b"\x02NOOP\nNOOP\r\n",
    b"\x10" + b"x" * (MAX_COMMAND_LINE + 9) + b"\r\nNOOP\r\n",
    b"\x01A\r\r\nB\r\n",
)


def read(parts: list[bytes]) -> list[bytes | LineFault]:
    reader, buffer, got = LineReader(), bytearray(), list[bytes | LineFault]()
    for part in parts:
        buffer += part
        while (line := reader.next(buffer)) is not None:
            got.append(line)
            if line in (LineFault.BARE, LineFault.ENDLESS):
                return got
        assert len(buffer) <= MAX_COMMAND_LINE + 1
    return got


def target(data: bytes) -> None:
    stream, parts = pieces(data)
    lines = read([stream])
    assert lines == read(parts)
    for line in lines:
        if isinstance(line, bytes):
            assert len(line) <= MAX_COMMAND_LINE and not {*line} & {*b"\r\n"}


if __name__ == "__main__":
    main(target, SEEDS)
