"""How many lanes (connections out) there may be: to the hosts of a next hop, for each next hop, and in all.

A lane needs an open file, and so do clients and the queue: without a limit one message to a thousand domains takes
them all, and nobody can be accepted or stored any more. From half of that limit on a next hop gets its first lane
only, so a few hosts that hang never hold so many that others wait.

Lanes with a task are bounded by the window of the hosts (`Pool`) and by the line of `control/destinations`; open ones,
also those that rest, by that line alone (`Budget`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from qmtls.delivery.terms import NO_TERMS, Terms
from qmtls.delivery.window import Rest, Window
from qmtls.tls.scope import Rate

MAX_LANES = 1000  # until the assembly says what the open files allow
TRIES = 10  # of those that wait for a lane, when one more is there
TURN = 20  # tasks of a lane in a row, where others wait
ASK_SECONDS = 1.0  # other workers have all the connections: nobody tells when one ends
RATES, CONNECTIONS = b"to rate ", b"to lane "  # not those of clients (net.doorkeeper)


class Waits(Protocol):
    """Who wants lanes."""

    def wake(self) -> None:
        """There may be one: takes what it still needs, by `Budget.take`."""


class Line:
    """Who waits, the first to come first, each once. `all` of them is a dictionary: it is looked at often."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: dict[Waits, None] = {}

    def __len__(self) -> int:
        return len(self.all)

    def add(self, one: Waits) -> None:
        self.all.setdefault(one)

    def wake_first(self) -> None:
        first = next(iter(self.all))
        del self.all[first]
        first.wake()


@dataclass(slots=True)
class Lanes:
    """Those of a worker, over all next hops."""

    limit: int = MAX_LANES
    used: int = 0
    waiting: Line = field(default_factory=Line)

    def has_room(self, *, first: bool) -> bool:
        return self.used < (self.limit if first else self.limit // 2)

    def give_back(self) -> None:
        self.used -= 1
        for n in range(len(self.waiting)):
            # In the upper half most of those who wait may not take more: some are asked now, others the next time.
            if self.used >= self.limit or (n >= TRIES and not self.has_room(first=False)):
                return
            self.waiting.wake_first()


class Pool:
    """A set of hosts, whichever next hops lead to them: the window of lanes with a task, and their rest.

    `hosts` are their names; there are none as long as nobody knows them, and then one lane is to find out. `limit` is
    the window, and `most` (`concurrencyremote`) at the most.
    """

    __slots__ = ("hosts", "limit", "most", "rest", "waiting", "why", "window", "working")

    def __init__(self, hosts: frozenset[str], most: int) -> None:
        self.hosts = hosts
        self.window = Window() if hosts else Window(1)
        self.rest = Rest()
        self.why = ""  # it rests: what the last look found
        self.working = 0
        self.waiting = Line()
        self.use(most)

    def use(self, most: int) -> None:
        self.most = most
        self.limit = min(self.window.limit, most)

    def succeeded(self, ceiling: int, now: float) -> None:
        """A host took or refused a message. `ceiling` is that of the next hop."""
        if self.window.succeeded(self.working, min(ceiling, self.most), now):
            self.limit = min(self.window.limit, self.most)

    def failed(self, others: int, now: float) -> None:
        """A lane could not use the hosts; `others` can."""
        self.window.failed(others, now)
        self.limit = min(self.window.limit, self.most)

    def wake(self) -> None:
        for _ in range(len(self.waiting)):
            if self.working >= self.limit:
                break
            self.waiting.wake_first()


class Counts(Protocol):
    """What all workers of a host count together (net.buckets)."""

    def take(self, key: bytes, rate: Rate, tokens: int = 1) -> float: ...
    def enter(self, key: bytes, most: int) -> bool: ...
    def leave(self, key: bytes) -> None: ...


class Budget:
    """The lanes that one next hop may have, over all its destinations.

    `used` lanes are open, `working` have a task. Whoever is refused waits in a line and is woken, or, if `again` is not
    0, asks again after that many seconds.
    """

    __slots__ = ("_counts", "_entered", "_key", "again", "lanes", "most", "pool", "terms", "used", "waiting", "working")

    def __init__(self, name: str, pool: Pool, lanes: Lanes, counts: Counts | None = None) -> None:
        self._key = name.encode()
        self._counts = counts
        self._entered = 0  # lanes that all workers know of
        self.pool = pool
        self.lanes = lanes
        self.again = 0.0
        self.used = self.working = 0
        self.waiting = Line()
        self.use(NO_TERMS, pool.most)

    def use(self, terms: Terms, ceiling: int) -> None:
        """What holds from now on; `ceiling` is `concurrencyremote`."""
        self.terms = terms
        self.most = terms.lanes(ceiling)

    def join(self, pool: Pool) -> None:
        """Its hosts are others than was thought. Who waited for the old ones is to be woken."""
        self.pool.working -= self.working
        pool.working += self.working
        self.pool = pool

    def others_wait(self, destination: Waits) -> bool:
        """Somebody else wants a lane: nobody should keep one for later."""
        return any(
            line.all and (len(line.all) > 1 or destination not in line.all)
            for line in (self.waiting, self.pool.waiting, self.lanes.waiting)
        )

    def take(self, destination: Waits) -> bool:
        """One new lane for `destination`, with a task."""
        self.again = 0.0
        if self.used >= (self.terms.connections or self.most):
            self.waiting.add(destination)
        elif not self._may_work(destination):
            pass
        elif not self.lanes.has_room(first=self.used == 0):
            self.lanes.waiting.add(destination)
        elif self._enter() and self._token():
            self.used += 1
            self.lanes.used += 1
            self.working += 1
            self.pool.working += 1
            return True
        self._leave()
        return False

    def resume(self, destination: Waits) -> bool:
        """A task for a lane that rests."""
        self.again = 0.0
        pool = self.pool
        if self.working >= self.most or pool.working >= pool.limit:
            self._may_work(destination)
            return False
        if self.terms.rate is not None and not self._token():
            return False
        self.working += 1
        pool.working += 1
        return True

    def goes_on(self, destination: Waits, served: int) -> bool:
        """A lane of `destination` has done `served` tasks in a row: it may take the next at once."""
        pool = self.pool
        if pool.working > pool.limit or self.working > self.most:
            return False
        if served >= TURN and self.others_wait(destination):
            return False
        return self._token()

    def rest(self) -> None:
        """A lane has no task any more."""
        pool = self.pool
        self.working -= 1
        pool.working -= 1
        if pool.waiting.all:
            pool.wake()
        if self.waiting.all:
            self._wake()

    def give_back(self) -> None:
        """A lane has ended, after `rest`."""
        self.used -= 1
        self._leave()
        self._wake()
        self.lanes.give_back()

    def _wake(self) -> None:
        # Some in the line have been served by their own lanes meanwhile: those do not take it.
        for _ in range(len(self.waiting)):
            if self.working >= self.most:
                break
            self.waiting.wake_first()

    def _may_work(self, destination: Waits) -> bool:
        pool = self.pool
        if self.working >= self.most:
            self.waiting.add(destination)
        elif pool.working >= pool.limit:
            pool.waiting.add(destination)
        else:
            return True
        return False

    def _token(self) -> bool:
        """One more message is not too many for the rate."""
        if self.terms.rate is None or self._counts is None:
            return True
        self.again = self._counts.take(RATES + self._key, self.terms.rate)
        return not self.again

    def _enter(self) -> bool:
        """One more connection is not too many for all workers together."""
        most = self.terms.connections
        if not most or self._counts is None:
            return True
        if not self._counts.enter(CONNECTIONS + self._key, most):
            self.again = ASK_SECONDS
            return False
        self._entered += 1
        return True

    def _leave(self) -> None:
        """Those that all workers know of are never more than there are."""
        while self._entered > self.used and self._counts is not None:
            self._entered -= 1
            self._counts.leave(CONNECTIONS + self._key)
