"""Content: where it ends, what is wrong with it, and the dots on the way out; whatever the cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmtls.smtp.content import MAX_CONTENT_LINE, MAX_HOPS, ChunkReader, ContentCheck, DotReader, DotStuffer, Fault
from tests.smtp.dialogue import Cut, at, by_byte, whole

ODD = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\0"]), max_size=25).map(
    b"".join
)
PLACES = st.lists(st.integers(0, 60), max_size=10)


def undot(octets: bytes, cut: Cut = whole) -> tuple[bytes, bytes | None]:
    """The content, and what was left behind its end (None if that did not come)."""
    reader, buffer, content = DotReader(), bytearray(), b""
    for piece in cut(octets):
        buffer += piece
        if not reader.done:
            content += reader.take(buffer)
            assert reader.done or len(buffer) <= 4
    return content, bytes(buffer) if reader.done else None


@pytest.mark.parametrize(
    ("octets", "content", "left"),
    [
        (b".\r\n", b"", b""),
        (b".\r\nNOOP", b"", b"NOOP"),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b".a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n", b""),
        (b"a.\r\nb\r\n.\r\n.\r\n", b"a.\r\nb\r\n", b".\r\n"),
        (b"a\n.\n", b"a\n.\n", None),
        (b"a\n.\r\n", b"a\n.", None),
        (b"a\r.\r\n", b"a\r.", None),
        (b"a\r\n.\n", b"a\r\n\n", None),
        (b"a\r\n.\rb", b"a\r\n\rb", None),
        (b".\r.", b"\r.", None),
        (b".\n", b"\n", None),
        (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\r\n", b""),
        (b"a\r\n.\0\r\n.\r\n", b"a\r\n\0\r\n", b""),
    ],
    ids=repr,
)
def test_end_of_data(octets: bytes, content: bytes, left: bytes | None) -> None:
    for cut in (whole, by_byte, *(at(n) for n in range(len(octets)))):
        assert undot(octets, cut) == (content, left)


def by_the_book(octets: bytes) -> tuple[bytes, bytes | None]:
    """Section 4.5.2 line by line, slowly; a line ends at CRLF only. Without an end the content is a guess."""
    content = b""
    while b"\r\n" in octets:
        line, octets = octets.split(b"\r\n", 1)
        if line == b".":
            return content, octets
        content += line.removeprefix(b".") + b"\r\n"
    return content, None


@given(ODD, PLACES)
def test_end_of_data_is_as_by_the_book(octets: bytes, places: list[int]) -> None:
    content, left = undot(octets, at(*places))
    expected, rest = by_the_book(octets)
    assert left == rest
    if left is not None:
        assert content == expected


def faults(octets: bytes, cut: Cut = whole, max_size: int = 0) -> Fault | None:
    check = ContentCheck(max_size)
    for piece in cut(octets):
        check.feed(piece)
    check.finish()
    assert check.size == len(octets)
    return check.fault


HOP = b"Received: x\r\n"
LINE = b"x" * MAX_CONTENT_LINE


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", None),
        (b"a\r\nb\r\n", None),
        (b"a\xff\r\n", None),
        (b"no line end", None),
        (b"\n", Fault.BARE),
        (b"\r", Fault.BARE),
        (b"a\nb", Fault.BARE),
        (b"a\r\r\nb", Fault.BARE),
        (b"a\r\n\nb", Fault.BARE),
        (b"a\r\nb\r", Fault.BARE),
        (b"a\n\rb", Fault.BARE),
        (b"a\0b", Fault.NUL),
        (b"a\0b\n", Fault.BARE),
        (b"x" * 41, Fault.TOO_LARGE),
        (b"x" * 40, None),
        (b"x" * 30 + b"\0" * 20, Fault.TOO_LARGE),
    ],
    ids=repr,
)
def test_faults(octets: bytes, fault: Fault | None) -> None:
    for cut in (whole, by_byte, *(at(n) for n in range(len(octets)))):
        assert faults(octets, cut, 40) is fault


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (HOP * MAX_HOPS, Fault.LOOP),
        (HOP * (MAX_HOPS - 1) + b"DELIVERED-TO: y\r\n", Fault.LOOP),
        (HOP * (MAX_HOPS - 1), None),
        (HOP * (MAX_HOPS - 1) + b" " + HOP + b"X-" + HOP + b"Received-SPF: x\r\n", None),
        (HOP * (MAX_HOPS - 1) + b"\r\n" + HOP, None),
        (b"\r\n" + HOP * MAX_HOPS, None),
        (b"Subject: x\r\n" + b"x" * 5000 + b"\r\n" + HOP * MAX_HOPS + b"\r\n", Fault.LOOP),
    ],
)
def test_hops(octets: bytes, fault: Fault | None) -> None:
    for cut in (whole, by_byte, at(7), at(*range(0, len(octets), 13)), at(*range(0, len(octets), 15))):
        assert faults(octets, cut) is fault


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (LINE + b"\r\n" + LINE + b"\r\n", None),
        (LINE, None),
        (LINE + b"x\r\n", Fault.LONG_LINE),
        (b"\r\n" + LINE + b"x", Fault.LONG_LINE),
        (b"a\r\n" + LINE + b"x\r\nb\r\n", Fault.LONG_LINE),
    ],
    ids=["two", "open", "first", "last", "middle"],
)
def test_long_lines(octets: bytes, fault: Fault | None) -> None:
    size = len(octets)
    cuts = (whole, at(1), at(size - 1), at(size - 2), at(MAX_CONTENT_LINE), at(MAX_CONTENT_LINE + 1))
    for cut in (*cuts, at(*range(0, size, 65536))):
        assert faults(octets, cut) is fault


@given(ODD, PLACES)
def test_faults_do_not_depend_on_the_cut(octets: bytes, places: list[int]) -> None:
    fault = faults(octets)
    assert faults(octets, at(*places)) is fault
    assert (fault is Fault.BARE) == bool({*octets.replace(b"\r\n", b"")} & {*b"\r\n"})


def test_chunks_count() -> None:
    reader, buffer = ChunkReader(5), bytearray(b"ab")
    assert (reader.take(buffer), reader.done) == (b"ab", False)
    buffer += b"cdeNOOP"
    assert (reader.take(buffer), reader.done, bytes(buffer)) == (b"cde", True, b"NOOP")
    assert ChunkReader(0).done


def stuff(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join(map(stuffer.feed, pieces)) + stuffer.end()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n.\r\n", b"..\r\n..\r\n.\r\n"),
        (b"a.\r\n..b\r\n", b"a.\r\n...b\r\n.\r\n"),
    ],
)
def test_stuffing(content: bytes, wire: bytes) -> None:
    for cut in (whole, by_byte):
        assert stuff(cut(content)) == wire
    assert stuff([b"", *by_byte(content), b""]) == wire


@settings(max_examples=300)
@given(st.lists(st.sampled_from([b"\r\n", b".", b"a", b"..", b"x" * 50]), max_size=25).map(b"".join), PLACES, PLACES)
def test_stuffed_content_comes_back_as_it_was(content: bytes, out: list[int], back: list[int]) -> None:
    wire = stuff(at(*out)(content))
    ended = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert undot(wire, at(*back)) == (ended, b"")
