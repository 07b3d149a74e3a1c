"""The client session as tables: what may be called when, what each class of reply leads to, how long to wait.

What is not listed is illegal: a call is then a fault of ours, a reply one of the peer's that ends the session.
A 421 ends it in any state and is not listed (RFC 5321 section 3.8).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from qmtls.smtp.events import Stage


class State(Enum):
    """What the session waits for."""

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    GREETING = "waiting for the greeting"
    EHLO = "waiting for the reply to EHLO"
    HELO = "waiting for the reply to HELO"
    READY = "ready"
    STARTTLS = "waiting for the reply to STARTTLS"
    HANDSHAKE = "waiting for the TLS handshake"
    RSET = "waiting for the reply to RSET"
    MAIL = "waiting for the reply to MAIL"
    RCPT = "waiting for a reply to RCPT"
    DATA = "waiting for the reply to DATA"
    SENDING = "sending content"
    CONTENT = "waiting for the reply to the content"
    ASKED = "waiting for the answer to AUTH"
    CHALLENGED = "asked for the next line of AUTH"
    QUIT = "waiting for the reply to QUIT"
    ENDED = "ended"


class Call(Enum):
    """What the adapter may ask for."""

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    START_TLS = "start_tls"
    TLS_ESTABLISHED = "tls_established"
    BEGIN = "begin"
    SEND_CONTENT = "send_content"
    END_CONTENT = "end_content"
    ASK = "ask"
    QUIT = "quit"


CALLS: Mapping[tuple[State, Call], State] = {
    (State.READY, Call.START_TLS): State.STARTTLS,
    (State.HANDSHAKE, Call.TLS_ESTABLISHED): State.EHLO,
    (State.READY, Call.BEGIN): State.MAIL,  # or RSET, if the transaction before was left open
    (State.READY, Call.ASK): State.ASKED,
    (State.CHALLENGED, Call.ASK): State.ASKED,
    (State.SENDING, Call.SEND_CONTENT): State.SENDING,
    (State.SENDING, Call.END_CONTENT): State.CONTENT,
    (State.READY, Call.QUIT): State.QUIT,
    # The peer may end the session at any time: what the adapter was about to do then comes to nothing.
    (State.ENDED, Call.SEND_CONTENT): State.ENDED,
    (State.ENDED, Call.END_CONTENT): State.ENDED,
    (State.ENDED, Call.QUIT): State.ENDED,
}


class Step(Enum):
    """What a reply leads to."""

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    SAY_EHLO = "say EHLO"
    SAY_HELO = "say HELO instead"
    GREETED = "greeted"
    REFUSED = "the session is refused"
    TLS_GO = "do the handshake"
    TLS_REFUSED = "no TLS"
    WAS_RESET = "the old transaction is gone"
    MAIL_TAKEN = "the reverse-path is taken"
    MAIL_REFUSED = "the reverse-path is refused"
    RCPT_TAKEN = "one forward-path is taken"
    RCPT_REFUSED = "one forward-path is refused"
    GO_AHEAD = "content may come"
    DATA_REFUSED = "content is not wanted"
    CUT_SHORT = "content is refused before its end"
    FINISHED = "the transaction ends"
    ANSWERED = "what AUTH was answered"
    GOODBYE = "the session ends as we asked"


REPLIES: Mapping[tuple[State, int], Step] = {
    (State.GREETING, 2): Step.SAY_EHLO,
    (State.GREETING, 4): Step.REFUSED,
    (State.GREETING, 5): Step.REFUSED,
    (State.EHLO, 2): Step.GREETED,
    (State.EHLO, 4): Step.REFUSED,
    (State.EHLO, 5): Step.SAY_HELO,  # RFC 5321 section 3.2
    (State.HELO, 2): Step.GREETED,
    (State.HELO, 4): Step.REFUSED,
    (State.HELO, 5): Step.REFUSED,
    (State.STARTTLS, 2): Step.TLS_GO,
    (State.STARTTLS, 4): Step.TLS_REFUSED,
    (State.STARTTLS, 5): Step.TLS_REFUSED,
    (State.RSET, 2): Step.WAS_RESET,
    (State.MAIL, 2): Step.MAIL_TAKEN,
    (State.MAIL, 4): Step.MAIL_REFUSED,
    (State.MAIL, 5): Step.MAIL_REFUSED,
    (State.RCPT, 2): Step.RCPT_TAKEN,
    (State.RCPT, 4): Step.RCPT_REFUSED,
    (State.RCPT, 5): Step.RCPT_REFUSED,
    (State.DATA, 3): Step.GO_AHEAD,
    (State.DATA, 4): Step.DATA_REFUSED,
    (State.DATA, 5): Step.DATA_REFUSED,
    (State.SENDING, 4): Step.CUT_SHORT,
    (State.SENDING, 5): Step.CUT_SHORT,
    (State.CONTENT, 2): Step.FINISHED,
    (State.CONTENT, 4): Step.FINISHED,
    (State.CONTENT, 5): Step.FINISHED,
    (State.ASKED, 2): Step.ANSWERED,
    (State.ASKED, 3): Step.ANSWERED,
    (State.ASKED, 4): Step.ANSWERED,
    (State.ASKED, 5): Step.ANSWERED,
    (State.QUIT, 2): Step.GOODBYE,
    (State.QUIT, 4): Step.GOODBYE,
    (State.QUIT, 5): Step.GOODBYE,
}

# The word for people, and the key to the time limit. READY waits for a next transaction, RSET is sent with its MAIL.
STAGES: Mapping[State, Stage] = {
    State.GREETING: Stage.GREETING,
    State.EHLO: Stage.EHLO,
    State.HELO: Stage.EHLO,
    State.READY: Stage.MAIL,
    State.STARTTLS: Stage.STARTTLS,
    State.HANDSHAKE: Stage.HANDSHAKE,
    State.RSET: Stage.MAIL,
    State.MAIL: Stage.MAIL,
    State.RCPT: Stage.RCPT,
    State.DATA: Stage.DATA,
    State.SENDING: Stage.SENDING,
    State.CONTENT: Stage.CONTENT,
    State.ASKED: Stage.AUTH,
    State.CHALLENGED: Stage.AUTH,
    State.QUIT: Stage.QUIT,
}

# RFC 5321 section 4.5.3.2, in seconds.
GREETING_LIMIT = 300.0  # .1
MAIL_LIMIT = 300.0  # .2
RCPT_LIMIT = 300.0  # .3
DATA_LIMIT = 120.0  # .4
BLOCK_LIMIT = 180.0  # .5, for each write of content
CONTENT_LIMIT = 600.0  # .6: the server may be busy delivering; giving up early makes duplicates (RFC 1047)
# Not in the RFC.
CONNECT_LIMIT = 60.0  # qmail's timeoutconnect
EHLO_LIMIT = 300.0  # as MAIL
STARTTLS_LIMIT = 120.0
HANDSHAKE_LIMIT = 30.0
AUTH_LIMIT = 120.0  # a server may be slow on purpose
QUIT_LIMIT = 10.0  # nothing depends on the answer

_LIMITS: Mapping[Stage, float] = {
    Stage.CONNECT: CONNECT_LIMIT,
    Stage.GREETING: GREETING_LIMIT,
    Stage.EHLO: EHLO_LIMIT,
    Stage.STARTTLS: STARTTLS_LIMIT,
    Stage.HANDSHAKE: HANDSHAKE_LIMIT,
    Stage.AUTH: AUTH_LIMIT,
    Stage.MAIL: MAIL_LIMIT,
    Stage.RCPT: RCPT_LIMIT,
    Stage.DATA: DATA_LIMIT,
    Stage.SENDING: BLOCK_LIMIT,
    Stage.CONTENT: CONTENT_LIMIT,
    Stage.QUIT: QUIT_LIMIT,
}


def time_limit(stage: Stage) -> float:
    """Seconds to wait for the peer at `stage` from our last octet on; while SENDING, from the last write that moved."""
    return _LIMITS[stage]
