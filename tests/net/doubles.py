"""Stand-ins for the committer's threads and for DNS, which do what they are told, when they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from qmtls.net.resolver import DnsTrouble, NoSuchName
from qmtls.spool.api import Filing, Incoming, Spool


class Desk:
    """The committer without threads: work is done at once, or, while `open` is False, when the test says `work`.

    Like the real one it keeps commits and records apart from errands, and each of the two in order.
    """

    def __init__(self) -> None:
        self.open = True
        self.waiting: list[Callable[[], None]] = []
        self.on_removed: Callable[[Spool, Sequence[str]], object] = lambda spool, ids: None
        self.removed: list[str] = []

    def _later(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def act() -> None:
            try:
                result = work()
            except Exception:
                done.errback(Failure())
            else:
                if isinstance(result, Exception):
                    done.errback(result)
                else:
                    done.callback(result)

        if self.open:
            act()
        else:
            self.waiting.append(act)
        return done

    def work(self, count: int = 0) -> None:
        """Does what waits; with `count` only so many."""
        for _ in range(count or len(self.waiting)):
            self.waiting.pop(0)()

    def commit(self, spool: Spool, incoming: Incoming) -> Deferred[None]:
        return self._later(lambda: spool.commit([incoming])[0])

    def record(self, spool: Spool, filing: Filing) -> Deferred[None]:
        return self._later(lambda: spool.record([filing])[0])

    def flush(self, incoming: Incoming) -> Deferred[None]:
        return self._later(incoming.flush)

    def run(self, f: Callable[[], Any]) -> Deferred[Any]:
        return self._later(f)

    def remove(self, spool: Spool, id: str) -> None:
        def act() -> None:
            spool.remove([id])
            self.removed.append(id)
            self.on_removed(spool, [id])

        self._later(act)

    def stop(self) -> Deferred[None]:
        return succeed(None)


class Names:
    """DNS by two dictionaries. An exception as value is raised; what is not there does not exist."""

    def __init__(self) -> None:
        self.mail: dict[str, Any] = {}
        self.hosts: dict[str, Any] = {}
        self.asked: list[str] = []

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        self.asked.append(domain)
        found = self.mail.get(domain, NoSuchName(f"DNS: the name {domain} does not exist"))
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, list)
        return found

    async def addresses(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        found = self.hosts.get(host, ())
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        return (found,) if isinstance(found, str) else tuple(found)


TROUBLE = DnsTrouble("DNS: cannot be looked up now (NoNameservers)")


def off_reactor(work: Callable[[], Any]) -> Deferred[Any]:
    """The thread pool, at once."""
    try:
        return succeed(work())
    except Exception:
        return fail(Failure())
