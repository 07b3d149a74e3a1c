"""`sendmail -bs`: an SMTP session on standard input and output, for mail readers that speak SMTP to a program.

The session is the service's own, without TLS: who runs the program is known already, and may send to anybody. What he
sends gets Date and Message-ID where it has none. Messages go straight into the queue; 250 means on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qmtls.access import Peer
from qmtls.cli.home import Home
from qmtls.cli.inject import BadControl, login_name, meant
from qmtls.cli.owner import as_owner_of
from qmtls.net.house import DISK_FULL, DISK_TROUBLE, RECIPIENT_OK, SENDER_OK
from qmtls.net.ids import Ids
from qmtls.net.reception import Came, Reception
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import (
    NEED_DATA,
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
from qmtls.spool.api import Spool, SpoolError
from qmtls.spool.bins import INJECT
from qmtls.spool.maildir import MaildirSpool

CHUNK = 64 * 1024
STDIN, STDOUT = 0, 1
NO_LOGIN = reply(535, "5.7.8", "nobody need log in here")


def serve(home: Home, read: Callable[[], bytes] | None = None, write: Callable[[bytes], None] | None = None) -> None:
    """One session. `read` gives octets, b"" at the end. OSError and SpoolError only where nothing can be said."""
    user = login_name()
    with as_owner_of(home.queue):
        spool = MaildirSpool(home.queue / INJECT)
        try:
            _Session(home, spool, user).run(read or (lambda: os.read(STDIN, CHUNK)), write or _write)
        finally:
            spool.close()


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(STDOUT, data) :]


@dataclass(slots=True)
class _Session:
    home: Home
    spool: Spool
    user: str
    ids: Ids = field(default_factory=Ids)
    reception: Reception | None = None

    def run(self, read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
        me = self.home.me()
        session = ServerSession(ServerConfig(host=me, greeting=f"{me} ESMTP"))
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
                    answer = self._answer(session, event, me)
                    if answer is not None:
                        session.answer(answer)
        except BrokenPipeError:  # the program is gone; what it was told of as queued is queued
            pass
        finally:
            self._drop()

    def _answer(self, session: ServerSession, event: object, me: str) -> Reply | None:
        match event:
            case MailFrom():
                return SENDER_OK
            case RcptTo():
                return RECIPIENT_OK
            case DataStart():
                return self._begin(session, me)
            case Content():
                self._take(event.data)
            case ContentEnd():
                return self._store()
            case ContentRefused() | Reset():
                self._drop()
            case _:
                return NO_LOGIN
        return None

    def _begin(self, session: ServerSession, me: str) -> Reply:
        try:
            recipients = tuple(
                {one.address: one for given in session.recipients for one in self._meant(given, me)}.values()
            )
        except BadControl as problem:
            return reply(451, "4.3.5", printable(str(problem)))
        came = Came(Peer("", False, None, submission=True), self.user, time.time(), me)
        self.reception = Reception.begin(self.spool, self.ids.next(), session, recipients, came)
        return GO_AHEAD

    def _meant(self, given: Recipient, me: str) -> list[Recipient]:
        """Behind aliases; a name without a domain is one of ours."""
        address = given.address
        if not address.domain:
            address = Address(address.local_part, self.home.default_host())
        return [Recipient(path, given.parameters) for path in meant(self.home, me, [address])]

    def _take(self, data: bytes) -> None:
        reception = self.reception
        if reception is not None and reception.write(data):
            assert reception.incoming is not None
            try:
                reception.incoming.flush()
            except SpoolError as problem:
                reception.trouble = _trouble(problem)

    def _store(self) -> Reply:
        reception, self.reception = self.reception, None
        if reception is None:
            return DISK_TROUBLE
        if reception.trouble is not None:
            reception.abort()
            return reception.trouble
        problem = self.spool.commit([reception.end()])[0]
        if problem is not None:
            reception.abort()
            return _trouble(problem)
        return reply(250, "2.0.0", f"ok {reception.id}")

    def _drop(self) -> None:
        reception, self.reception = self.reception, None
        if reception is not None:
            reception.abort()


def _trouble(problem: SpoolError) -> Reply:
    return DISK_FULL if problem.full else DISK_TROUBLE
