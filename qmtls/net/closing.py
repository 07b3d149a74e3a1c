"""Ending a connection so that it really ends.

Over TLS a close waits for the peer's close_notify, over TCP for the peer to read: a silent peer would keep the
connection for ever. So every close has an abort timer behind it.
"""

from __future__ import annotations

from typing import Any

ABORT_AFTER = 10.0  # seconds that a peer gets to read our last words and to close


def close_within(transport: Any, clock: Any, seconds: float = ABORT_AFTER) -> Any:
    """Closes after what is written; aborts after `seconds`. Returns the timer: cancel it in connectionLost."""
    transport.loseConnection()
    return clock.callLater(seconds, transport.abortConnection)


def cancel(timer: Any) -> None:
    """Stops a timer that may have fired, or may be None."""
    if timer is not None and timer.active():
        timer.cancel()
