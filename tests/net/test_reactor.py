"""The clock of the reactor: timers go by one that nobody sets."""

from __future__ import annotations

import time
from typing import Any

from qmtls.net.reactor import LeanReactor


def test_timers_do_not_go_by_the_time_of_day() -> None:
    made: Any = LeanReactor
    reactor = made()
    timer = reactor.callLater(1000.0, print)
    left = timer.getTime() - time.monotonic()
    timer.cancel()
    for reader in reactor.removeAll():
        reader.connectionLost(None)
    assert 990.0 < left <= 1000.0
