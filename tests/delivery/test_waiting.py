"""The list of what is due, held against a dictionary that is sorted anew each time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qmtls.delivery.waiting import SPARE, DueList

KEYS = st.sampled_from("abcdef")
TIMES = st.integers(-3, 12).map(float)


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.list: DueList[str] = DueList()
        self.model: dict[str, float] = {}

    @rule(key=KEYS, due=TIMES)
    def add(self, key: str, due: float) -> None:
        self.list.add(key, due)
        self.model[key] = due

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        self.list.discard(key)
        self.model.pop(key, None)

    @rule(now=TIMES, limit=st.integers(1, 4))
    def take(self, now: float, limit: int) -> None:
        expected = sorted((due, key) for key, due in self.model.items() if due <= now)[:limit]
        assert self.list.take(now, limit) == [key for _, key in expected]
        for _, key in expected:
            del self.model[key]

    @precondition(lambda self: self.model)
    @rule(some=st.none() | st.lists(KEYS, unique=True))
    def make_due(self, some: list[str] | None) -> None:
        self.list.make_due(some)
        chosen = {key: self.list.due(key) for key in self.model if some is None or key in some}
        by_new = sorted(chosen, key=lambda key: chosen[key] or 0.0)
        assert [chosen[key] for key in by_new] == [float(n - len(chosen)) for n in range(len(chosen))]
        before = [self.model[key] for key in by_new]
        assert before == sorted(before)
        self.model.update({key: due for key, due in chosen.items() if due is not None})

    @invariant()
    def agrees(self) -> None:
        assert len(self.list) == len(self.model)
        assert self.list.next_due() == min(self.model.values(), default=None)
        for key in "abcdef":
            assert (key in self.list) == (key in self.model)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@given(st.lists(st.tuples(st.text(max_size=3), TIMES), max_size=30))
def test_everything_comes_out_once_in_order(entries: list[tuple[str, float]]) -> None:
    waiting: DueList[str] = DueList()
    for key, due in entries:
        waiting.add(key, due)
    last = dict(entries)
    assert waiting.take(100.0, 1000) == sorted(last, key=lambda key: (last[key], key))
    assert not len(waiting)
    assert waiting.next_due() is None


def test_order_is_kept_when_all_are_made_due() -> None:
    waiting: DueList[int] = DueList()
    for n in range(100):
        waiting.add(n, 5000.0 - n)
    waiting.make_due()
    assert waiting.take(0.0, 1000) == list(range(99, -1, -1))


def test_times_out_of_date_do_not_pile_up() -> None:
    """An order to retry every minute, and a next time hours away after each: only the last one counts."""
    waiting: DueList[int] = DueList()
    for round in range(200):
        for n in range(100):
            waiting.add(n, 10_000.0 + round)
        waiting.make_due()
    assert len(waiting._heap) <= 2 * len(waiting) + SPARE + 1
