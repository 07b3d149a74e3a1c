"""The epoll reactor without its logging context, and with a clock that nobody sets.

Twisted runs every event of every descriptor in a logging context of its own: five calls in Python around each read,
a tenth of all that a message costs. Our log lines name what they are about themselves, so this reactor calls
`doRead` straight away. What is not a plain read takes the usual way.

Twisted's timers go by the time of day: set back by an hour, it would stop every one of them for an hour, and with them
retries, reloads and time limits. Here `seconds` only measures; who wants to know the time of day asks for it.
"""

from __future__ import annotations

import errno
import sys
from select import EPOLLIN
from time import monotonic
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log


class LeanReactor(EPollReactor):
    """Promises what EPollReactor does: an exception in a protocol is logged and ends its connection only."""

    seconds = staticmethod(monotonic)

    def doPoll(self, timeout: float | None) -> None:
        selectables = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is None:
                continue
            if event != EPOLLIN:
                self._doReadOrWrite(selectable, fd, event)
                continue
            why: Any
            try:
                why = selectable.doRead()
            except BaseException:
                why = sys.exc_info()[1]
                log.err()
            if why:
                self._disconnectSelectable(selectable, why, True)

    doIteration = doPoll


def install() -> None:
    """Makes it this process's reactor, unless there is one already (an option of twistd's, a test's)."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(LeanReactor())
