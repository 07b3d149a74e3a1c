"""What a process knows of its bin's messages beyond what the disk says. None of it must outlive the process.

Three threads of the owner come here (net.commit): the reactor receives, one syncs and records, one lists and removes.
Each step is one operation of a set, which no other thread can interrupt; no step needs two of them at once.

| set | put in | taken out | asked |
| --- | --- | --- | --- |
| unconfirmed | reactor | reactor | listing |
| small | reactor | syncing, recording, whoever removes | whoever removes |
| unfiled | reactor | recording, whoever removes | removing |
| finished | removing | removing | listing, in the same thread |
"""

from __future__ import annotations

from collections.abc import Iterable


class Known:
    """`unconfirmed`: in `new`, but whoever commits hears of them; a listing would start them a second time.

    `small`: received here into files that may become spares. `unfiled`: received here, and without a log so far.
    `finished`: the disk did not let their files go yet: never listed again, or they would be sent for ever.
    """

    __slots__ = ("finished", "small", "unconfirmed", "unfiled")

    def __init__(self) -> None:
        self.unconfirmed: set[str] = set()
        self.small: set[str] = set()
        self.unfiled: set[str] = set()
        self.finished: set[str] = set()

    def listed(self, id: str) -> bool:
        """True unless it is not there yet, or no longer."""
        return id not in self.finished and id not in self.unconfirmed

    def received(self, id: str, small: bool) -> None:
        """It has its name in `new`."""
        self.unfiled.add(id)
        if small:
            self.small.add(id)

    def tried(self, ids: Iterable[str]) -> None:
        """They get a log, and may move."""
        ids = tuple(ids)
        self.unfiled.difference_update(ids)
        self.small.difference_update(ids)

    def gone(self, id: str) -> None:
        """Nothing of it is left."""
        self.unfiled.discard(id)
        self.finished.discard(id)
