"""Mail that waits for TLS is retested: a probe without mail asks each of its next hops whether the demand is met now.

One probe for each next hop, however many messages wait for it: the relayer's own dialer connects to host after host, up
to the verdict, and says QUIT. The first wait is `control/policyretest`, later ones grow (delivery.schedule). As soon as
a probe passes, or other mail does, all of that next hop's mail is due. A reload that changes what is demanded, or how
hosts are found, is reason to ask at once; one that sends the mail another way makes it due.

What is known here is in memory. After a start a message is known again once an attempt found its demand not met; no
file is opened for it. Nothing depends on it: mail that no probe releases goes at its own time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import random
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.control.live import look_at
from qmtls.control.settings import Settings
from qmtls.delivery import plan
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop
from qmtls.delivery.schedule import retest_wait
from qmtls.net.authorities import system_authorities
from qmtls.service.attempt import Attempt, Key, Task
from qmtls.service.lane import Workshop
from qmtls.service.retestprobe import Finding, probe

MOST_PROBES = 10  # at a time: each has an open file

log = Logger()


class Queue(Protocol):
    """What the relayer does for the retester."""

    def is_waiting(self, key: Key) -> bool:
        """It waits for its time: it is not being tried, not held, and not known to be gone."""

    def release(self, next_hop: NextHop, keys: Iterable[Key]) -> int:
        """Those that wait for their time are due, and the next hop is not left alone any longer; how many they were."""


@dataclass(slots=True)
class _Hop:
    """One next hop whose last attempt met no TLS demand. `keys`: who waits there, and some who do no longer."""

    keys: set[Key] = field(default_factory=set)
    failed: int = 0  # probes in a row
    not_before: float = 0.0  # an attempt that found the same is as good as a probe
    timer: Any = None
    trying: int = 0  # real attempts that began since: tasks in hand or in line
    busy: bool = False  # it is being probed, or in line for that


class Retester:
    """The relayer tells of attempts (`begins`, `judged`, then `waits`) and reloads; the rest goes by the clock."""

    def __init__(self, shop: Workshop, queue: Queue, chance: Callable[[], float] = random) -> None:
        self._shop = shop
        self._queue = queue
        self._chance = chance
        # A probe is no attempt at mail: TLS reports (RFC 8460) do not count it.
        self._dialer = replace(shop.dialer, count=None)
        self._hops: dict[NextHop, _Hop] = {}
        self._ready: deque[NextHop] = deque()  # their time has come, but enough probes are under way
        self._probing = 0
        self._first = self._settings().policy_retest
        self._demands = _demands(self._settings())
        self._stopping = False

    def __len__(self) -> int:
        return len(self._hops)

    def _settings(self) -> Settings:
        return self._shop.current().settings

    # ------------------------------------------------------------ what attempts tell

    def begins(self, jobs: Iterable[plan.Job]) -> None:
        """An attempt begins; each of its jobs becomes a task that will be `judged`."""
        if self._hops:
            for job in jobs:
                if job.next_hop in self._hops:
                    self._hops[job.next_hop].trying += 1

    def judged(self, task: Task, outcomes: dict[int, Outcome]) -> None:
        """A task ended so. If hosts of the next hop meet the demand, others need not wait for a probe."""
        unmet = tuple([index for index, outcome in outcomes.items() if outcome.unmet])
        if unmet:
            task.attempt.unmet = (*task.attempt.unmet, (task.next_hop, unmet))
        hop = self._hops.get(task.next_hop) if self._hops else None
        if hop is None:
            return
        hop.trying = max(0, hop.trying - 1)  # it may have begun before the next hop was known here
        hop.keys.discard(task.attempt.key)
        if unmet:
            hop.not_before = self._shop.clock.seconds() + self._first
            return
        taken = next((outcome for outcome in outcomes.values() if outcome.host), None)
        if taken is not None:
            self._met(task.next_hop, hop, f"other mail meets the demand at {taken.host}: {taken.tls}")

    def waits(self, attempt: Attempt, key: Key) -> None:
        """The attempt is filed, the message waits: for a TLS demand, if the outcomes say so."""
        for next_hop, indices in attempt.unmet:
            outcomes = [attempt.outcomes[index] for index in indices]
            if any(outcome.fate is Fate.DEFERRED and outcome.unmet for outcome in outcomes):
                hop = self._hops.get(next_hop)
                if hop is None:
                    hop = self._hops[next_hop] = _Hop()
                    self._arm(next_hop, hop)
                hop.keys.add(key)

    def _met(self, next_hop: NextHop, hop: _Hop, sentence: str) -> None:
        self._forget(next_hop, hop)
        self._release(next_hop, hop, sentence)

    def _release(self, next_hop: NextHop, hop: _Hop, sentence: str) -> None:
        keys, hop.keys = hop.keys, set()
        count = self._queue.release(next_hop, keys)
        if count:
            self._shop.say(f'released {_words(next_hop)} messages={count} reason="{sentence}"')

    def _forget(self, next_hop: NextHop, hop: _Hop) -> None:
        del self._hops[next_hop]
        if hop.timer is not None and hop.timer.active():
            hop.timer.cancel()

    # ------------------------------------------------------------ the clock

    def _arm(self, next_hop: NextHop, hop: _Hop, at_least: float = 0.0) -> None:
        """Sets the time of the next probe, if there are to be any."""
        if hop.timer is not None and hop.timer.active():
            hop.timer.cancel()
        hop.timer = None
        if self._first and not self._stopping:
            wait = max(at_least, retest_wait(self._first, hop.failed, self._chance()))
            hop.timer = self._shop.clock.callLater(wait, self._come, next_hop)

    def _come(self, next_hop: NextHop) -> None:
        hop = self._hops.get(next_hop)
        if hop is None or not self._anybody(hop):
            self._hops.pop(next_hop, None)
            return
        hop.timer, hop.busy = None, False
        now = self._shop.clock.seconds()
        if hop.trying or not self._settings().concurrency_remote:
            self._arm(next_hop, hop)
        elif now < hop.not_before:
            self._arm(next_hop, hop, hop.not_before - now)
        elif self._probing < MOST_PROBES:
            self._start(next_hop, hop)
        else:
            hop.busy = True
            self._ready.append(next_hop)

    def _anybody(self, hop: _Hop) -> bool:
        """Somebody still waits. Forgets those on the way who do no longer."""
        gone = []
        for key in hop.keys:
            if self._queue.is_waiting(key):
                break
            gone.append(key)
        hop.keys.difference_update(gone)
        return bool(hop.keys)

    def _start(self, next_hop: NextHop, hop: _Hop) -> None:
        self._probing += 1
        hop.busy = True
        shop, demands = self._shop, self._demands

        def found(finding: Finding) -> None:
            hop.busy = False
            if self._stopping or self._hops.get(next_hop) is not hop:
                return  # mail was faster
            if demands is not self._demands and not finding.met:
                self._come(next_hop)  # by rules of the past
            else:
                self._found(finding, next_hop, hop)

        probing = Deferred.fromCoroutine(probe(self._dialer, next_hop, shop.current(), shop.clock, shop.now))
        probing.addErrback(self._broke, next_hop)
        probing.addCallback(found)
        probing.addErrback(lambda failure: log.failure("after a probe", failure=failure))
        probing.addBoth(self._next)

    def _broke(self, failure: Failure, next_hop: NextHop) -> Finding:
        """A fault of ours."""
        log.failure("a probe of {hop}", failure=failure, hop=str(next_hop))
        return Finding(False, "trouble on our side")

    def _found(self, finding: Finding, next_hop: NextHop, hop: _Hop) -> None:
        # Also if it passes: should the mail find otherwise, and come back, the next probe is not sooner for that.
        hop.failed += 1
        self._arm(next_hop, hop)
        if finding.met:
            self._release(next_hop, hop, f"a probe without mail passes at {finding.sentence}")
            return
        again = f" again={hop.timer.getTime() - self._shop.clock.seconds():.0f}s" if hop.timer is not None else ""
        self._shop.say(f'retest {_words(next_hop)} messages={len(hop.keys)}{again} reason="{finding.sentence}"')

    def _next(self, _: object) -> None:
        self._probing -= 1
        while self._ready and self._probing < MOST_PROBES and not self._stopping:
            self._come(self._ready.popleft())

    # ------------------------------------------------------------ orders

    def reloaded(self) -> None:
        """The settings changed: what the mail waits for may be met now, or no longer demanded."""
        settings, demands = self._settings(), _demands(self._settings())
        changed, slower = demands != self._demands, settings.policy_retest != self._first
        self._first = settings.policy_retest
        if changed:
            self._demands = demands
        for next_hop, hop in list(self._hops.items()):
            if _elsewhere(next_hop, settings):
                self._met(next_hop, hop, "it goes another way now")
            elif changed and not self._first:
                self._met(next_hop, hop, "the rules changed")
            elif changed:
                hop.failed, hop.not_before = 0, 0.0
                self._ask_now(next_hop, hop)
            elif slower and not hop.busy:
                self._arm(next_hop, hop)

    def _ask_now(self, next_hop: NextHop, hop: _Hop) -> None:
        if not hop.busy and not self._stopping:
            self._arm(next_hop, hop)
            hop.timer.reset(0)

    def stop(self) -> None:
        """No more probes."""
        self._stopping = True
        for hop in self._hops.values():
            if hop.timer is not None and hop.timer.active():
                hop.timer.cancel()


def _demands(settings: Settings) -> tuple[object, ...]:
    """All that may decide whether a demand is met, as far as it is ours."""
    shown = {"": settings.client_credential, **settings.client_credentials}
    return (
        settings.tls,
        settings.logins,
        settings.client_ciphers,
        {name: credential and credential.chain for name, credential in shown.items()},
        (settings.dns_servers, settings.dns_trusted),
        look_at(system_authorities()),
    )


def _elsewhere(next_hop: NextHop, settings: Settings) -> bool:
    """Mail for this domain goes another way than by this next hop."""
    now = plan.next_hop(next_hop.domain, settings.routing)
    same = replace(now, requiretls=next_hop.requiretls, tls_optional=next_hop.tls_optional)
    return next_hop.domain in settings.access.locals or same != next_hop


def _words(next_hop: NextHop) -> str:
    """For the log."""
    relay = f" relay={next_hop}" if next_hop.relay else ""
    requires = " requiretls=yes" if next_hop.requiretls else ""
    return f"domain={next_hop.domain}{relay}{requires}"
