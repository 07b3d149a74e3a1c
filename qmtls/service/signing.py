"""DKIM signatures for what is sent to other hosts (ADR 16): made when a message is first put to a host, kept as long as
its attempt lasts.

A message that cannot be signed goes out unsigned, and the log says so: it is never held back for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from qmtls.delivery.dkim import DkimKeys, Unsignable, is_ours, signatures
from qmtls.service.attempt import Attempt

Read = Callable[[Callable[[], Any]], Deferred[Any]]  # blocking disk work, off the reactor


class Signer:
    """`keys` are those of the newest settings."""

    def __init__(
        self,
        keys: Callable[[], DkimKeys],
        read: Read,
        say: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._read = read
        self._say = say
        self._now = now

    def wants(self, attempt: Attempt) -> bool:
        """False for almost all mail, and without keys for all of it."""
        keys = self._keys()
        return bool(keys) and attempt.envelope is not None and is_ours(attempt.envelope)

    async def fields(self, attempt: Attempt, form: str, chunks: Callable[[], Iterator[bytes]]) -> bytes:
        """What goes before the content that `chunks` gives; b"" if it is not signed. Whatever reading it raises.

        `form` is a name of that content: what was converted for a host needs a signature of its own.
        """
        made = attempt.signatures.get(form)
        if made is not None:
            return made
        envelope, keys, now = attempt.envelope, self._keys(), int(self._now())
        assert envelope is not None, "loaded before it is sent"

        def sign() -> bytes:
            return signatures(envelope, chunks(), keys, now)

        try:
            # What is in memory is signed in less time than a thread takes to begin.
            made = sign() if attempt.remembered is not None else await self._read(sign)
        except Unsignable as problem:
            self._say(f"not signed id={attempt.id} reason={problem}")
            made = b""
        attempt.signatures[form] = made
        return made
