"""What the client session knows of the transaction under way: its commands, and what was said of each recipient."""

from __future__ import annotations

from qmtls.smtp.content import DotStuffer
from qmtls.smtp.events import Result


class Work:
    """One transaction. `results` has None for a recipient that nothing was said against so far."""

    __slots__ = ("at", "commands", "mail_taken", "pipelined", "results", "stuffer")

    def __init__(self, commands: list[bytes], pipelined: bool) -> None:
        self.commands = commands  # MAIL, then one RCPT per recipient
        self.pipelined = pipelined
        self.results: list[Result | None] = [None] * (len(commands) - 1)
        self.at = 0  # the recipient whose reply is awaited
        self.mail_taken = False
        self.stuffer = DotStuffer()

    @property
    def has_takers(self) -> bool:
        return None in self.results

    def forget(self) -> None:
        """Nothing is known of any recipient."""
        self.results = [None] * len(self.results)

    def settle(self, result: Result) -> tuple[Result, ...]:
        """The final results: `result` for all that are still open."""
        return tuple(own or result for own in self.results)
