"""One SMTP server session without I/O: octets in, events and replies out (RFC 5321).

    receive_data(octets)  only stores
    next_event()          the next event, NEED_DATA, or PAUSED while an answer or the handshake is outstanding
    answer(reply)         exactly once for each event that asks
    data_to_send()        the replies so far

One command at a time: nothing behind a question is looked at before its answer, so replies keep the order of the
commands, however they were pipelined (RFC 2920). What the client gets wrong is answered here and never seen outside.
A transaction is made by an accepted MAIL and dropped by one function. `Reset` tells the adapter of it, unless
that knows already by its answer to `ContentEnd`, or by `ContentRefused`. After `Closed` nothing is read, asked or said.

What the steps share is in `server_core.py`, content in `server_content.py`, AUTH in `server_auth.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qmtls.smtp import commands, events, parameters, server_auth, server_content, server_replies
from qmtls.smtp.commands import Verb
from qmtls.smtp.content import Fault
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import NEED_DATA, PAUSED, ServerEvent, Signal
from qmtls.smtp.lines import LineFault, LineReader
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_core import MAX_STORED, Core
from qmtls.smtp.server_replies import GO_AHEAD, ServerConfig
from qmtls.smtp.states import Dialogue, Phase, illegal

__all__ = ["GO_AHEAD", "MAX_BUFFERED", "MAX_STORED", "Phase", "ServerConfig", "ServerSession"]

MAX_BUFFERED = 64 * 1024  # octets stored and not looked at: above it the adapter pauses its transport


class ServerSession(Core):
    """See the module. Wrong use by the adapter raises RuntimeError; nothing that the client does raises anything."""

    __slots__ = ()

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config)
        if not config.tls_first:
            self.send(server_replies.greeting(config))

    def next_event(self) -> ServerEvent | Signal:
        """See the module."""
        while not self.events:
            if self.phase is Phase.COMMAND:
                if not self._read_command():
                    return NEED_DATA
            elif self.phase is Phase.CONTENT:
                if not server_content.read(self):
                    return NEED_DATA
            else:
                return PAUSED
        return self.events.pop(0)

    def answer(self, reply: Reply) -> None:
        """The answer to the last event. A 421 ends the session. Ignored once it is closed."""
        if self.phase is Phase.CLOSED:
            return
        asked, self.asked = self.asked, None
        if asked is None or self.events:
            raise RuntimeError("an answer, but no question")
        self.phase = Phase.COMMAND
        match asked:
            case events.DataStart():
                server_content.answer(self, asked.chunking, reply)
                return
            case events.ContentEnd():
                self.dialogue.drop()
                self.budget.message()
            case events.MailFrom():
                self.dialogue.open(asked.transaction, reply.is_positive)
            case events.RcptTo():
                self.dialogue.add(Recipient(asked.address, asked.parameters), reply.is_positive)
                if not reply.is_positive:
                    self.budget.refusal()
            case events.Authenticate():
                server_auth.answer(self, asked, reply)
                return
        self.send_answer(reply)

    def limit_content(self, octets: int) -> None:
        """Lowers the limit on the content of the transaction under way, or asked about: more is refused with 552.

        To be called before the answer to `DataStart`. 0 changes nothing, nor does a higher limit than there is.
        """
        server_content.limit(self, octets)

    def tls_established(self, mechanisms: tuple[str, ...] = ()) -> None:
        """The handshake is over. Nothing that the client said before it counts (RFC 3207 section 4.2).

        `mechanisms` are the SASL mechanisms that this client may use.
        """
        if self.phase is Phase.CLOSED:
            return
        if self.phase is not Phase.HANDSHAKE:
            raise RuntimeError("no handshake was due")
        self.phase = Phase.COMMAND
        self.tls = True
        self.mechanisms = mechanisms
        self.lines = LineReader()
        self.dialogue = Dialogue()
        if self.buffer:
            self.close("octets from before the end of the handshake")
        elif self.config.tls_first:
            self.send(server_replies.greeting(self.config))

    # ------------------------------------------------------------ commands

    def _read_command(self) -> bool:
        """Does one command; False if there is none yet."""
        if self.exchange is not None:
            return server_auth.respond(self, self.exchange)
        line = self.lines.next(self.buffer)
        if line is None:
            return False
        if isinstance(line, LineFault):
            self.fault(line)
            return True
        verb, argument = commands.parse(line)
        if not self.dialogue.begin(verb):
            self._illegal(verb, argument)
            return True
        if verb in _IDLE and not self.budget.idle():
            self.end(server_replies.TOO_MANY_COMMANDS, "too many commands without a message")
            return True
        try:
            _HANDLERS[verb](self, argument)
        except CommandError as error:
            self.settle(False)
            self.error(error.reply)
        return True

    def _illegal(self, verb: Verb, argument: bytes) -> None:
        refusal = illegal(self.dialogue.state, verb)
        excused = self.dialogue.excuses(verb)
        if verb is Verb.HTTP:
            self.end(refusal, "HTTP")
        elif verb is Verb.BDAT:
            server_content.illegal_bdat(self, argument, refusal, excused)
        elif excused:
            self.unseen(refusal)
        else:
            self.error(refusal)

    def _hello(self, argument: bytes, esmtp: bool) -> None:
        name = commands.hello(argument)
        self.settle(True)
        self.dialogue.helo = name
        self.dialogue.esmtp = esmtp
        self.out.append(server_replies.hello(self.config, esmtp, self.tls, self.offered_mechanisms))

    def _starttls(self, argument: bytes) -> None:
        commands.nothing(argument)
        if self.tls:
            self.error(server_replies.TLS_TWICE)
        elif not self.config.starttls:
            self.send(server_replies.NO_TLS)
        elif self.buffer:  # read later it would pass for something that came inside TLS
            self.end(server_replies.BEHIND_STARTTLS, "octets behind STARTTLS")
        else:
            self.settle(True)
            self.send(server_replies.READY_FOR_TLS)
            self.events.append(events.StartTls())
            self.phase = Phase.HANDSHAKE

    def _mail(self, argument: bytes) -> None:
        if not self.budget.may_try:
            self.end(server_replies.TOO_MANY_REFUSALS, "too many refused recipients")
            return
        config = self.config
        if config.submission and config.starttls and not self.tls:
            self.settle(False)
            self.send(server_replies.STARTTLS_FIRST)
            return
        transaction = commands.mail(argument, parameters.of_mail(self.dialogue.esmtp, self.tls, bool(self.mechanisms)))
        if config.max_size and (transaction.size or 0) > config.max_size:
            self.settle(False)
            self.send(Fault.TOO_LARGE.reply)
        else:
            self.ask(events.MailFrom(transaction))

    def _rcpt(self, argument: bytes) -> None:
        dialogue = self.dialogue
        smtputf8 = dialogue.transaction is not None and dialogue.transaction.smtputf8
        recipient = commands.recipient(argument, parameters.of_rcpt(dialogue.esmtp, smtputf8), smtputf8=smtputf8)
        if len(dialogue.recipients) >= self.config.max_recipients:
            self.unseen(server_replies.TOO_MANY_RECIPIENTS)
        elif not self.budget.may_try:
            self.unseen(server_replies.RECIPIENTS_LATER)
        else:
            self.ask(recipient)

    def _rset(self, argument: bytes) -> None:
        commands.nothing(argument)
        self.settle(True)
        self.send(server_replies.FLUSHED)

    def _say(self, argument: bytes, reply: Reply) -> None:
        commands.text(argument)
        self.send(reply)

    def _vrfy(self, argument: bytes) -> None:
        commands.verify(argument)
        self.send(server_replies.VRFY)

    def _quit(self, argument: bytes) -> None:
        commands.nothing(argument)
        self.end(server_replies.goodbye(self.config), "QUIT")


# What brings no message by itself; MAIL is one of them, because a message that comes of it clears the account.
_IDLE = frozenset(
    {Verb.EHLO, Verb.HELO, Verb.STARTTLS, Verb.AUTH, Verb.MAIL, Verb.RSET, Verb.NOOP, Verb.VRFY, Verb.HELP}
)
_HANDLERS: Mapping[Verb, Callable[[ServerSession, bytes], None]] = {
    Verb.EHLO: lambda session, argument: session._hello(argument, True),
    Verb.HELO: lambda session, argument: session._hello(argument, False),
    Verb.STARTTLS: ServerSession._starttls,
    Verb.AUTH: server_auth.auth,
    Verb.MAIL: ServerSession._mail,
    Verb.RCPT: ServerSession._rcpt,
    Verb.DATA: server_content.data,
    Verb.BDAT: server_content.bdat,
    Verb.RSET: ServerSession._rset,
    Verb.NOOP: lambda session, argument: session._say(argument, server_replies.OK),
    Verb.VRFY: ServerSession._vrfy,
    Verb.HELP: lambda session, argument: session._say(argument, server_replies.HELP),
    Verb.QUIT: ServerSession._quit,
}
