"""One SMTP server session without I/O: octets in, events and replies out (RFC 5321).

    receive_data(octets)  only stores
    next_event()          the next event, NEED_DATA, or PAUSED while an answer or the handshake is outstanding
    answer(reply)         exactly once for each event that asks
    data_to_send()        the replies so far

One command at a time: nothing behind a question is looked at before its answer, so replies keep the order of the
commands, however they were pipelined (RFC 2920). What the client gets wrong is answered here and never seen outside.
A transaction is made by an accepted MAIL and dropped by one function. `Reset` tells the adapter of it, unless
that knows already by its answer to `ContentEnd`, or by `ContentRefused`. After `Closed` nothing is read, asked or said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qmtls.smtp import commands, events, server_replies
from qmtls.smtp.commands import Chunk, CommandError, Verb
from qmtls.smtp.content import Fault
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import NEED_DATA, PAUSED, ServerEvent, Signal, Transaction
from qmtls.smtp.intake import Intake, Unwanted
from qmtls.smtp.lines import LineFault, LineReader
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_replies import GO_AHEAD, ServerConfig
from qmtls.smtp.states import Dialogue, Phase, illegal

__all__ = ["GO_AHEAD", "MAX_BUFFERED", "MAX_RECIPIENTS", "Phase", "ServerConfig", "ServerSession"]

MAX_RECIPIENTS = 1000  # of one transaction; RFC 5321 section 4.5.3.1.8 wants 100 at least
MAX_ERRORS = 10  # protocol errors of one session; the last of them ends it. Answers from outside are none.
MAX_BUFFERED = 64 * 1024  # octets stored and not looked at: above it the adapter pauses its transport
MAX_STORED = 1024 * 1024  # the same for an adapter that does not: the session ends

Question = events.MailFrom | events.RcptTo | events.DataStart | events.ContentEnd


class ServerSession:
    """See the module. Wrong use by the adapter raises RuntimeError; nothing that the client does raises anything."""

    __slots__ = (
        "_asked",
        "_buffer",
        "_config",
        "_dialogue",
        "_errors",
        "_events",
        "_intake",
        "_lines",
        "_out",
        "phase",
        "tls",
    )

    def __init__(self, config: ServerConfig) -> None:
        self.phase = Phase.HANDSHAKE if config.tls_first else Phase.COMMAND
        self.tls = False
        self._config = config
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._events: list[ServerEvent] = []
        self._errors = 0
        self._lines = LineReader()
        self._dialogue = Dialogue()
        self._asked: Question | None = None
        self._intake: Intake | Unwanted = Intake(0)  # the content under way
        if not config.tls_first:
            self._send(server_replies.greeting(config))

    @property
    def helo(self) -> str:
        """The name in EHLO or HELO: visible ASCII, not to be believed; "" before it."""
        return self._dialogue.helo

    @property
    def esmtp(self) -> bool:
        """EHLO, not HELO."""
        return self._dialogue.esmtp

    @property
    def transaction(self) -> Transaction | None:
        """The one under way, until its content was answered or refused."""
        return self._dialogue.transaction

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Those accepted in this transaction."""
        return tuple(self._dialogue.recipients)

    @property
    def buffered(self) -> int:
        """Octets stored and not looked at; see MAX_BUFFERED."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Stores what came. Ignored once the session is closed."""
        if self.phase is Phase.CLOSED:
            return
        self._buffer += data
        if len(self._buffer) > MAX_STORED and self.phase in (Phase.ANSWER, Phase.HANDSHAKE):
            self.abort(server_replies.TOO_MUCH)

    def next_event(self) -> ServerEvent | Signal:
        """See the module."""
        while not self._events:
            if self.phase is Phase.COMMAND:
                if not self._read_command():
                    return NEED_DATA
            elif self.phase is Phase.CONTENT:
                if not self._read_content():
                    return NEED_DATA
            else:
                return PAUSED
        return self._events.pop(0)

    def answer(self, reply: Reply) -> None:
        """The answer to the last event. A 421 ends the session. Ignored once it is closed."""
        if self.phase is Phase.CLOSED:
            return
        asked, self._asked = self._asked, None
        if asked is None or self._events:
            raise RuntimeError("an answer, but no question")
        self.phase = Phase.COMMAND
        match asked:
            case events.DataStart():
                self._answer_data(asked.chunking, reply)
                return
            case events.ContentEnd():
                self._dialogue.drop()
            case events.MailFrom():
                self._dialogue.open(asked.transaction, reply.is_positive)
            case events.RcptTo():
                self._dialogue.add(Recipient(asked.address, asked.parameters), reply.is_positive)
        self._send_answer(reply)

    def data_to_send(self) -> bytes:
        """What is to be sent now; the next call gives what came after it."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def tls_established(self) -> None:
        """The handshake is over. Nothing that the client said before it counts (RFC 3207 section 4.2)."""
        if self.phase is Phase.CLOSED:
            return
        if self.phase is not Phase.HANDSHAKE:
            raise RuntimeError("no handshake was due")
        self.phase = Phase.COMMAND
        self.tls = True
        self._lines = LineReader()
        self._dialogue = Dialogue()
        if self._buffer:
            self._close("octets from before the end of the handshake")
        elif self._config.tls_first:
            self._send(server_replies.greeting(self._config))

    def abort(self, reply: Reply) -> None:
        """Our side ends the session: the reply is sent, and Closed is the next event."""
        if self.phase is not Phase.CLOSED:
            self._events.clear()
            self._send(reply)
            self._close(str(reply))

    def receive_eof(self) -> None:
        """The client is gone: Closed is the next event."""
        if self.phase is not Phase.CLOSED:
            self._events.clear()
            self._close("connection lost")

    # ------------------------------------------------------------ commands

    def _read_command(self) -> bool:
        """Does one command; False if there is none yet."""
        line = self._lines.next(self._buffer)
        if line is None:
            return False
        if isinstance(line, LineFault):
            self._fault(line)
            return True
        verb, argument = commands.parse(line)
        if not self._dialogue.begin(verb):
            self._illegal(verb, argument)
            return True
        try:
            _HANDLERS[verb](self, argument)
        except CommandError as error:
            self._settle(False)
            self._error(error.reply)
        return True

    def _fault(self, fault: LineFault) -> None:
        if fault is LineFault.TOO_LONG:
            self._error(server_replies.LINE_TOO_LONG)
        elif fault is LineFault.BARE:
            self._end(Fault.BARE.reply, "bare CR or LF in a command")
        else:
            self._end(server_replies.ENDLESS_LINE, "endless command line")

    def _illegal(self, verb: Verb, argument: bytes) -> None:
        refusal = illegal(self._dialogue.state, verb)
        excused = self._dialogue.excuses(verb)
        if verb is Verb.HTTP:
            self._end(refusal, "HTTP")
        elif verb is Verb.BDAT:
            chunk = self._chunk_of(argument)
            if chunk and (excused or self._spend()):
                self._skip(chunk, refusal)
        elif excused:
            self._send(refusal)
        else:
            self._error(refusal)

    def _hello(self, argument: bytes, esmtp: bool) -> None:
        name = commands.hello(argument)
        self._settle(True)
        self._dialogue.helo = name
        self._dialogue.esmtp = esmtp
        self._send(server_replies.hello(self._config, esmtp, self.tls))

    def _starttls(self, argument: bytes) -> None:
        commands.nothing(argument)
        if self.tls:
            self._error(server_replies.TLS_TWICE)
        elif not self._config.starttls:
            self._send(server_replies.NO_TLS)
        elif self._buffer:  # read later it would pass for something that came inside TLS
            self._end(server_replies.BEHIND_STARTTLS, "octets behind STARTTLS")
        else:
            self._settle(True)
            self._send(server_replies.READY_FOR_TLS)
            self._events.append(events.StartTls())
            self.phase = Phase.HANDSHAKE

    def _mail(self, argument: bytes) -> None:
        transaction = commands.mail(argument)
        if self._config.max_size and (transaction.size or 0) > self._config.max_size:
            self._settle(False)
            self._send(Fault.TOO_LARGE.reply)
        else:
            self._ask(events.MailFrom(transaction))

    def _rcpt(self, argument: bytes) -> None:
        transaction = self._dialogue.transaction
        recipient = commands.recipient(argument, smtputf8=transaction is not None and transaction.smtputf8)
        if len(self._dialogue.recipients) >= MAX_RECIPIENTS:
            self._send(server_replies.TOO_MANY_RECIPIENTS)
        else:
            self._ask(recipient)

    def _data(self, argument: bytes) -> None:
        commands.nothing(argument)
        self._ask(events.DataStart(chunking=False))

    def _bdat(self, argument: bytes) -> None:
        chunk = self._chunk_of(argument)
        if chunk is None:
            return
        first = not self._dialogue.chunking
        if first or not isinstance(self._intake, Intake):
            self._intake = Intake(self._config.max_size)
        self._intake.next_chunk(chunk)
        if first and self._intake.fault is None:
            self._ask(events.DataStart(chunking=True))
        else:
            self._settle(True)
            self.phase = Phase.CONTENT

    def _rset(self, argument: bytes) -> None:
        commands.nothing(argument)
        self._settle(True)
        self._send(server_replies.FLUSHED)

    def _say(self, argument: bytes, reply: Reply) -> None:
        commands.text(argument)
        self._send(reply)

    def _quit(self, argument: bytes) -> None:
        commands.nothing(argument)
        self._end(server_replies.goodbye(self._config), "QUIT")

    # ------------------------------------------------------------ content

    def _answer_data(self, chunking: bool, reply: Reply) -> None:
        if not reply.is_positive:
            self._settle(False)
            if chunking and reply.code != 421:
                self._skip(self._intake.chunk, reply)
            else:
                self._send_answer(reply)
            return
        self.phase = Phase.CONTENT
        if chunking:
            self._settle(True)
        else:
            self._intake = Intake(self._config.max_size)
            self._send(GO_AHEAD)

    def _chunk_of(self, argument: bytes) -> Chunk | None:
        """None if BDAT is malformed: then nobody knows where the next command begins, and the session ends."""
        try:
            return commands.chunk(argument)
        except CommandError as error:
            self._end(error.reply, "BDAT without a size")
            return None

    def _skip(self, chunk: Chunk, refusal: Reply) -> None:
        """Reads past a chunk that is not wanted, then sends the reply."""
        self._intake = Unwanted(chunk, refusal)
        self.phase = Phase.CONTENT

    def _read_content(self) -> bool:
        """Takes what there is; False if more is needed."""
        intake = self._intake
        event = intake.take(self._buffer)
        if event is not None:
            self._events.append(event)
        if intake.refusal is not None and intake.hopeless:
            self._end(intake.refusal, "refused content too large to read past")
        elif not intake.done:
            return event is not None
        elif isinstance(intake, Intake):
            self._end_content(intake)
        else:
            self.phase = Phase.COMMAND
            self._send(intake.refusal)
        return True

    def _end_content(self, intake: Intake) -> None:
        self.phase = Phase.COMMAND
        refused = intake.finish()
        if refused is not None:
            self._events.append(refused)
        if intake.refusal is None:
            if intake.chunk.last:
                self._ask(events.ContentEnd(intake.size))
            else:
                self._send(server_replies.chunk_taken(intake.chunk.size))
        elif intake.fault is Fault.BARE:  # where we saw the end, others may have seen another one
            self._end(intake.refusal, "bare CR or LF in content")
        else:
            self._dialogue.drop(excused=True)
            self._send(intake.refusal)

    def _ask(self, event: Question) -> None:
        self._asked = event
        self._events.append(event)
        self.phase = Phase.ANSWER

    def _settle(self, accepted: bool) -> None:
        if self._dialogue.settle(accepted):
            self._events.append(events.Reset())

    def _send(self, reply: Reply) -> None:
        self._out.append(reply.encode())

    def _send_answer(self, reply: Reply) -> None:
        self._send(reply)
        if reply.code == 421:
            self._close(str(reply))

    def _error(self, reply: Reply) -> None:
        if self._spend():
            self._send(reply)

    def _spend(self) -> bool:
        """Counts an error; False if it was the last one that the session may make: then that is over."""
        self._errors += 1
        if self._errors < MAX_ERRORS:
            return True
        self._end(server_replies.TOO_MANY_ERRORS, "too many errors")
        return False

    def _end(self, reply: Reply, why: str) -> None:
        self._send(reply)
        self._close(why)

    def _close(self, why: str) -> None:
        self._dialogue.close()
        self.phase = Phase.CLOSED
        self._asked = None
        self._buffer.clear()
        self._events.append(events.Closed(why))


_HANDLERS: Mapping[Verb, Callable[[ServerSession, bytes], None]] = {
    Verb.EHLO: lambda session, argument: session._hello(argument, True),
    Verb.HELO: lambda session, argument: session._hello(argument, False),
    Verb.STARTTLS: ServerSession._starttls,
    Verb.MAIL: ServerSession._mail,
    Verb.RCPT: ServerSession._rcpt,
    Verb.DATA: ServerSession._data,
    Verb.BDAT: ServerSession._bdat,
    Verb.RSET: ServerSession._rset,
    Verb.NOOP: lambda session, argument: session._say(argument, server_replies.OK),
    Verb.VRFY: lambda session, argument: session._say(argument, server_replies.VRFY),
    Verb.HELP: lambda session, argument: session._say(argument, server_replies.HELP),
    Verb.QUIT: ServerSession._quit,
}
