"""One SMTP server session without I/O: octets in, events and replies out (RFC 5321).

    receive_data(octets)  only stores
    next_event()          the next event, NEED_DATA, or PAUSED while an answer or the handshake is outstanding
    answer(reply)         exactly once for each event that asks
    data_to_send()        the replies so far

One command at a time: nothing behind a question is looked at before its answer, so replies keep the order of the
commands, however they were pipelined (RFC 2920). What the client gets wrong is answered here and never seen outside.
A transaction is made by an accepted MAIL and dropped by one function. `Reset` tells the adapter of it, unless
that knows already by its answer to `ContentEnd`, or by `ContentRefused`. After `Closed` nothing is read, asked or said.

Here is what the adapter sees. What is done with a command line is in `server_commands.py`, with AUTH in
`server_auth.py`, with content in `server_content.py`; `server_core.py` is what these share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmtls.smtp import events, server_auth, server_commands, server_content, server_replies
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import NEED_DATA, PAUSED, ServerEvent, Signal, Transaction
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_core import Core
from qmtls.smtp.server_replies import GO_AHEAD, ServerConfig
from qmtls.smtp.states import Phase

__all__ = ["GO_AHEAD", "MAX_BUFFERED", "MAX_STORED", "Phase", "ServerConfig", "ServerSession"]

MAX_BUFFERED = 64 * 1024  # octets stored and not looked at: above it the adapter pauses its transport
MAX_STORED = 1024 * 1024  # the same, for an adapter that does not pause: the session ends

_ANSWERED: Mapping[type, Callable[[Core, Any, Reply], None]] = {
    events.MailFrom: server_commands.mail_answered,
    events.RcptTo: server_commands.rcpt_answered,
    events.Authenticate: server_auth.answered,
    events.DataStart: server_content.start_answered,
    events.ContentEnd: server_content.end_answered,
}


class ServerSession:
    """See the module. Wrong use by the adapter raises RuntimeError; nothing that the client does raises anything."""

    __slots__ = ("_core",)

    def __init__(self, config: ServerConfig) -> None:
        self._core = Core(config)
        if not config.tls_first:
            self._core.send(server_replies.greeting(config))

    # ------------------------------------------------------------ the loop

    def receive_data(self, data: bytes) -> None:
        """Stores what came. Ignored once the session is closed."""
        core = self._core
        if core.phase is Phase.CLOSED:
            return
        core.buffer.extend(data)
        if len(core.buffer) > MAX_STORED and core.phase in (Phase.ANSWER, Phase.HANDSHAKE):
            self.abort(server_replies.TOO_MUCH)

    def next_event(self) -> ServerEvent | Signal:
        """See the module."""
        core = self._core
        while not core.events:
            if core.phase is Phase.COMMAND:
                if not core.buffer:
                    return NEED_DATA
                read = server_commands.read if core.exchange is None else server_auth.read
            elif core.phase is Phase.CONTENT:
                read = server_content.read
            else:
                return PAUSED
            if not read(core):
                return NEED_DATA
        return core.events.pop(0)

    def answer(self, reply: Reply) -> None:
        """The answer to the last event. A 421 ends the session. Ignored once it is closed."""
        core = self._core
        if core.phase is not Phase.CLOSED:
            asked = core.answered()
            _ANSWERED[type(asked)](core, asked, reply)

    def data_to_send(self) -> bytes:
        """What is to be sent now; the next call gives what came after it."""
        out = self._core.out
        data = b"".join(out)
        out.clear()
        return data

    # ------------------------------------------------------------ what only the adapter knows

    def limit_content(self, octets: int) -> None:
        """Lowers the limit on the content of the transaction under way, or asked about: more is refused with 552.

        To be called before the answer to `DataStart`. 0 changes nothing, nor does a higher limit than there is.
        """
        server_content.limit(self._core, octets)

    def tls_established(self, mechanisms: tuple[str, ...] = ()) -> None:
        """The handshake is over. Nothing that the client said before it counts (RFC 3207 section 4.2).

        `mechanisms` are the SASL mechanisms that this client may use.
        """
        core = self._core
        if core.phase is Phase.CLOSED:
            return
        if core.phase is not Phase.HANDSHAKE:
            raise RuntimeError("no handshake was due")
        core.secured(mechanisms)
        if core.buffer:
            core.close("octets from before the end of the handshake")
        elif core.config.tls_first:
            core.send(server_replies.greeting(core.config))

    def abort(self, reply: Reply) -> None:
        """Our side ends the session: the reply is sent, and Closed is the next event."""
        core = self._core
        if core.phase is not Phase.CLOSED:
            core.events.clear()
            core.end(reply, str(reply))

    def receive_eof(self) -> None:
        """The client is gone: Closed is the next event."""
        core = self._core
        if core.phase is not Phase.CLOSED:
            core.events.clear()
            core.close("connection lost")

    # ------------------------------------------------------------ what the adapter may know

    @property
    def phase(self) -> Phase:
        """What the session waits for."""
        return self._core.phase

    @property
    def buffered(self) -> int:
        """Octets stored and not looked at; see MAX_BUFFERED."""
        return len(self._core.buffer)

    @property
    def out(self) -> list[bytes]:
        """The replies that `data_to_send` would give, one by one."""
        return self._core.out

    @property
    def tls(self) -> bool:
        """The handshake is over."""
        return self._core.tls

    @property
    def helo(self) -> str:
        """The name in EHLO or HELO: visible ASCII, not to be believed; "" before it."""
        return self._core.dialogue.helo

    @property
    def esmtp(self) -> bool:
        """EHLO, not HELO."""
        return self._core.dialogue.esmtp

    @property
    def authenticated(self) -> str:
        """The SASL mechanism by which the client has said who it is; "" before."""
        return self._core.authenticated

    @property
    def user(self) -> str:
        """Who it is then; "" for EXTERNAL: what its certificate says."""
        return self._core.user

    @property
    def transaction(self) -> Transaction | None:
        """The one under way, until its content was answered or refused."""
        return self._core.dialogue.transaction

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Those accepted in this transaction."""
        return tuple(self._core.dialogue.recipients)
