"""The transactions of a client session: which command may follow, and which recipient a reply belongs to.

`ClientSession` in `client.py` is this and the rest of the dialogue. Theory of a transaction: where the server offers
PIPELINING, MAIL, every RCPT and DATA go out as one group; the replies then walk through the states MAIL, RCPT (once
per recipient) and DATA, and what was refused is remembered on the way. A refused MAIL decides for all recipients,
whatever the replies behind it say. If no recipient is left and DATA was answered 354 all the same, a lone dot ends
the content at once (RFC 2920 section 3.1) and the reply to it is of no interest. Without pipelining the same states
are walked with one command each, and DATA is not sent for nobody.

A reply that came before its command, or that no command of this state can have, means that the count is lost: the
session ends, and refusals before may have been meant for another recipient, so all of them are tried again.
"""

from __future__ import annotations

from qmtls.smtp.client_states import STAGES, State
from qmtls.smtp.client_work import Work
from qmtls.smtp.events import ClientEvent, Ended, Result, SendContent, Sent, Stage
from qmtls.smtp.reply import Reply
from qmtls.smtp.reply_parser import ReplyParser

# Where replies are counted off against commands: behind the 354 they are known to match.
_COUNTING = frozenset({State.RCPT, State.DATA})


class Transactions:
    """See the module."""

    __slots__ = ("_early", "_open", "_out", "_parser", "_stage", "_state", "_work")

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._out: list[bytes] = []
        self._state = State.GREETING
        self._stage = Stage.GREETING  # kept for what is said after the end
        self._work: Work | None = None
        self._open = False  # the server may still hold a transaction: RSET must go before the next MAIL
        self._early = False  # what is read next came before the command that it would answer

    @property
    def stage(self) -> Stage:
        """What we wait for; `time_limit` of it is how long."""
        return STAGES.get(self._state, self._stage)

    def _current(self) -> Work:
        assert self._work is not None, "states from MAIL to CONTENT have a transaction"
        return self._work

    def _end(self, why: str, reply: Reply | None = None, injected: bool = False) -> Ended:
        """Over. Recipients refused before keep their own reply, all others share what happened here."""
        stage = self._stage = self.stage
        work, self._work = self._work, None
        self._state = State.ENDED
        self._out.clear()
        results: tuple[Result, ...] = ()
        if work is not None:
            results = work.settle(Result(stage, reply, "" if reply else why))
        return Ended(stage, why, reply, results, injected)

    def _lose_count(self, why: str) -> Ended:
        """Replies and commands no longer match: over, and no reply so far is sure to be this recipient's."""
        if self._work is not None and self._state in _COUNTING:
            self._work.forget()
        return self._end(why)

    def _say(self, command: bytes) -> None:
        """To a server that wants commands one by one: it cannot have answered this one yet."""
        self._early = self._parser.pending
        if not self._early:
            self._out.append(command)

    # ------------------------------------------------------------ steps

    def _was_reset(self, reply: Reply) -> None:
        self._open = False
        self._state = State.MAIL
        work = self._current()
        if not work.pipelined:
            self._say(work.commands[0])

    def _mail_taken(self, reply: Reply) -> None:
        work = self._current()
        work.mail_taken = True
        self._state = State.RCPT
        if not work.pipelined:
            self._say(work.commands[1])

    def _mail_refused(self, reply: Reply) -> Sent | None:
        work = self._current()
        refused = Result(Stage.MAIL, reply)
        if not work.pipelined:
            return self._finish(refused)
        work.results = [refused] * len(work.results)
        self._state = State.RCPT
        return None

    def _rcpt_taken(self, reply: Reply) -> Sent | None:
        return self._next_recipient()

    def _rcpt_refused(self, reply: Reply) -> Sent | None:
        work = self._current()
        if work.mail_taken:
            work.results[work.at] = Result(Stage.RCPT, reply)
        return self._next_recipient()

    def _next_recipient(self) -> Sent | None:
        work = self._current()
        work.at += 1
        if work.at < len(work.results):
            if not work.pipelined:
                self._say(work.commands[work.at + 1])
            return None
        if not work.pipelined:
            if not work.has_takers:
                return self._finish(None)
            self._say(b"DATA\r\n")
        self._state = State.DATA
        return None

    def _go_ahead(self, reply: Reply) -> ClientEvent | None:
        if self._current().has_takers:
            self._state = State.SENDING
            return SendContent()
        self._state = State.CONTENT
        self._out.append(b".\r\n")
        return None

    def _data_refused(self, reply: Reply) -> Sent | Ended:
        if self._parser.pending:
            return self._lose_count("more replies than commands")
        return self._finish(Result(Stage.DATA, reply))

    def _cut_short(self, reply: Reply) -> Ended:
        """The server lost patience before the end; what it expects next is unknown, so the session ends."""
        return self._end("the server refused the content before its end", reply)

    def _finished(self, reply: Reply) -> Sent:
        # RFC 5321 section 4.1.1.4: whatever the reply, the transaction is over on the other side too.
        self._current().mail_taken = False
        return self._finish(Result(Stage.CONTENT, reply))

    def _finish(self, for_open: Result | None) -> Sent:
        """The one place where a transaction ends well enough for another to follow."""
        work = self._current()
        self._work = None
        self._open = work.mail_taken
        self._state = State.READY
        return Sent(work.settle(for_open) if for_open else tuple(own for own in work.results if own))
