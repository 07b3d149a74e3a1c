"""What parsers of the server's side raise: a command that cannot be obeyed, with the reply that says why."""

from __future__ import annotations

from qmtls.smtp.reply import Reply


class CommandError(Exception):
    """The command is malformed, or asks for what is not offered."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply
