"""Deadlines: never late, moved in both directions, ended; and one timer however often they are moved."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from qmtls.net.patience import LOOK, Patience


class Watched:
    def __init__(self) -> None:
        self.clock = Clock()
        self.at: list[float] = []
        self.patience = Patience(self.clock, lambda: self.at.append(self.clock.seconds()))

    def run(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(int(seconds / step)):
            self.clock.advance(step)


@pytest.mark.parametrize("seconds", [0.5, LOOK - 1, LOOK, LOOK + 1, 10 * LOOK + 2])
def test_it_expires_when_the_time_is_up_and_once(seconds: float) -> None:
    watched = Watched()
    watched.patience.allow(seconds)
    watched.run(12 * LOOK)
    assert watched.at == [seconds]


def test_a_later_deadline_replaces_the_one_before() -> None:
    watched = Watched()
    watched.patience.allow(LOOK)
    watched.run(LOOK / 2)
    watched.patience.allow(3 * LOOK)
    watched.run(6 * LOOK)
    assert watched.at == [3.5 * LOOK]


def test_a_sooner_deadline_replaces_the_one_before() -> None:
    watched = Watched()
    watched.patience.allow(100 * LOOK)
    watched.run(1)
    watched.patience.allow(2.0)
    watched.run(LOOK)
    assert watched.at == [3.0]


def test_ended_it_never_expires_and_leaves_no_timer() -> None:
    watched = Watched()
    watched.patience.allow(1.0)
    watched.patience.end()
    watched.patience.end()
    watched.run(LOOK)
    assert (watched.at, watched.clock.getDelayedCalls()) == ([], [])


def test_one_timer_however_often_it_is_moved() -> None:
    watched = Watched()
    for n in range(1000):
        watched.patience.allow(20.0 + n)
    assert len(watched.clock.getDelayedCalls()) == 1


def test_what_expires_may_allow_more() -> None:
    clock = Clock()
    at: list[float] = []

    def expired() -> None:
        at.append(clock.seconds())
        patience.allow(1.0)

    patience = Patience(clock, expired)
    patience.allow(1.0)
    for _ in range(3):
        clock.advance(1.0)
    assert at == [1.0, 2.0, 3.0]


def test_hurry_only_shortens() -> None:
    clock, expired = Clock(), []
    patience = Patience(clock, lambda: expired.append(clock.seconds()))
    patience.allow(300)
    patience.hurry(20)
    assert patience.deadline == 20
    patience.hurry(100)
    assert patience.deadline == 20
    clock.pump([5.0] * 5)
    assert expired == [20.0]
