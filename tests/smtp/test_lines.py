"""Command lines: CRLF only, bounded, whatever the cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmtls.smtp.lines import MAX_COMMAND_LINE, MAX_SKIPPED, LineFault, LineReader
from tests.smtp.dialogue import at, by_byte, whole

FULL = b"x" * MAX_COMMAND_LINE


def read(pieces: list[bytes]) -> list[bytes | LineFault]:
    reader, buffer, got = LineReader(), bytearray(), list[bytes | LineFault]()
    for piece in pieces:
        buffer += piece
        while (line := reader.next(buffer)) is not None:
            got.append(line)
            if line in (LineFault.BARE, LineFault.ENDLESS):
                return got
        assert len(buffer) <= MAX_COMMAND_LINE + 2
    return got


@pytest.mark.parametrize(
    ("octets", "wanted"),
    [
        (b"", []),
        (b"NOOP", []),
        (b"NOOP\r", []),
        (b"\r\n", [b""]),
        (b"A\r\nB\r\nC", [b"A", b"B"]),
        (b"A\0\xff\r\n", [b"A\0\xff"]),
        (b"A\nB\r\n", [LineFault.BARE]),
        (b"A\n", [LineFault.BARE]),
        (b"A\rB", [LineFault.BARE]),
        (b"A\r\r\n", [LineFault.BARE]),
        (b"\n\r\n", [LineFault.BARE]),
        (b"A\r\nB\n", [b"A", LineFault.BARE]),
        (FULL + b"\r\nA\r\n", [FULL, b"A"]),
        (FULL + b"x\r\nA\r\n", [LineFault.TOO_LONG, b"A"]),
        (FULL * 3 + b"\r\nA\r\n", [LineFault.TOO_LONG, b"A"]),
        (FULL * 2 + b"\n", [LineFault.TOO_LONG, LineFault.BARE]),
        (FULL * 2 + b"\rA", [LineFault.TOO_LONG, LineFault.BARE]),
        (b"x" * MAX_SKIPPED + b"\r\nA\r\n", [LineFault.TOO_LONG, b"A"]),
        (b"x" * MAX_SKIPPED + b"x\r\nA\r\n", [LineFault.TOO_LONG, LineFault.ENDLESS]),
    ],
    ids=repr,
)
def test_lines(octets: bytes, wanted: list[bytes | LineFault]) -> None:
    assert read(whole(octets)) == wanted
    assert read(by_byte(octets)) == wanted


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"A", b"\r\n", b"\r", b"\n", b"\0", FULL]), max_size=12),
    st.lists(st.integers(0, 9000), max_size=8),
)
def test_the_cut_does_not_matter(parts: list[bytes], places: list[int]) -> None:
    octets = b"".join(parts)
    assert read(whole(octets)) == read(at(*places)(octets))
