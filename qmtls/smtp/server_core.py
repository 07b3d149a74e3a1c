"""What every step of a server session shares: its buffers, what was agreed on, and the few things that steps do.

`ServerSession` in `server.py` is this and the commands; content and authentication are functions in modules of their
own, which get the session as their first argument. The steps use the names here. An adapter uses only what is under
"the adapter's side".
"""

from __future__ import annotations

from qmtls.smtp import events, server_replies
from qmtls.smtp.auth import Exchange
from qmtls.smtp.budget import Budget
from qmtls.smtp.content import Fault
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import ServerEvent, Transaction
from qmtls.smtp.intake import Intake, Unwanted
from qmtls.smtp.lines import LineFault, LineReader
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_replies import ServerConfig
from qmtls.smtp.states import Dialogue, Phase

MAX_STORED = 1024 * 1024  # octets stored and not looked at, for an adapter that does not pause: the session ends

Question = events.MailFrom | events.RcptTo | events.Authenticate | events.DataStart | events.ContentEnd


class Core:
    """See the module."""

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
        self.phase = Phase.HANDSHAKE if config.tls_first else Phase.COMMAND
        self.tls = False
        self.mechanisms: tuple[str, ...] = ()  # by which this client may authenticate under TLS; EHLO offers them
        self.authenticated = ""  # the mechanism, once the client has done so
        self.user = ""  # who it is then; "" for EXTERNAL: what its certificate says
        self.buffer = bytearray()
        self.out: list[bytes] = []
        self.events: list[ServerEvent] = []
        self.budget = Budget(config.max_errors, config.max_commands, config.max_recipients)
        self.lines = LineReader()
        self.dialogue = Dialogue()
        self.asked: Question | None = None
        self.exchange: Exchange | None = None  # the authentication under way: the next line is for it
        self.intake: Intake | Unwanted = Intake(0)  # the content under way

    # ------------------------------------------------------------ the adapter's side

    @property
    def helo(self) -> str:
        """The name in EHLO or HELO: visible ASCII, not to be believed; "" before it."""
        return self.dialogue.helo

    @property
    def esmtp(self) -> bool:
        """EHLO, not HELO."""
        return self.dialogue.esmtp

    @property
    def transaction(self) -> Transaction | None:
        """The one under way, until its content was answered or refused."""
        return self.dialogue.transaction

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Those accepted in this transaction."""
        return tuple(self.dialogue.recipients)

    @property
    def buffered(self) -> int:
        """Octets stored and not looked at; see MAX_BUFFERED."""
        return len(self.buffer)

    def receive_data(self, data: bytes) -> None:
        """Stores what came. Ignored once the session is closed."""
        if self.phase is Phase.CLOSED:
            return
        self.buffer += data
        if len(self.buffer) > MAX_STORED and self.phase in (Phase.ANSWER, Phase.HANDSHAKE):
            self.abort(server_replies.TOO_MUCH)

    def data_to_send(self) -> bytes:
        """What is to be sent now; the next call gives what came after it."""
        data = b"".join(self.out)
        self.out.clear()
        return data

    def abort(self, reply: Reply) -> None:
        """Our side ends the session: the reply is sent, and Closed is the next event."""
        if self.phase is not Phase.CLOSED:
            self.events.clear()
            self.send(reply)
            self.close(str(reply))

    def receive_eof(self) -> None:
        """The client is gone: Closed is the next event."""
        if self.phase is not Phase.CLOSED:
            self.events.clear()
            self.close("connection lost")

    # ------------------------------------------------------------ the steps' side

    def ask(self, event: Question) -> None:
        self.asked = event
        self.events.append(event)
        self.phase = Phase.ANSWER

    def settle(self, accepted: bool) -> None:
        """The command under way was accepted or refused; `Reset` if a transaction was dropped by that."""
        if self.dialogue.settle(accepted):
            self.events.append(events.Reset())

    @property
    def offered_mechanisms(self) -> tuple[str, ...]:
        """Those that AUTH takes now: under TLS, and once."""
        return () if self.authenticated or not self.tls else self.mechanisms

    def send(self, reply: Reply) -> None:
        self.out.append(reply.encode())

    def send_answer(self, reply: Reply) -> None:
        """A reply from outside: a 421 ends the session."""
        self.send(reply)
        if reply.code == 421:
            self.close(str(reply))

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

    def end(self, reply: Reply, why: str) -> None:
        """The session is over, with a last word."""
        self.send(reply)
        self.close(why)

    def close(self, why: str) -> None:
        self.dialogue.close()
        self.phase = Phase.CLOSED
        self.asked = None
        self.buffer.clear()
        self.events.append(events.Closed(why))
