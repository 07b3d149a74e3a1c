"""Is this mail back? Only the header counts, and only the very address."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.loops import MAX_HEADER, was_delivered_to

JOE = "joe@here.example"
BACK = b"Received: x\r\nDelivered-To: joe@here.example\r\nSubject: x\r\n\r\nhello\r\n"


@pytest.mark.parametrize(
    ("content", "back"),
    [
        (BACK, True),
        (b"Delivered-To: joe@here.example\r\n\r\n", True),
        (b"delivered-TO:\tJoe@HERE.example  \r\n\r\n", True),
        (b"Delivered-To: joe@here.example", True),
        (b"Delivered-To: ann@here.example\r\nDelivered-To: joe@here.example\r\n\r\n", True),
        (b"Delivered-To: ann@here.example\r\n\r\n", False),
        (b"Delivered-To: joe@here.example.org\r\n\r\n", False),
        (b"Delivered-To: xjoe@here.example\r\n\r\n", False),
        (b"X-Delivered-To: joe@here.example\r\n\r\n", False),
        (b"Subject: Delivered-To: joe@here.example\r\n\r\n", False),
        (b"Subject: x\r\n\r\nDelivered-To: joe@here.example\r\n", False),
        (b"\r\nDelivered-To: joe@here.example\r\n", False),
        (b"", False),
    ],
)
def test_by_the_header(content: bytes, back: bool) -> None:
    assert was_delivered_to([content], JOE) is back


@given(st.lists(st.integers(0, len(BACK)), max_size=6))
def test_in_any_pieces(cuts: list[int]) -> None:
    ends = sorted({0, *cuts, len(BACK)})
    pieces = [BACK[start:end] for start, end in pairwise(ends)]
    assert was_delivered_to(pieces, JOE)
    assert not was_delivered_to(pieces, "ann@here.example")


def test_no_more_than_the_header_is_read() -> None:
    pieces = iter([BACK, b"more"])
    was_delivered_to(pieces, JOE)
    assert next(pieces) == b"more"
    endless = iter([b"a" * 65536] * 100)
    assert not was_delivered_to(endless, JOE)
    assert len(list(endless)) > 100 - MAX_HEADER // 65536 - 2


def test_beyond_ascii() -> None:
    assert was_delivered_to(["Delivered-To: jöe@here.example\r\n\r\n".encode()], "jöe@here.example")
