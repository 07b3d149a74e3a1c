"""The addresses of the hosts of one domain, asked for side by side.

A name that hangs keeps nobody from the others: once a host is known that mail can go to, the rest gets a moment more
and is then left out of this attempt. What is under way goes on by itself; its answer is there for the next attempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from qmtls.net.resolver import DnsTrouble, HostAddresses

AT_ONCE = 10  # hosts of one domain; each takes two sockets
MAX_HOSTS = 50  # of one domain that are asked for; twenty addresses are tried at the most (qmtls.delivery.mx)
PATIENCE = 1.0  # seconds for the other hosts once there is one to begin with

Answers = dict[str, HostAddresses | DnsTrouble]


class Hosts(Protocol):
    """The part of the resolver that is needed here."""

    async def host(self, host: str) -> HostAddresses: ...


@dataclass(slots=True)
class Lookup:
    """One round. `enough` says of what is known so far that there is a host for mail to begin with; more may come to
    be known that rules it out again. `needed` is a name that is waited for in any case, "" = there is none. `width`:
    how many are asked for at a time."""

    hosts: Hosts
    clock: Any
    enough: Callable[[Answers], bool]
    needed: str = ""
    width: int = AT_ONCE
    _answers: Answers = field(default_factory=dict, init=False)
    _todo: deque[str] = field(default_factory=deque, init=False)
    _end: Deferred[None] = field(default_factory=Deferred, init=False)
    _working: int = field(default=0, init=False)
    _timer: Any = field(default=None, init=False)
    _late: bool = field(default=False, init=False)

    async def run(self, names: Sequence[str]) -> Answers:
        """An answer, or the trouble, for each of `names`, which are in the order of preference."""
        self._todo.extend(sorted(names, key=lambda name: name != self.needed))
        self._working = min(self.width, len(names))
        for _ in range(self._working):
            Deferred.fromCoroutine(self._work()).addCallbacks(self._out_of_work, self._broke)
        if names:
            await self._end
        late = {name: DnsTrouble(f"DNS: the addresses of {name} did not come in time") for name in names}
        return late | self._answers

    async def _work(self) -> None:
        while self._todo and not self._end.called:
            name = self._todo.popleft()
            answer: HostAddresses | DnsTrouble
            try:
                answer = await self.hosts.host(name)
            except DnsTrouble as problem:
                answer = problem
            if not self._end.called:
                self._answers[name] = answer
                self._hurry()

    def _hurry(self) -> None:
        if self._late:
            self._end_if_enough()
        elif self._timer is None and self.enough(self._answers):
            self._timer = self.clock.callLater(PATIENCE, self._wait_no_more)

    def _wait_no_more(self) -> None:
        self._late = True
        self._end_if_enough()

    def _end_if_enough(self) -> None:
        if (not self.needed or self.needed in self._answers) and self.enough(self._answers):
            self._finish(None)

    def _out_of_work(self, _: object) -> None:
        self._working -= 1
        if self._working == 0:
            self._finish(None)

    def _broke(self, failure: Failure) -> None:
        """A fault of ours, which is no trouble of DNS."""
        self._finish(failure)

    def _finish(self, result: Failure | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._end.called:
            self._end.callback(result)
