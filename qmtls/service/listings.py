"""Listing bins: which messages they hold and when those are due, from names and times only.

In portions: a million names at once would be hundreds of MiB, and seconds in which nobody is answered. A bin is listed
once at a time, and once more if it was to be listed meanwhile. What is not ours is named in the log once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from qmtls.net.commit import Committer
from qmtls.spool.api import Spool, Waiting

LISTED = 2000  # names that the reactor takes in one turn


class Listings:
    """`found` gets each portion."""

    def __init__(
        self, committer: Committer, found: Callable[[Spool, Iterable[Waiting]], None], say: Callable[[str], None]
    ) -> None:
        self._committer = committer
        self._found = found
        self._say = say
        self._under_way: dict[str, bool] = {}  # by bin; True: once more, something changed since
        self._foreign: set[tuple[str, str]] = set()  # bin and file: named once

    async def run(self, spool: Spool) -> None:
        """Never fails; trouble is logged, and the next time may do better."""
        if spool.name in self._under_way:
            self._under_way[spool.name] = True
            return
        again = True
        while again:
            self._under_way[spool.name] = False
            try:
                await self._list(spool)
            except Exception as problem:
                self._say(f"queue trouble bin={spool.name} error={problem}")
            again = self._under_way.pop(spool.name)

    async def _list(self, spool: Spool) -> None:
        found, count = iter(spool.scan()), LISTED
        while count == LISTED:
            portion = await self._committer.run(lambda: list(islice(found, LISTED)))
            self._found(spool, portion)
            count = len(portion)
        for name in spool.foreign():
            if (spool.name, name) not in self._foreign:
                self._foreign.add((spool.name, name))
                self._say(f"left alone bin={spool.name} file={name}")
