"""Queue ids."""

from __future__ import annotations

from qmtls.net.ids import Ids
from qmtls.spool.record import is_id


def test_they_are_names_that_sort_by_time() -> None:
    ids = Ids()
    made = [ids.next() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(is_id(id) and len(id) == 21 for id in made)


def test_a_clock_that_stands_still_or_goes_back_makes_no_double() -> None:
    times = iter([5_000_000, 5_000_000, 1_000, 9_000_000])
    ids = Ids(lambda: next(times), salt="s")
    assert [int(ids.next()[:13], 16) for _ in range(4)] == [5000, 5001, 5002, 9000]


def test_two_processes_differ_in_the_same_microsecond() -> None:
    assert Ids(lambda: 1).next() != Ids(lambda: 1).next()
