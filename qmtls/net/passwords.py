"""Passwords: argon2 in a few threads, so that looking at one never holds up mail.

A look costs some ten milliseconds of a core and as many mebibytes on purpose, so there are few at a time and a bounded
number in line; who comes then is told to try later. A user that does not exist costs the same look as one that
does, at somebody's hash: neither the answer nor its time tells which users there are.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from zlib import crc32

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from qmtls.control.settings import User
from qmtls.net.channel import OffReactor
from qmtls.smtp.address import folded
from qmtls.tls.clients import ClientRule

AT_A_TIME = 2  # of the ten threads of the reactor
IN_LINE = 50  # about a second of work

# What OWASP recommends for argon2id: 19 MiB, two passes, one lane. A look takes about 20 ms.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class CannotTell(Exception):
    """Nothing is known about this password now: too many are in line, or there was no memory for a look."""


class Passwords:
    """One for each worker, used in the reactor's thread. `off_reactor` runs a function in another."""

    def __init__(self, off_reactor: OffReactor, at_a_time: int = AT_A_TIME, in_line: int = IN_LINE) -> None:
        self._off_reactor = off_reactor
        self._free = at_a_time
        self._most = in_line
        self._line: deque[tuple[Callable[[], bool], Deferred[bool]]] = deque()

    def verify(self, users: Mapping[str, User], name: str, password: str) -> Deferred[ClientRule | None]:
        """The identity that name and password prove, None if none; CannotTell."""
        user = users.get(folded(name))
        hash = user.hash if user is not None else _somebodys(users, name)
        if not hash:
            return succeed(None)
        looking = self._look(partial(matches, hash, password))
        return looking.addCallback(lambda right: user.rule if right and user is not None else None)

    def _look(self, work: Callable[[], bool]) -> Deferred[bool]:
        done: Deferred[bool] = Deferred()
        if self._free:
            self._free -= 1
            self._begin(work, done)
        elif len(self._line) < self._most:
            self._line.append((work, done))
        else:
            done.errback(CannotTell(f"{self._most} passwords are in line"))
        return done

    def _begin(self, work: Callable[[], bool], done: Deferred[bool]) -> None:
        self._off_reactor(work).addBoth(self._ended, done)

    def _ended(self, result: bool | Failure, done: Deferred[bool]) -> None:
        if self._line:
            self._begin(*self._line.popleft())
        else:
            self._free += 1
        if isinstance(result, Failure):
            result = Failure(CannotTell(f"argon2: {result.getErrorMessage()}"))
        done.callback(result)  # a Failure makes it the errback


def make_hash(password: str) -> str:
    """The second word of a line of `users`. Blocks for a look's time."""
    return _HASHER.hash(_prepared(password))


def matches(hash: str, password: str) -> bool:
    """Blocks for as long as the hash asks. argon2's exceptions for anything else than a wrong password."""
    try:
        return _HASHER.verify(hash, _prepared(password))
    except VerifyMismatchError:
        return False


def _prepared(password: str) -> bytes:
    """The same octets for what looks the same, however a keyboard composed it (RFC 8265 section 4.2: NFC)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _somebodys(users: Mapping[str, User], name: str) -> str:
    """A hash for a name that is nobody's, for the same name always the same; "" if there are no users at all."""
    place = crc32(name.encode("utf-8", "surrogatepass")) % max(1, len(users))
    return next((user.hash for user in islice(users.values(), place, None)), "")
