"""What the steps of a server session share: the octets, whose turn it is, and what has been agreed on.

A step is a function of the core: `server_commands.py` has those for command lines, `server_auth.py` for AUTH,
`server_content.py` for DATA and BDAT; `server.py` calls them. Steps read whatever they like. What is assigned here is
assigned by the methods here only, but for the two attributes of input that is half read: `exchange` is
`server_auth`'s, and `intake` is `server_content`'s.
"""

from __future__ import annotations

from qmtls.smtp import events, server_replies
from qmtls.smtp.auth import Exchange
from qmtls.smtp.budget import Budget
from qmtls.smtp.content import Fault
from qmtls.smtp.events import ServerEvent
from qmtls.smtp.intake import NOTHING, Intake, Unwanted
from qmtls.smtp.lines import LineFault, LineReader
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_replies import ServerConfig
from qmtls.smtp.states import Dialogue, Phase

Question = events.MailFrom | events.RcptTo | events.Authenticate | events.DataStart | events.ContentEnd


class Core:
    """See the module. One for each session, from the connection to its end."""

    __slots__ = (
        "asked",
        "authenticated",
        "budget",
        "buffer",
        "config",
        "dialogue",
        "events",
        "exchange",
        "intake",
        "lines",
        "mechanisms",
        "out",
        "phase",
        "tls",
        "user",
    )

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        # Octets and events on their way.
        self.buffer = bytearray()  # came, and was not looked at
        self.lines = LineReader()  # takes lines off it
        self.out: list[bytes] = []  # replies to be sent, encoded
        self.events: list[ServerEvent] = []  # not yet given to the adapter
        # Whose turn it is.
        self.phase = Phase.HANDSHAKE if config.tls_first else Phase.COMMAND
        self.asked: Question | None = None  # in Phase.ANSWER: what the adapter is to answer
        # What has been agreed on; `dialogue` is forgotten when TLS begins.
        self.dialogue = Dialogue()  # moves by the table in states.py
        self.budget = Budget(config.max_errors, config.max_commands, config.max_recipients)
        self.tls = False
        self.mechanisms: tuple[str, ...] = ()  # by which this client may authenticate under TLS
        self.authenticated = ""  # the mechanism, once the client has done so
        self.user = ""  # who it is then; "" for EXTERNAL: what its certificate says
        # Input that is half read.
        self.exchange: Exchange | None = None  # in Phase.COMMAND: the next line answers its challenge
        self.intake: Intake | Unwanted = NOTHING  # in Phase.CONTENT: what takes it

    # ------------------------------------------------------------ whose turn it is

    def ask(self, question: Question) -> None:
        """The adapter's: nothing more is read before its answer."""
        self.asked = question
        self.events.append(question)
        self.phase = Phase.ANSWER

    def answered(self) -> Question:
        """What the adapter was asked; commands are read again. RuntimeError if it was asked nothing, or is not told."""
        asked = self.asked
        if asked is None or self.events:
            raise RuntimeError("an answer, but no question")
        self.asked = None
        self.phase = Phase.COMMAND
        return asked

    def await_content(self) -> None:
        """What comes next is for `intake`."""
        self.phase = Phase.CONTENT

    def content_read(self) -> None:
        """All that `intake` was for has been read."""
        self.phase = Phase.COMMAND

    def await_handshake(self) -> None:
        """The adapter's, until TLS is up."""
        self.events.append(events.StartTls())
        self.phase = Phase.HANDSHAKE

    def secured(self, mechanisms: tuple[str, ...]) -> None:
        """TLS is up. What was agreed on in plaintext is forgotten."""
        self.phase = Phase.COMMAND
        self.tls = True
        self.mechanisms = mechanisms
        self.lines = LineReader()
        self.dialogue = Dialogue()

    def close(self, why: str) -> None:
        """The session is over; `Closed` is the last event."""
        self.dialogue.close()
        self.phase = Phase.CLOSED
        self.asked = None
        self.buffer.clear()
        self.events.append(events.Closed(why))

    # ------------------------------------------------------------ what has been agreed on

    def settle(self, accepted: bool) -> None:
        """The command under way was accepted or refused; `Reset` if a transaction was dropped by that."""
        if self.dialogue.settle(accepted):
            self.events.append(events.Reset())

    def identified(self, mechanism: str, user: str) -> None:
        """AUTH succeeded."""
        self.authenticated = mechanism
        self.user = user

    @property
    def offered_mechanisms(self) -> tuple[str, ...]:
        """Those that AUTH takes now: under TLS, and once."""
        return () if self.authenticated or not self.tls else self.mechanisms

    # ------------------------------------------------------------ what is said

    def send(self, reply: Reply) -> None:
        """A reply of ours, and nothing else follows from it."""
        self.out.append(reply.encode())

    def send_answer(self, reply: Reply) -> None:
        """A reply from outside: a 421 ends the session."""
        self.send(reply)
        if reply.code == 421:
            self.close(str(reply))

    def end(self, reply: Reply, why: str) -> None:
        """The session is over, with a last word."""
        self.send(reply)
        self.close(why)

    def error(self, reply: Reply) -> None:
        """The client's mistake."""
        if self.spend():
            self.send(reply)

    def spend(self) -> bool:
        """Counts an error; False if it was the last one that the session may make: then that is over."""
        if self.budget.error():
            return True
        self.end(server_replies.TOO_MANY_ERRORS, "too many errors")
        return False

    def unseen(self, reply: Reply) -> None:
        """The reply to what the client could not know to be in vain when it sent it: no error, within limits."""
        if self.budget.unseen() or self.spend():
            self.send(reply)

    def fault(self, fault: LineFault) -> None:
        """What came is no line."""
        if fault is LineFault.TOO_LONG:
            self.error(server_replies.LINE_TOO_LONG)
        elif fault is LineFault.BARE:
            self.end(Fault.BARE.reply, "bare CR or LF in a command")
        else:
            self.end(server_replies.ENDLESS_LINE, "endless command line")
