"""What all inbound connections of a worker share, and the replies that are ours and not the session's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.ledger.clients import ClientSeen
from qmtls.net.commit import Committer
from qmtls.net.doorkeeper import Doorkeeper
from qmtls.net.passwords import Passwords
from qmtls.net.reception import Reception
from qmtls.net.snapshot import Snapshot
from qmtls.smtp.address import Address
from qmtls.smtp.reply import Reply, reply
from qmtls.spool.api import Spool, SpoolError

log = Logger()

SENDER_OK = reply(250, "2.1.0", "ok")
RECIPIENT_OK = reply(250, "2.1.5", "ok")
TOO_SLOW = reply(421, "4.4.2", "timeout, closing the connection")
DISK_FULL = reply(452, "4.3.1", "out of disk space, try again later")
DISK_TROUBLE = reply(451, "4.3.0", "the queue cannot be written now, try again later")
MAILBOX_TROUBLE = reply(451, "4.2.0", "the mailbox cannot be looked at now, try again later")
OUR_TROUBLE = reply(421, "4.3.0", "trouble on our side, try again later")
EARLY = reply(554, "5.5.1", "you spoke before my greeting, so you do not speak SMTP")
NO_ROOM = reply(452, "4.3.1", "not enough disk space for a message of that size, try again later")
LOGIN_OK = reply(235, "2.7.0", "welcome")
LOGIN_FAILED = reply(535, "5.7.8", "these credentials are not valid here")
LOGIN_LATER = reply(454, "4.7.0", "that cannot be looked at now, try again later")
TOO_MANY = reply(421, "4.3.2", "too many connections, try again later")
SHUTTING_DOWN = reply(421, "4.3.2", "the service is shutting down, try again later")


def disk_reply(problem: SpoolError) -> Reply:
    """To a client whose message cannot be stored."""
    return DISK_FULL if problem.full else DISK_TROUBLE


class Connection(Protocol):
    """What the service may ask of an inbound connection."""

    def shut_down(self) -> None:
        """Ends it as soon as nothing is under way in it."""

    def cut_off(self) -> None:
        """Ends it now."""

    def hurry(self) -> None:
        """Gives it little time to do something, if it does nothing."""


@dataclass(frozen=True, slots=True)
class House:
    """What all inbound connections of a worker share."""

    clock: Any  # for how long things take
    now: Callable[[], float]  # the time of day, Unix seconds
    current: Callable[[], Snapshot]
    spool: Callable[[], Spool]
    committer: Committer
    next_id: Callable[[], str]
    is_mailbox: Callable[[Address], bool]
    accepted: Callable[[Spool, Reception], None]  # offers a stored message to the relayer
    say: Callable[[str], None]  # one line for the log
    connections: set[Any]  # of Connection
    doorkeeper: Doorkeeper
    passwords: Passwords
    seen: Callable[[ClientSeen], None]  # an identity let a message in
    room: Callable[[], int]  # octets that a message may have before the disk is too full

    def spool_trouble(self, problem: BaseException, client: str) -> Reply:
        """What the client hears when its message cannot be stored; the log hears why."""
        if not isinstance(problem, SpoolError):
            log.failure("storing a message", failure=Failure(problem))
            return DISK_TROUBLE
        self.say(f"queue trouble client={client} error={problem}")
        return disk_reply(problem)
