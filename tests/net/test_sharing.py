"""Work asked for by several at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from qmtls.net.sharing import Shared


def test_it_is_done_once_and_told_to_all() -> None:
    shared: Shared[str, int] = Shared()
    begun: list[Deferred[int]] = []

    async def run() -> int:
        begun.append(Deferred())
        return await begun[-1]

    found: list[Any] = []
    for key in ("a", "a", "b"):
        shared.run(key, run).addCallback(found.append)
    assert "a" in shared and len(begun) == 2
    begun[0].callback(7)
    assert found == [7, 7]
    begun[1].callback(8)
    assert found == [7, 7, 8]
    assert "a" not in shared


@pytest.mark.parametrize("fails", [True, False])
def test_who_stops_waiting_takes_nothing_from_the_others(fails: bool) -> None:
    shared: Shared[str, int] = Shared()
    work: Deferred[int] = Deferred()

    async def run() -> int:
        return await work

    first, second = shared.run("a", run), shared.run("a", run)
    first.cancel()
    first.addErrback(lambda failure: failure.trap(CancelledError))
    found: list[Any] = []
    second.addBoth(found.append)
    if fails:
        work.errback(ValueError("no"))
        assert found[0].check(ValueError)
    else:
        work.callback(7)
        assert found == [7]
