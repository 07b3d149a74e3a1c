"""Work that several ask for at once is done once: each of them waits for the same result."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Running work by key. Who stops waiting (cancels) takes nothing from the others."""

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[V]]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def run(self, key: K, work: Callable[[], Coroutine[Deferred[Any], Any, V]]) -> Deferred[V]:
        """The result of the work under this key; it is begun now unless it is under way."""
        mine: Deferred[V] = Deferred()
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(mine)
            return mine
        self._waiting[key] = [mine]
        Deferred.fromCoroutine(work()).addBoth(self._tell, key)
        return mine

    def _tell(self, result: V | Failure, key: K) -> None:
        for waiting in self._waiting.pop(key):
            if not waiting.called:
                waiting.callback(result)  # a Failure becomes an errback
