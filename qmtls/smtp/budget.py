"""How much trouble one session may make before it is over; each account has a hard end.

    errors      what the client gets wrong, failed logins too: `max_errors` in a session
    refusals    recipients that were refused: REFUSALS for each of these errors. Then further recipients are put off
                unseen (452), so that names cannot be guessed without end. The message goes to those that were
                accepted before, and the next MAIL ends the session: a list with many dead addresses gets through.
    idle        commands that bring no message, in a row: `max_commands`
    unseen      commands that come in good faith behind a refusal (RFC 2920), and recipients too many: as many as a
                client may have pipelined without knowing; then they are errors

A message that comes to its end clears the last two, also if trouble of ours keeps it from being stored. A limit of 0 is
none.
"""

from __future__ import annotations

REFUSALS = 10
UNSEEN = 10  # for each recipient that a transaction may have

_NEVER = 1 << 62


class Budget:
    """One session's accounts. What returns a bool returns True while there is something left."""

    __slots__ = ("_errors", "_idle", "_max_errors", "_max_idle", "_max_unseen", "_refusals", "_unseen", "may_try")

    def __init__(self, max_errors: int, max_commands: int, max_recipients: int) -> None:
        self._max_errors = max_errors or _NEVER
        self._max_idle = max_commands or _NEVER
        self._max_unseen = UNSEEN * max_recipients
        self._errors = self._refusals = self._idle = self._unseen = 0
        self.may_try = True  # recipients

    def error(self) -> bool:
        """The last error that is one too many is the one that ends the session."""
        self._errors += 1
        return self._errors < self._max_errors

    def refusal(self) -> None:
        """A recipient was refused."""
        self._refusals += 1
        self.may_try = self._refusals < self._max_errors * REFUSALS

    def idle(self) -> bool:
        """A command that brings no message."""
        self._idle += 1
        return self._idle <= self._max_idle

    def unseen(self) -> bool:
        """A command that is in vain through no fault of the client's."""
        self._unseen += 1
        return self._unseen <= self._max_unseen

    def message(self) -> None:
        """One came to its end."""
        self._idle = self._unseen = 0
