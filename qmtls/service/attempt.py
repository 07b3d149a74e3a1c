"""One attempt to deliver one message: its tasks run side by side, their outcomes gather here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred

from qmtls.delivery.outcome import Outcome
from qmtls.delivery.plan import NextHop
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import Content, Spool
from qmtls.spool.content import StoredContent

Key = tuple[str, str]  # bin name, message id

NEVER: Mapping[int, float] = MappingProxyType({})


class Attempt:
    """`envelope` and `remembered` may be dropped while the attempt waits for its turn; `load` reads them again."""

    __slots__ = (
        "_content",
        "arrived",
        "envelope",
        "id",
        "in_hand",
        "look_again",
        "note",
        "noted",
        "noting",
        "open_tasks",
        "outcomes",
        "remembered",
        "signatures",
        "spool",
        "tried",
        "unmet",
        "unmet_since",
        "waited",
        "warned",
        "warned_unmet",
    )

    def __init__(self, spool: Spool, id: str, envelope: Envelope, tried: bool, remembered: bytes | None = None) -> None:
        self.spool = spool
        self.id = id
        self.envelope: Envelope | None = envelope
        self.arrived = envelope.arrival.time
        self.remembered = remembered
        self.tried = tried  # it has a log: an earlier attempt was filed
        self.warned = False  # the sender was told that it is late
        self.warned_unmet = False  # and that TLS is why
        self.waited = False  # in line: somebody may have removed it meanwhile
        self.open_tasks = 0
        self.in_hand = 0  # tasks being served at this moment
        self.look_again = False  # its file says what is to be done now: somebody gave an order
        self.outcomes: dict[int, Outcome] = {}
        self.unmet: tuple[tuple[NextHop, tuple[int, ...]], ...] = ()  # recipients whose TLS demand was not met now
        self.unmet_since: Mapping[int, float] = NEVER  # by recipient: since when earlier attempts met none
        self.note: Any = None  # the timer at which what is delivered so far is written down
        self.noted: set[int] = set()  # recipients of whom that was done
        self.noting: Deferred[None] | None = None  # while it is being written
        self.signatures: dict[str, bytes] = {}  # DKIM fields, by the form of the content that they are for
        self._content: Content | None = None

    @property
    def key(self) -> Key:
        return (self.spool.name, self.id)

    def forget(self) -> None:
        """Gives back the memory of envelope and content; both are on the disk. Not while a task needs them."""
        if not self.in_hand:
            self.envelope = None
            self.remembered = None

    @property
    def loaded(self) -> bool:
        return self.envelope is not None and (self.remembered is not None or self._content is not None)

    def load_envelope(self) -> None:
        """Blocking. NotInSpool, Malformed or SpoolError."""
        if self.envelope is None:
            self.envelope = self.spool.envelope(self.id)

    def load(self) -> None:
        """Blocking: reads what is missing. NotInSpool, Malformed or SpoolError."""
        self.load_envelope()
        if self.remembered is None and self._content is None:
            self._content = self.spool.content(self.id)

    @property
    def size(self) -> int:
        """Octets of content; only when `loaded`."""
        if self.remembered is not None:
            return len(self.remembered)
        assert self._content is not None
        return self._content.size

    def chunks(self) -> Iterator[bytes]:
        """The content from its start; only when `loaded`."""
        if self.remembered is not None:
            return iter((self.remembered,))
        assert self._content is not None
        return iter(self._content.chunks())

    def known_ascii(self) -> bool | None:
        """As `is_ascii`, but without the disk: None if it would have to be read. Only when `loaded`."""
        if self.remembered is not None:
            return self.remembered.isascii()
        return self.is_ascii() if isinstance(self._content, StoredContent) else None

    def is_ascii(self) -> bool:
        """Blocking; only when `loaded`. True if the content has no 8-bit octet, whatever was said of it."""
        return all(chunk.isascii() for chunk in self.chunks())


@dataclass(frozen=True, slots=True)
class Task:
    """One job of an attempt: `recipients` are indices into its envelope; `done` is called once, with all outcomes."""

    attempt: Attempt
    next_hop: NextHop
    recipients: tuple[int, ...]
    done: Callable[[Task, dict[int, Outcome]], None]

    def settle(self, outcome: Outcome) -> None:
        """The same outcome for all recipients."""
        self.done(self, dict.fromkeys(self.recipients, outcome))
