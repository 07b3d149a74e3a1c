"""The client's side of LMTP (RFC 2033): an SMTP session that says LHLO, and has one answer per recipient at the end.

A server that is lost after the final dot leaves those recipients unanswered whose replies did not come: each of the
others keeps his own. LMTP has no HELO to fall back to.
"""

from __future__ import annotations

from dataclasses import replace

from qmtls.smtp.client import STEPS, ClientSession
from qmtls.smtp.client_states import State, Step
from qmtls.smtp.events import ClientEvent, Ended, Result, Sent, Stage
from qmtls.smtp.reply import Reply


class LmtpSession(ClientSession):
    """As its parent, towards an LMTP server."""

    __slots__ = ()

    hello = b"LHLO"

    def _go_ahead(self, reply: Reply) -> ClientEvent | None:
        if not self._current().has_takers:
            # RFC 2033 section 4.2 wants a 503 here; how many replies a lone dot would get is anybody's guess.
            return self._end("unexpected go-ahead for content that nobody takes")
        return super()._go_ahead(reply)

    def _answered(self, reply: Reply) -> Sent | None:
        work = self._current()
        work.mail_taken = False
        self._answer_first(reply)
        return None if work.has_takers else self._finish(None)

    def _end(self, why: str, reply: Reply | None = None, injected: bool = False) -> Ended:
        work = self._work
        if reply is None or work is None or self._state is not State.CONTENT:
            return super()._end(why, reply, injected)
        # A 421 is the answer for one of them. What became of the message for those behind him was never said.
        self._answer_first(reply)
        ended = super()._end(f'the server ended the session with "{reply}"')
        return replace(ended, why=why, reply=reply)

    def _answer_first(self, reply: Reply) -> None:
        """One of the replies behind the content: that of the first recipient who has none yet."""
        results = self._current().results
        results[results.index(None)] = Result(Stage.CONTENT, reply)


LmtpSession.steps = {
    **STEPS,
    Step.SAY_HELO: ClientSession._said_no_more,
    Step.GO_AHEAD: LmtpSession._go_ahead,
    Step.FINISHED: LmtpSession._answered,
}
