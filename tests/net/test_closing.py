"""A close that really ends."""

from __future__ import annotations

from twisted.internet.task import Clock

from qmtls.net.closing import ABORT_AFTER, cancel, close_within


class Transport:
    def __init__(self) -> None:
        self.done: list[str] = []

    def loseConnection(self) -> None:
        self.done.append("close")

    def abortConnection(self) -> None:
        self.done.append("abort")


def test_a_peer_that_does_not_close_is_cut() -> None:
    clock, transport = Clock(), Transport()
    close_within(transport, clock)
    clock.advance(ABORT_AFTER - 0.1)
    assert transport.done == ["close"]
    clock.advance(0.2)
    assert transport.done == ["close", "abort"]


def test_a_cancelled_timer() -> None:
    clock, transport = Clock(), Transport()
    timer = close_within(transport, clock, 3.0)
    cancel(timer)
    cancel(timer)
    cancel(None)
    clock.advance(10)
    assert transport.done == ["close"]
    cancel(close_within(transport, clock, 0.0))
    fired = close_within(transport, clock, 1.0)
    clock.advance(2)
    cancel(fired)
