"""The spool without a disk, for tests and for whatever wants to try the machinery: same contract, nothing lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import ATTEMPT, DELAY, Attempt, Content, Filing, Incoming, NotInSpool, SpoolError, Steps, Waiting
from qmtls.spool.content import StoredContent
from qmtls.spool.incoming import FLUSH_AT
from qmtls.spool.record import is_id


@dataclass(slots=True)
class _Message:
    envelope: Envelope
    content: bytes
    waiting: Waiting
    history: tuple[Attempt, ...] = ()


class MemoryIncoming:
    """A message being received into memory."""

    def __init__(self, id: str, envelope: Envelope) -> None:
        self.id = id
        self.size = 0
        self.envelope = envelope
        self.parts: list[bytes] = []
        self.aborted = False
        self._gathered = 0

    def write(self, data: bytes) -> bool:
        self.parts.append(data)
        self.size += len(data)
        self._gathered += len(data)
        return self._gathered >= FLUSH_AT

    def flush(self) -> None:
        if self.aborted:
            raise SpoolError(f"{self.id} was given up")
        self._gathered = 0

    def abort(self) -> None:
        self.aborted = True


class MemorySpool:
    """See api.Spool. `fail` makes every commit and record fail with it, as a broken disk does."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.fail: SpoolError | None = None
        self._messages: dict[str, _Message] = {}

    def begin(self, id: str, envelope: Envelope) -> Incoming:
        if not is_id(id):
            raise ValueError(f"not a queue id: {id!r}")
        return MemoryIncoming(id, envelope)

    def commit(self, batch: Sequence[Incoming]) -> list[SpoolError | None]:
        return [self._commit(incoming) for incoming in batch]

    def committing(self, batch: Sequence[Incoming]) -> Steps:
        results: list[SpoolError | None] = []
        yield lambda: results.extend(self.commit(batch))
        return results

    def _commit(self, incoming: Incoming) -> SpoolError | None:
        assert isinstance(incoming, MemoryIncoming)
        if incoming.aborted:
            return SpoolError(f"{incoming.id} was given up")
        incoming.aborted = True
        if self.fail is not None:
            return self.fail
        waiting = Waiting(incoming.id, 0.0)
        self._messages[incoming.id] = _Message(incoming.envelope, b"".join(incoming.parts), waiting)
        return None

    def scan(self) -> Iterator[Waiting]:
        for message in tuple(self._messages.values()):
            yield message.waiting

    def foreign(self) -> Iterable[str]:
        return ()

    def has(self, id: str) -> bool:
        return id in self._messages

    def look(self, id: str) -> Waiting | None:
        message = self._messages.get(id)
        return message.waiting if message else None

    def envelope(self, id: str) -> Envelope:
        return self._message(id).envelope

    def content(self, id: str) -> Content:
        return StoredContent(self._message(id).content)

    def history(self, id: str) -> tuple[Attempt, ...]:
        message = self._messages.get(id)
        return message.history if message else ()

    def record(self, batch: Sequence[Filing]) -> list[SpoolError | None]:
        for filing in batch if self.fail is None else ():
            message = self._messages.get(filing.id)
            if message is not None:
                message.history += (filing.attempt,)
                ordered = message.waiting.held or message.waiting.returning
                if not (ordered and filing.attempt.event in (ATTEMPT, DELAY)):
                    due = 0.0 if filing.held or filing.returning else filing.due
                    message.waiting = Waiting(filing.id, due, filing.held, filing.returning)
        return [self.fail] * len(batch)

    def remove(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._messages.pop(id, None)

    def remove_at_once(self, id: str) -> bool:
        return False  # so that the usual way is the one that is tried

    def _message(self, id: str) -> _Message:
        try:
            return self._messages[id]
        except KeyError:
            raise NotInSpool(id) from None
