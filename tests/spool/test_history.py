"""The log's lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.spool.api import Attempt, Malformed
from qmtls.spool.history import decode_history, encode_attempt

indices = st.lists(st.integers(0, 10_000), max_size=5).map(tuple)
attempts = st.builds(
    Attempt,
    st.floats(allow_nan=False, allow_infinity=False),
    indices,
    indices,
    indices,
    st.lists(st.tuples(st.integers(0, 10_000), st.text(st.characters(exclude_categories=["Cs"]))), max_size=5).map(
        tuple
    ),
    st.sampled_from(["attempt", "hold", "release", "retry", "report"]),
    indices,
)


@given(st.lists(attempts, max_size=4))
def test_everything_comes_back(history: list[Attempt]) -> None:
    assert decode_history(b"".join(map(encode_attempt, history))) == tuple(history)


@given(attempts, attempts, st.integers(1))
def test_a_cut_line_is_passed_over_also_in_the_middle(first: Attempt, second: Attempt, cut: int) -> None:
    line = encode_attempt(second)
    torn = line[: cut % (len(line) - 1)]
    assert decode_history(encode_attempt(first) + torn) == (first,)
    assert decode_history(torn + b"\n" + encode_attempt(first)) == (first,)


def test_what_is_not_about_tls_is_written_as_ever() -> None:
    assert b"unmet" not in encode_attempt(Attempt(1.0, deferred=(0,), reasons=((0, "it said 451"),)))


def test_equal_reasons_share_one_sentence() -> None:
    line = encode_attempt(
        Attempt(1.0, deferred=tuple(range(10_000)), reasons=tuple((n, "no route") for n in range(10_000)))
    )
    assert line.count(b"no route") == 1


@pytest.mark.parametrize(
    "line",
    [
        b"1",
        b"[]",
        b"{}",
        b'{"time":1,"event":"attempt","done":[],"failed":[],"deferred":[]}',
        b'{"time":"1","event":"attempt","done":[],"failed":[],"deferred":[],"reasons":[]}',
        b'{"time":1,"event":2,"done":[],"failed":[],"deferred":[],"reasons":[]}',
        b'{"time":1,"event":"attempt","done":[-1],"failed":[],"deferred":[],"reasons":[]}',
        b'{"time":1,"event":"attempt","done":[true],"failed":[],"deferred":[],"reasons":[]}',
        b'{"time":1,"event":"attempt","done":{},"failed":[],"deferred":[],"reasons":[]}',
        b'{"time":1,"event":"attempt","done":[],"failed":[],"deferred":[],"reasons":{}}',
        b'{"time":1,"event":"attempt","done":[],"failed":[],"deferred":[],"reasons":[[]]}',
        b'{"time":1,"event":"attempt","done":[],"failed":[],"deferred":[],"reasons":[[1]]}',
        b'{"time":1,"event":"attempt","done":[],"failed":[],"deferred":[],"reasons":[["a","b"]]}',
        b'{"time":1,"event":"attempt","done":[],"failed":[],"deferred":[],"reasons":[],"unmet":[-1]}',
        b'{"time":1,"event":"attempt","done":[],"failed":[],"deferred":[],"reasons":[],"other":[]}',
    ],
)
def test_a_whole_line_that_is_no_attempt_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        decode_history(line + b"\n")
