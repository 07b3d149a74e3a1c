"""The client's side of an SMTP session, without I/O (RFC 5321, pipelining by RFC 2920, STARTTLS by RFC 3207).

The adapter moves octets (`receive_data`, `data_to_send`), watches the clock by `stage` and `time_limit`, and acts
on events until `next_event` says NEED_DATA or PAUSED. The session owns the dialogue: which command may go when,
and which reply belongs to it. Replies are matched strictly in order and judged by their first digit.

Transactions are in `client_transaction.py`.

Promises: each `begin` ends in exactly one Sent or Ended with one result per recipient; a recipient is delivered
only if its RCPT and then the whole content got a 2xx. Nothing learnt in plaintext survives STARTTLS. Octets that no
command asked for end the session. After Ended nothing that comes is looked at, and nothing is sent. Calls that
`client_states.CALLS` does not allow raise RuntimeError: they are faults of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import ClassVar

from qmtls.smtp.client_states import CALLS, REPLIES, Call, State, Step, time_limit
from qmtls.smtp.client_transaction import Transactions
from qmtls.smtp.client_work import Work
from qmtls.smtp.events import (
    NEED_DATA,
    PAUSED,
    Answered,
    ClientEvent,
    Ended,
    Greeted,
    Signal,
    TlsGo,
    TlsRefused,
)
from qmtls.smtp.offers import NO_LIMITS, read_limits, read_offers
from qmtls.smtp.outgoing import Outgoing, Unsendable, commands
from qmtls.smtp.reply import Reply
from qmtls.smtp.reply_parser import MalformedReply, ReplyParser

__all__ = ["ClientSession", "Outgoing", "Unsendable", "time_limit"]

_WORD = re.compile(r"[!-~]+")
_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}\Z")  # a host name or an address literal, as far as a report wants it


class ClientSession(Transactions):
    """One connection, seen from the client.

    `extensions` maps upper-case EHLO keywords to their parameters; `limits` are those that the server announced,
    `transactions` those that were begun; `replies` counts what the server said in whole replies.
    """

    __slots__ = ("_eof", "_final", "_helo", "_tls", "extensions", "limits", "replies", "transactions")

    hello: ClassVar[bytes] = b"EHLO"
    steps: ClassVar[Mapping[Step, Callable[..., ClientEvent | None]]] = {}  # set below the class

    def __init__(self, helo: str, *, secure: bool = False) -> None:
        """`helo` is the name that EHLO gives; ValueError if it could not stand there. `secure`: inside TLS from the
        first octet."""
        if not _WORD.fullmatch(helo):
            raise ValueError(f"not a name for EHLO: {helo!r}")
        super().__init__()
        self.extensions: dict[str, str] = {}
        self.limits = NO_LIMITS
        self.transactions = self.replies = 0
        self._helo = helo
        self._tls = secure
        self._eof = False
        self._final: Ended | None = None  # made outside next_event, to be given by it

    # ------------------------------------------------------------ what the adapter asks

    @property
    def ready(self) -> bool:
        """True if `begin` may be called."""
        return self._state is State.READY and not self._eof and not self._parser.pending

    @property
    def spent(self) -> bool:
        """True if the server announced how many transactions it takes, and had them."""
        return 0 < self.limits.messages <= self.transactions

    def data_to_send(self) -> bytes:
        """Everything queued since the last call, for one write."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    # ------------------------------------------------------------ what the adapter tells

    def receive_data(self, data: bytes) -> None:
        """Only stores; call `next_event` until it has nothing to say before giving more."""
        if self._state is not State.ENDED:
            self._parser.feed(data)

    def receive_eof(self) -> None:
        """The peer closed: replies that came before still count, then Ended."""
        self._eof = True

    def give_up(self, why: str) -> None:
        """The adapter will not go on ("timed out"): Ended at once. Harmless when the session is over."""
        if self._state is not State.ENDED:
            self._final = self._end(why)

    def start_tls(self) -> None:
        """Asks for TLS: TlsGo, TlsRefused or Ended follows."""
        if self._tls:
            raise RuntimeError("start_tls is not possible inside TLS")
        state = self._allow(Call.START_TLS)
        if self._parser.pending:
            self._final = self._end("unexpected octets before STARTTLS")
            return
        self._state = state
        self._out.append(b"STARTTLS\r\n")

    def tls_established(self) -> None:
        """The handshake is done and its verdict good: everything begins again with EHLO (RFC 3207 section 4.2)."""
        state = self._allow(Call.TLS_ESTABLISHED)
        if self._parser.pending:
            self._final = self._end("octets injected behind STARTTLS", injected=True)
            return
        self._tls = True
        self.extensions = {}
        self.limits = NO_LIMITS
        self._parser = ReplyParser()
        self._say_hello(state, self.hello)

    def ask(self, line: bytes) -> None:
        """A line of AUTH, without its end: Answered or Ended follows."""
        state = self._allow(Call.ASK)
        if self._parser.pending:
            self._final = self._end("unexpected reply")
        else:
            self._state = state
            self._out.append(line + b"\r\n")

    def begin(self, transaction: Outgoing) -> None:
        """Starts a transaction: SendContent, Sent or Ended follows. Unsendable (a ValueError) changes nothing."""
        state = self._allow(Call.BEGIN)
        self._work = work = Work(commands(transaction, self.extensions), "PIPELINING" in self.extensions)
        if self._parser.pending:
            # It came before anything was asked for, so it must not pass as the answer to MAIL.
            self._final = self._end("unexpected reply")
            return
        self.transactions += 1
        if self._open:
            state = State.RSET
            self._out.append(b"RSET\r\n")
        self._state = state
        if work.pipelined:
            self._out += work.commands
            self._out.append(b"DATA\r\n")
        elif state is State.MAIL:
            self._out.append(work.commands[0])

    def send_content(self, data: bytes) -> None:
        """Octets of the content as stored, in any pieces, after SendContent."""
        self._state = self._allow(Call.SEND_CONTENT)
        if self._work is not None:
            self._out.append(self._work.stuffer.feed(data))

    def end_content(self) -> None:
        """The content is complete: Sent or Ended follows."""
        state = self._allow(Call.END_CONTENT)
        if self._parser.pending:
            return  # a reply to content that has no end yet: whatever it says, the final dot is not sent
        self._state = state
        if self._work is not None:
            self._out.append(self._work.stuffer.end())

    def quit(self) -> None:
        """A polite end: Ended follows."""
        self._state = self._allow(Call.QUIT)
        if self._state is State.QUIT:
            self._out.append(b"QUIT\r\n")

    def _allow(self, call: Call) -> State:
        state = CALLS.get((self._state, call))
        if state is None:
            raise RuntimeError(f"{call.value} is not possible while {self._state.value}")
        return state

    # ------------------------------------------------------------ what the peer says

    def next_event(self) -> ClientEvent | Signal:
        """The next event; NEED_DATA if more octets are needed; PAUSED during the handshake and after the end."""
        while True:
            if self._final is not None:
                final, self._final = self._final, None
                return final
            if self._state is State.ENDED:
                return PAUSED
            if self._state is State.HANDSHAKE:
                return self._wait_for_handshake()
            try:
                reply = self._parser.next_reply()
            except MalformedReply as error:
                return self._lose_count(str(error))
            if reply is None:
                return self._end("connection lost") if self._eof else NEED_DATA
            event = self._take(reply)
            if event is not None:
                return event

    def _wait_for_handshake(self) -> Ended | Signal:
        if self._parser.pending:
            return self._end("octets injected behind STARTTLS", injected=True)
        return self._end("connection lost") if self._eof else PAUSED

    def _take(self, reply: Reply) -> ClientEvent | None:
        self.replies += 1
        if reply.code == 421:
            return self._end("the server ends the session", reply)
        step = REPLIES.get((self._state, reply.code // 100))
        if step is None or self._early:
            return self._lose_count(f'unexpected reply "{reply}"')
        return self.steps[step](self, reply)

    # ------------------------------------------------------------ steps: greeting, TLS, end

    def _say_hello(self, state: State, verb: bytes) -> None:
        self._state = state
        self._out.append(b"%s %s\r\n" % (verb, self._helo.encode("ascii")))

    def _say_first(self, reply: Reply) -> None:
        ehlo = self._state is State.GREETING
        self._say_hello(State.EHLO if ehlo else State.HELO, self.hello if ehlo else b"HELO")

    def _greeted(self, reply: Reply) -> Greeted:
        if self._state is State.EHLO:
            self.extensions = read_offers(reply.lines[1:])
            self.limits = read_limits(self.extensions)
            if not self._tls:
                # RFC 8689 section 2: it may be offered under TLS only, and asked for under TLS only.
                self.extensions.pop("REQUIRETLS", None)
        self._state = State.READY
        return Greeted(self.extensions, self._tls, _name_in(reply))

    def _said_no_more(self, reply: Reply) -> Ended:
        return self._end("quit" if self._state is State.QUIT else "refused", reply)

    def _tls_go(self, reply: Reply) -> ClientEvent:
        if self._parser.pending:
            return self._end("octets injected behind STARTTLS", injected=True)
        self._state = State.HANDSHAKE
        return TlsGo()

    def _tls_refused(self, reply: Reply) -> TlsRefused:
        self._state = State.READY
        return TlsRefused(reply)

    def _ask_answered(self, reply: Reply) -> Answered:
        self._state = State.CHALLENGED if 300 <= reply.code < 400 else State.READY
        return Answered(reply)


STEPS: Mapping[Step, Callable[..., ClientEvent | None]] = {
    Step.SAY_EHLO: ClientSession._say_first,
    Step.SAY_HELO: ClientSession._say_first,
    Step.GREETED: ClientSession._greeted,
    Step.REFUSED: ClientSession._said_no_more,
    Step.TLS_GO: ClientSession._tls_go,
    Step.TLS_REFUSED: ClientSession._tls_refused,
    Step.WAS_RESET: ClientSession._was_reset,
    Step.MAIL_TAKEN: ClientSession._mail_taken,
    Step.MAIL_REFUSED: ClientSession._mail_refused,
    Step.RCPT_TAKEN: ClientSession._rcpt_taken,
    Step.RCPT_REFUSED: ClientSession._rcpt_refused,
    Step.GO_AHEAD: ClientSession._go_ahead,
    Step.DATA_REFUSED: ClientSession._data_refused,
    Step.CUT_SHORT: ClientSession._cut_short,
    Step.FINISHED: ClientSession._finished,
    Step.ANSWERED: ClientSession._ask_answered,
    Step.GOODBYE: ClientSession._said_no_more,
}
ClientSession.steps = STEPS


def _name_in(reply: Reply) -> str:
    """RFC 5321 section 4.1.1.1: an answer to EHLO begins with the server's name."""
    word = reply.lines[0].partition(" ")[0] if reply.lines else ""
    return word if _NAME.match(word) else ""
