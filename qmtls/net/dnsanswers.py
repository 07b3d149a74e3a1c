"""Answers of the DNS as plain values, and those that are kept: for their time to live, as many as there is room for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qmtls.tls.dane import Tlsa

# Answers beyond this are not kept: whoever writes the records writes as many as he likes.
MAX_KEPT_RECORDS, MAX_KEPT_OCTETS = 100, 4096
MAX_TTL = 86_400.0  # seconds; RFC 8767 section 4 has a week, for resolvers


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says about one name and type. `name` is the canonical one, where CNAMEs have led to.

    `records`: MX (preference, host), A and AAAA text, TXT octets with their strings joined, CNAME text, TLSA Tlsa.
    `malformed` is the number of TLSA records that could not even be read.
    """

    exists: bool
    name: str
    records: tuple[Any, ...] = ()
    secure: bool = False
    malformed: int = 0


class KeptAnswers:
    """Answers for their time to live; of too many the one not asked for longest goes."""

    def __init__(self, size: int, now: Callable[[], float]) -> None:
        self._size = size
        self._now = now
        self._answers: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Answer | None:
        """The answer to (name, type), while it lasts."""
        found = self._answers.get(key)
        if found is None:
            return None
        if found[0] <= self._now():
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return found[1]

    def put(self, key: tuple[str, str], answer: Answer, ttl: float) -> None:
        """Keeps it for `ttl` seconds, but no large one."""
        if ttl <= 0 or not _is_small(answer.records):
            return
        self._answers[key] = (self._now() + min(ttl, MAX_TTL), answer)
        self._answers.move_to_end(key)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._answers)


def _is_small(records: tuple[Any, ...]) -> bool:
    octets = sum(len(r) if isinstance(r, bytes) else len(r.data) for r in records if isinstance(r, bytes | Tlsa))
    return len(records) <= MAX_KEPT_RECORDS and octets <= MAX_KEPT_OCTETS
