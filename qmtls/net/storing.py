"""The messages of one connection on their way to the disk, one after the other.

Content goes into a `Reception`. When that wants to write, or to be committed, the committer's threads do it, and the
session stands still meanwhile. A failure is answered at the end of the content, always 4xx; what the client
then is told of as stored is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from qmtls.ledger.clients import ClientSeen
from qmtls.net.house import DISK_TROUBLE
from qmtls.net.reception import Reception
from qmtls.smtp.reply import Reply, reply
from qmtls.spool.api import Incoming, Spool


class Desk(Protocol):
    """Does what waits for the disk: `Committer`."""

    def flush(self, incoming: Incoming) -> Deferred[None]:
        """Moves the gathered octets to the disk; SpoolError."""

    def store(self, spool: Spool, incoming: Incoming, over: Callable[[Exception | None], object]) -> None:
        """Calls `over` once: with None when the message is accepted, for good, or with what went wrong."""


class Storeroom(Protocol):
    """Where messages are put, and who hears of them: `House`, as far as storing concerns it."""

    @property
    def committer(self) -> Desk: ...

    @property
    def accepted(self) -> Callable[[Spool, Reception], None]: ...

    @property
    def seen(self) -> Callable[[ClientSeen], None]: ...

    @property
    def say(self) -> Callable[[str], None]: ...

    def spool_trouble(self, problem: BaseException, client: str) -> Reply:
        """What the client hears when its message cannot be stored."""


class Conversation(Protocol):
    """The connection, as far as storing its messages concerns it."""

    def on_room(self) -> None:
        """More content can be taken."""

    def on_result(self, answer: Reply) -> None:
        """The answer to the end of the content."""

    def broke(self, failure: Failure) -> None:
        """A fault of ours."""


class Storing:
    """`stalled`: content is on its way to the disk, and no more of it can be taken."""

    __slots__ = ("_client", "_conversation", "_house", "reception", "stalled")

    def __init__(self, house: Storeroom, conversation: Conversation, client: str) -> None:
        self._house = house
        self._conversation = conversation
        self._client = client
        self.reception: Reception | None = None
        self.stalled = False

    def write(self, data: bytes) -> None:
        """Some content."""
        reception = self.reception
        if reception is not None and reception.write(data):
            self.stalled = True
            assert reception.incoming is not None
            flushed = self._house.committer.flush(reception.incoming)
            flushed.addCallbacks(self._flushed, self._flush_failed).addErrback(self._conversation.broke)

    def _flushed(self, _: object) -> None:
        self.stalled = False
        self._conversation.on_room()

    def _flush_failed(self, failure: Failure) -> None:
        reception = self.reception
        if reception is not None:
            assert failure.value is not None
            reception.trouble = self._house.spool_trouble(failure.value, self._client)
        self._flushed(None)

    def end(self) -> None:
        """All content is there: `on_result` will be called once, perhaps at once."""
        reception, self.reception = self.reception, None
        if reception is None or reception.trouble is not None:
            if reception is not None:
                reception.abort()
            self._conversation.on_result(DISK_TROUBLE if reception is None else reception.trouble or DISK_TROUBLE)
            return
        self._house.committer.store(reception.spool, reception.end(), partial(self._over, reception))

    def _over(self, reception: Reception, problem: Exception | None) -> None:
        try:
            if problem is None:
                self._stored(reception)
            else:
                reception.abort()
                self._conversation.on_result(self._house.spool_trouble(problem, self._client))
        except Exception:
            self._conversation.broke(Failure())

    def _stored(self, reception: Reception) -> None:
        reception.log_accepted(self._house.say)
        self._conversation.on_result(reply(250, "2.0.0", f"ok {reception.id}"))
        # The client has its answer first; delivery starts in the same turn.
        self._house.accepted(reception.spool, reception)
        seen = reception.seen()
        if seen is not None:
            self._house.seen(seen)

    def drop(self) -> None:
        """Nothing stays of the message that was being received."""
        reception, self.reception = self.reception, None
        if reception is not None:
            reception.abort()
