"""Windows and rests: what holds whatever happens to them, and how fast they change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.window import FIRST_REST, HOLD_SECONDS, INITIAL, JITTER, LONGEST_REST, Rest, Window

EVENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.floats(0.0, 100.0)), max_size=200)


@given(EVENTS, st.integers(1, 30))
def test_it_stays_within_its_bounds(events: list[tuple[bool, int, float]], ceiling: int) -> None:
    window, now = Window(), 0.0
    for good, lanes, passed in events:
        now += passed
        before = window.limit
        if good:
            wider = window.succeeded(lanes, ceiling, now)
            assert window.limit == before + wider
            assert window.limit <= max(ceiling, before)
            assert not wider or lanes >= before, "what is not used up does not grow"
        else:
            window.failed(lanes, now)
            assert 1 <= window.limit <= max(1, min(before - 1, lanes))


@given(st.integers(INITIAL, 100))
def test_each_round_of_successes_doubles_it(ceiling: int) -> None:
    window, rounds = Window(), 0
    while window.limit < ceiling:
        before = window.limit
        for _ in range(before):
            window.succeeded(window.limit, ceiling, 0.0)
        rounds += 1
        assert window.limit == min(2 * before, ceiling)
    assert rounds <= 5


def test_after_a_failure_a_round_makes_it_one_wider() -> None:
    window = Window()
    for _ in range(15):
        window.succeeded(window.limit, 20, 0.0)
    assert window.limit == 20
    window.failed(7, 0.0)
    assert window.limit == 7
    assert not any(window.succeeded(7, 20, HOLD_SECONDS - 1) for _ in range(100)), "not at once"
    for size in range(7, 20):
        wider = [window.succeeded(size, 20, HOLD_SECONDS) for _ in range(size)]
        assert wider == [False] * (size - 1) + [True]


def test_failures_in_a_row_are_counted() -> None:
    window = Window()
    for _ in range(3):
        window.failed(0, 0.0)
    assert (window.row, window.limit) == (3, 1)
    window.succeeded(1, 20, 0.0)
    assert window.row == 0


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_rests_grow_up_to_an_hour(chances: list[float]) -> None:
    rest, now, last = Rest(), 1_800_000_000.0, 0.0
    for n, chance in enumerate(chances):
        assert not rest.lasts(now)
        rest.failed(now, chance)
        wait = rest.until - now
        full = min(FIRST_REST * 2**n, LONGEST_REST)
        assert full * (1 - JITTER) - 1e-6 <= wait <= full
        assert rest.lasts(now) and rest.lasts(rest.until - 1.0)
        assert wait >= min(last, LONGEST_REST * (1 - JITTER)) * (1 - JITTER)
        now, last = rest.until, wait
    rest.answered()
    assert not rest.lasts(now)
    rest.failed(now, 0.0)
    assert rest.until - now == FIRST_REST


def test_an_order_ends_a_rest_but_not_the_count() -> None:
    rest = Rest()
    rest.failed(1000.0, 0.0)
    rest.look_now()
    assert not rest.lasts(1000.0)
    rest.failed(1001.0, 0.0)
    assert rest.until == 1001.0 + 2 * FIRST_REST


def test_a_clock_that_is_set_back_ends_it() -> None:
    rest = Rest()
    rest.failed(1_800_000_000.0, 0.0)
    assert not rest.lasts(1_700_000_000.0)
