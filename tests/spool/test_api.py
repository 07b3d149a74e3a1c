"""What a message's log tells of its recipients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmtls.spool.api import ATTEMPT, DELAY, HOLD, RELEASE, Attempt, pending, unmet_since


def waited(time: float, unmet: tuple[int, ...] = (), other: tuple[int, ...] = ()) -> Attempt:
    return Attempt(time, deferred=(*unmet, *other), unmet=unmet)


def test_since_when_a_demand_is_not_met() -> None:
    history = [waited(1.0, other=(0, 1)), waited(2.0, (0,), (1,)), waited(3.0, (0, 1))]
    assert unmet_since(history) == {0: 2.0, 1: 3.0}


def test_another_reason_in_between_begins_anew() -> None:
    assert unmet_since([waited(1.0, (0,)), waited(2.0, other=(0,)), waited(3.0, (0,))]) == {0: 3.0}
    assert unmet_since([waited(1.0, (0,)), waited(2.0, other=(0,))]) == {}
    assert unmet_since([waited(1.0, (0, 1)), Attempt(2.0, done=(0,), failed=(1,))]) == {}


@given(st.lists(st.sampled_from([DELAY, HOLD, RELEASE])), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=6))
def test_the_last_attempt_says_who(orders: list[str], attempts: list[tuple[bool, bool]]) -> None:
    """What operators and reports add changes nothing, and a time is that of an attempt which said so."""
    history = []
    for n, flags in enumerate(attempts):
        unmet = tuple(i for i, flag in enumerate(flags) if flag)
        history.append(waited(float(n), unmet, tuple({0, 1} - set(unmet))))
        history += [Attempt(n + 0.5, event=order) for order in orders]
    found = unmet_since(history)
    assert set(found) == (set(history[-1 - len(orders)].unmet) if attempts else set())
    for index, time in found.items():
        runs = [one for one in history if one.event == ATTEMPT and one.time >= time]
        assert all(index in one.unmet for one in runs)
        assert time == 0.0 or index not in next(one.unmet for one in history if one.time == time - 1)
    assert pending(2, history) == (0, 1)
