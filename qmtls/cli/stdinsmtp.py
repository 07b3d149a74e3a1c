"""`sendmail -bs`: an SMTP session on standard input and output, for mail readers that speak SMTP to a program.

The session is the service's own, without TLS: who runs the program is known already, and may send to anybody. What he
sends gets Date and Message-ID where it has none. Messages are stored as the service stores them, straight into the
queue; 250 means on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from qmtls.access import Peer
from qmtls.cli.home import Home
from qmtls.cli.inject import BadControl, login_name, meant
from qmtls.cli.owner import as_owner_of
from qmtls.ledger.clients import ClientSeen
from qmtls.net.house import RECIPIENT_OK, SENDER_OK, disk_reply
from qmtls.net.ids import Ids
from qmtls.net.reception import Came, Reception
from qmtls.net.storing import Storing
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import (
    NEED_DATA,
    Authenticate,
    Closed,
    Content,
    ContentEnd,
    ContentRefused,
    DataStart,
    MailFrom,
    RcptTo,
    Reset,
)
from qmtls.smtp.reply import Reply, printable, reply
from qmtls.smtp.server import GO_AHEAD, ServerConfig, ServerSession
from qmtls.spool.api import Incoming, Spool, SpoolError
from qmtls.spool.bins import INJECT
from qmtls.spool.maildir import MaildirSpool

CHUNK = 64 * 1024
STDIN, STDOUT = 0, 1
NO_LOGIN = reply(535, "5.7.8", "nobody need log in here")


def serve(home: Home, read: Callable[[], bytes] | None = None, write: Callable[[bytes], None] | None = None) -> None:
    """One session. `read` gives octets, b"" at the end. OSError and SpoolError only where nothing can be said."""
    user, me = login_name(), home.me()
    with as_owner_of(home.queue):
        spool = MaildirSpool(home.queue / INJECT)
        try:
            _Talk(home, me, user, spool).run(read or (lambda: os.read(STDIN, CHUNK)), write or _write)
        finally:
            spool.close()


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(STDOUT, data) :]


class _Desk:
    """The committer of a program with one message at a time: what waits for the disk is done at once."""

    def flush(self, incoming: Incoming) -> Deferred[None]:
        return maybeDeferred(incoming.flush)

    def store(self, spool: Spool, incoming: Incoming, over: Callable[[Exception | None], object]) -> None:
        problem: Exception | None
        try:
            problem = spool.commit([incoming])[0]
        except Exception as fault:  # of ours: nothing was stored
            problem = fault
        over(problem)


class _Storeroom:
    """Nobody has to hear of a message: the service looks for it in `inject`."""

    committer = _Desk()

    def accepted(self, spool: Spool, reception: Reception) -> None:
        pass

    def seen(self, client: ClientSeen) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def spool_trouble(self, problem: BaseException, client: str) -> Reply:
        if not isinstance(problem, SpoolError):
            raise problem
        return disk_reply(problem)


class _Talk:
    """The adapter of one session: every question is answered before the next octets are read."""

    def __init__(self, home: Home, me: str, user: str, spool: Spool) -> None:
        self._home = home
        self._me = me
        self._user = user
        self._spool = spool
        self._ids = Ids()
        self._session = ServerSession(ServerConfig(host=me, greeting=f"{me} ESMTP"))
        self._storing = Storing(_Storeroom(), self, "")
        self._fault: Failure | None = None

    def run(self, read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
        """To the end of the session or of the input."""
        session = self._session
        try:
            while True:
                event = session.next_event()
                if event is NEED_DATA:
                    write(session.data_to_send())
                    data = read()
                    if data:
                        session.receive_data(data)
                    else:
                        session.receive_eof()
                elif isinstance(event, Closed):
                    write(session.data_to_send())
                    return
                else:
                    self._handle(event)
                    if self._fault is not None:
                        self._fault.raiseException()
        except BrokenPipeError:  # the program is gone; what it was told of as queued is queued
            pass
        finally:
            self._storing.drop()

    def _handle(self, event: object) -> None:
        match event:
            case MailFrom():
                self._session.answer(SENDER_OK)
            case RcptTo():
                self._session.answer(RECIPIENT_OK)
            case DataStart():
                self._session.answer(self._begin())
            case Content():
                self._storing.write(event.data)
            case ContentEnd():
                self._storing.end()
            case ContentRefused() | Reset():
                self._storing.drop()
            case Authenticate():
                self._session.answer(NO_LOGIN)

    def _begin(self) -> Reply:
        session = self._session
        try:
            recipients = {one.address: one for given in session.recipients for one in self._meant(given)}
        except BadControl as problem:
            return reply(451, "4.3.5", printable(str(problem)))
        came = Came(Peer("", False, None, submission=True), self._user, time.time(), self._me)
        self._storing.reception = Reception.begin(
            self._spool, self._ids.next(), session, tuple(recipients.values()), came
        )
        return GO_AHEAD

    def _meant(self, given: Recipient) -> list[Recipient]:
        """Behind aliases; a name without a domain is one of ours."""
        address = given.address
        if not address.domain:
            address = Address(address.local_part, self._home.default_host())
        return [Recipient(path, given.parameters) for path in meant(self._home, self._me, [address])]

    # ------------------------------------------------------------ storing.Conversation

    def on_room(self) -> None:
        pass  # it never waits

    def on_result(self, answer: Reply) -> None:
        self._session.answer(answer)

    def broke(self, failure: Failure) -> None:
        self._fault = failure
