"""When the server takes which command: one table. What is not in it is illegal, and changes nothing.

The order of commands is that of RFC 5321 section 4.1.4. What they are answered is not told here but in
`server_commands.py`; this is only about what has been agreed on so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from qmtls.smtp.commands import Verb
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import Transaction
from qmtls.smtp.reply import Reply, reply


class Phase(Enum):
    """What the session waits for; the adapter's time limits go by it."""

    COMMAND = "a command line"
    CONTENT = "content"
    ANSWER = "an answer"
    HANDSHAKE = "the handshake"
    CLOSED = "nothing"


class State(Enum):
    """What the client has got us to agree on."""

    START = "nobody introduced"
    READY = "no transaction"
    MAIL = "a sender, no recipient tried"
    REFUSED = "a sender, every recipient so far refused"
    RCPT = "a sender and at least one recipient"
    CHUNKING = "chunks under way"
    CLOSED = "over"

    __hash__ = object.__hash__  # as for Verb


class Row(NamedTuple):
    """The state after a command was accepted, and after it was refused (malformed, or by the answer)."""

    accepted: State
    refused: State


TRANSACTION = frozenset({State.MAIL, State.REFUSED, State.RCPT, State.CHUNKING})
"""The states in which a transaction exists; leaving them drops it."""


def _rows(state: State, **moves: tuple[State, State]) -> dict[Verb, Row]:
    """What every state allows, and the moves that are its own."""
    rows = {verb: Row(state, state) for verb in (Verb.NOOP, Verb.VRFY, Verb.HELP)}
    rows[Verb.EHLO] = rows[Verb.HELO] = Row(State.READY, state)
    rows[Verb.RSET] = Row(State.START if state is State.START else State.READY, state)
    rows[Verb.QUIT] = Row(State.CLOSED, state)
    if state is not State.CHUNKING:
        rows[Verb.STARTTLS] = Row(State.START, state)
    rows.update({Verb[name]: Row(*move) for name, move in moves.items()})
    return rows


TABLE: Mapping[State, Mapping[Verb, Row]] = {
    State.START: _rows(State.START),
    State.READY: _rows(State.READY, MAIL=(State.MAIL, State.READY), AUTH=(State.READY, State.READY)),
    State.MAIL: _rows(State.MAIL, RCPT=(State.RCPT, State.REFUSED)),
    State.REFUSED: _rows(State.REFUSED, RCPT=(State.RCPT, State.REFUSED)),
    # Once content was asked for and refused, nothing is left of the transaction.
    State.RCPT: _rows(
        State.RCPT,
        RCPT=(State.RCPT, State.RCPT),
        DATA=(State.READY, State.READY),
        BDAT=(State.CHUNKING, State.READY),
    ),
    State.CHUNKING: _rows(State.CHUNKING, BDAT=(State.CHUNKING, State.READY)),
    State.CLOSED: {},
}

_FIRST: Mapping[State, str] = {
    State.START: "EHLO or HELO first",
    State.READY: "MAIL first",
    State.MAIL: "RCPT first",
    State.RCPT: "RSET first",
    State.CHUNKING: "BDAT or RSET first",
    State.CLOSED: "the session is over",
}
_OF_A_TRANSACTION = frozenset({Verb.RCPT, Verb.DATA, Verb.BDAT})
_NEVER: Mapping[Verb, Reply] = {
    Verb.UNKNOWN: reply(500, "5.5.2", "unknown command"),
    Verb.UNIMPLEMENTED: reply(502, "5.5.1", "unimplemented"),
    Verb.HTTP: reply(421, "4.7.0", "this is no web server"),
}
_SENDER_TWICE = reply(503, "5.5.1", "the sender is given already; RSET first")
_AUTH_LATE = reply(503, "5.5.1", "no AUTH within a transaction; RSET first")  # RFC 4954 section 4
_NO_RECIPIENTS = reply(554, "5.5.1", "no valid recipients")


def illegal(state: State, verb: Verb) -> Reply:
    """The reply to a command that the table does not list for the state."""
    if verb in _NEVER:
        return _NEVER[verb]
    if verb is Verb.MAIL and state in (State.MAIL, State.REFUSED, State.RCPT):
        return _SENDER_TWICE
    if verb is Verb.AUTH and state in TRANSACTION:
        return _AUTH_LATE
    if state is State.REFUSED:
        return _NO_RECIPIENTS
    return reply(503, "5.5.1", _FIRST[state])


class Dialogue:
    """What has been agreed on; moves only as the table says."""

    __slots__ = ("_excused", "_row", "esmtp", "helo", "max_content", "recipients", "state", "transaction")

    def __init__(self) -> None:
        self.state = State.START
        self.helo = ""
        self.esmtp = False
        self.transaction: Transaction | None = None
        self.recipients: list[Recipient] = []
        self.max_content = 0  # octets, of this transaction alone; 0 = no limit of its own
        self._row = Row(State.START, State.START)  # of the command under way
        self._excused = False  # a transaction failed; what was pipelined for it comes in good faith

    def introduced(self, helo: str, esmtp: bool) -> None:
        """EHLO or HELO was accepted."""
        self.helo = helo
        self.esmtp = esmtp

    def begin(self, verb: Verb) -> bool:
        """True if the command may come now; `settle` then says what became of it."""
        row = TABLE[self.state].get(verb)
        if row is None:
            return False
        self._row = row
        return True

    def settle(self, accepted: bool) -> bool:
        """The command under way was accepted or refused. True if a transaction was dropped by that."""
        state = self._row.accepted if accepted else self._row.refused
        dropped = self.transaction is not None and state not in TRANSACTION
        if dropped:
            self.drop()
        self.state = state
        self._excused = not accepted
        return dropped

    def open(self, transaction: Transaction, accepted: bool) -> None:
        """MAIL was answered."""
        self.settle(accepted)
        if accepted:
            self.transaction = transaction
        else:
            self.max_content = 0

    def add(self, recipient: Recipient, accepted: bool) -> None:
        """RCPT was answered."""
        self.settle(accepted)
        if accepted:
            self.recipients.append(recipient)

    def limit_content(self, octets: int) -> None:
        """The content may have no more than this. A limit only ever gets lower; 0 is none."""
        if octets and not 0 < self.max_content < octets:
            self.max_content = octets

    def drop(self, *, excused: bool = False) -> None:
        """The transaction is over, however it ended. `excused`: what follows may have been sent unknowing."""
        self.state = State.READY
        self.transaction = None
        self.recipients = []
        self.max_content = 0
        self._excused = excused

    def close(self) -> None:
        """The session is over, and the transaction with it."""
        self.drop()
        self.state = State.CLOSED

    @property
    def chunking(self) -> bool:
        """A chunk was taken, and more are to come."""
        return self.state is State.CHUNKING

    def excuses(self, verb: Verb) -> bool:
        """True if the command, illegal now, was right when a pipelining client sent it (RFC 2920 section 3.1)."""
        return verb in _OF_A_TRANSACTION and (self._excused or self.state is State.REFUSED)
