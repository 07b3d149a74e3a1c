"""Our lines in the log that twistd writes: gathered for a moment and handed over as one event.

Twisted formats every event anew, at a cost that would be a tenth of a message's. Here the lines of 50 ms are one
event with its text ready made. And a log that nobody reads never blocks mail: a pipe is written without waiting, what
does not fit its buffer is dropped.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable
from typing import Any

from twisted.logger import FileLogObserver, LogEvent, Logger, globalLogPublisher

from qmtls.net.linelog import Stamp, one_line

FLUSH_SECONDS = 0.05
PIPE_SIZE = 1024 * 1024  # octets that a slow reader may be behind; the usual limit for an unprivileged process

_TEXT = "qmtls_text"  # the key of an event whose text is ready

# What Twisted says of every socket: four lines for each question to a name server. Ours say which sockets listen.
_CHATTER = re.compile(r"\S+ starting on \d+|\(\S+ Port \d+ Closed\)|(Starting|Stopping) protocol .*")

FormatEvent = Callable[[LogEvent], str | None]


class MainLog:
    """`say` a line; call `flush` at the end."""

    def __init__(self, clock: Any, stamp: Callable[[], str] | None = None) -> None:
        self._clock = clock
        self._stamp = stamp or Stamp()
        self._log = Logger(namespace="qmtls")
        self._lines: list[str] = []
        self._timer: Any = None

    def say(self, line: str) -> None:
        """One line, with the time of now."""
        self.pass_on(f"{self._stamp()} {one_line(line)}\n")

    def pass_on(self, text: str) -> None:
        """Whole lines that have their time."""
        self._lines.append(text)
        if self._timer is None:
            self._timer = self._clock.callLater(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hands over what was gathered."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._lines:
            lines, self._lines = self._lines, []
            self._log.info("{" + _TEXT + "}", **{_TEXT: "".join(lines)})


def take_ready_text() -> None:
    """Lets the observers that write to a file take our text as it is. Call when logging has begun."""
    for observer in getattr(globalLogPublisher, "_observers", ()):
        if isinstance(observer, FileLogObserver):
            observer.formatEvent = _ready_or(without_chatter(observer.formatEvent))


def without_chatter(usual: FormatEvent) -> FormatEvent:
    """As `usual`, but what Twisted says of every socket has no text: it is not written."""

    def format_event(event: LogEvent) -> str | None:
        legacy = event.get("log_namespace") == "log_legacy"
        return None if legacy and _CHATTER.fullmatch(str(event.get("log_text", ""))) else usual(event)

    return format_event


def _ready_or(usual: FormatEvent) -> FormatEvent:
    def format_event(event: LogEvent) -> str | None:
        ready: str | None = event.get(_TEXT)
        return usual(event) if ready is None else ready

    return format_event


def never_wait_for(fd: int) -> None:
    """If `fd` (standard output) is a pipe or socket, writes to it no longer block."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            if stat.S_ISFIFO(mode):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            os.set_blocking(fd, False)
    except (OSError, AttributeError):  # closed, or a system without pipe sizes: then it is as it is
        pass
