"""One lane to one next hop: an open channel if there is one, and which hosts one task is put to.

The next host is tried for the recipients that a host answered 4xx at MAIL or RCPT, for those that it has no extension
for (SIZE, 8BITMIME, SMTPUTF8, REQUIRETLS), and when a host cannot be used or goes away before it has the whole message:
afterwards it might have accepted it. A channel that broke while it was idle is replaced without counting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qmtls.delivery.demands import policy_for
from qmtls.delivery.holds import Hold
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop
from qmtls.net.channel import Channel
from qmtls.net.outbound import Dialer, HostFailed, all_failed
from qmtls.net.snapshot import Snapshot
from qmtls.net.targets import Target, Unreachable
from qmtls.service.attempt import Task
from qmtls.service.orders import held_by, held_meanwhile, ordered_meanwhile
from qmtls.service.sending import Read, Sending
from qmtls.service.signing import Signer
from qmtls.spool.api import Malformed, NotInSpool, SpoolError
from qmtls.tls.policy import Level, Policy


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all lanes of a worker share."""

    clock: Any
    dialer: Dialer
    current: Callable[[], Snapshot]
    read: Read
    say: Callable[[str], None]
    now: Callable[[], float] = field(default=time.time, kw_only=True)  # the time of day, by which rules end
    signer: Signer | None = None


class Crowded(Exception):
    """The hosts turn out to be such as have all the lanes that they bear; nothing was sent."""


Found = Callable[[Sequence[Target]], None]  # told of the hosts before they are tried; may raise Crowded


class Lane:
    """At most one channel, with the snapshot, next hop, target and TLS demand it was opened for.

    `most` is the number of messages that a channel carries; 0 = any.
    """

    def __init__(self, shop: Workshop, found: Found) -> None:
        self.most = 0
        self._shop = shop
        self._found = found
        self._carried = 0
        self.channel: Channel | None = None  # the last one that a task was put to, until it is closed
        self._next_hop: NextHop | None = None
        self._target: Target | None = None
        self._policy: Policy | None = None
        self._snapshot: Snapshot | None = None

    @property
    def usable(self) -> bool:
        channel = self.channel
        if channel is None or not channel.usable or channel.session.spent:
            return False
        if self._policy is not None and not self._policy.reuse:
            return False  # connection_reuse=no: it has carried its one message
        if 0 < self.most <= self._carried:
            return False
        return self._snapshot is self._shop.current()

    def on_end(self, call: Callable[..., None] | None) -> None:
        """`call` when the peer ends the idle channel."""
        if self.channel is not None:
            self.channel.on_idle_end = call

    def close(self) -> None:
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.quit()

    def drop(self) -> None:
        """Ends the channel at once."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.abort()

    async def serve(self, task: Task) -> dict[int, Outcome] | None:
        """Outcomes of all recipients; None if the message is gone. Raises Unreachable if no host could be used."""
        task.attempt.in_hand += 1
        try:
            if not await self._load(task):
                return None
            held = held_meanwhile(task, self._shop.current().settings.holds, self._shop.now())
            if not held:
                return await self._serve(task)
            rest = tuple(i for i in task.recipients if i not in held)
            return {**(await self._serve(replace(task, recipients=rest)) if rest else {}), **held}
        except Exception:
            self.drop()  # nobody knows how far the channel got
            raise
        finally:
            task.attempt.in_hand -= 1

    async def _serve(self, task: Task) -> dict[int, Outcome]:
        sending = Sending(task, self._shop.read, self._shop.signer)
        tried, waiting = None, task.recipients
        if self.usable and self._meets_demand(task.next_hop):
            channel = self.channel
            assert channel is not None
            self._carried += 1
            waiting = await sending.put_to(channel, task.recipients, reused=True)
            if not waiting:
                return sending.outcomes
            if sending.outcomes and not channel.session.spent:
                tried = self._target
        await self._try_hosts(task, waiting, sending, tried)
        return sending.outcomes

    def _meets_demand(self, next_hop: NextHop) -> bool:
        """The open channel may carry mail to `next_hop`.

        At a relay, domains with equal TLS demands share their lanes; tasks that were in line at a reload may no longer
        be equal.
        """
        if next_hop == self._next_hop:
            return True
        assert self._target is not None and self._snapshot is not None and self.channel is not None
        if self.channel.session.limits.domains:
            return False  # it counts the domains of a session (RFC 9422 section 4.3): this one keeps to its own
        if self._next_hop is None or next_hop.requiretls != self._next_hop.requiretls:
            return False
        policy = policy_for(next_hop, self._target.name, self._snapshot.settings, self._shop.now())
        # At level sts equal rules are not equal demands: each domain has a policy of its own.
        return policy == self._policy and policy.level is not Level.STS

    async def _load(self, task: Task) -> bool:
        attempt = task.attempt
        if attempt.waited:
            if not attempt.spool.has(attempt.id):
                return self._gone(task)
            if ordered := ordered_meanwhile(attempt):
                task.settle(ordered)
                return False
        if not attempt.loaded:
            try:
                await self._shop.read(attempt.load)
            except NotInSpool:
                return self._gone(task)
            except (Malformed, SpoolError) as problem:
                task.settle(Outcome(Fate.DEFERRED, f"the queue file cannot be read: {problem}", "4.3.0"))
                return False
        return True

    def _gone(self, task: Task) -> bool:
        """Somebody removed the message: there is nothing to send, and nobody to tell."""
        self._shop.say(f"gone id={task.attempt.id}")
        task.done(task, {})
        return False

    async def _try_hosts(self, task: Task, waiting: Sequence[int], sending: Sending, tried: Target | None) -> None:
        """The hosts in order, until nobody waits; the last outcome of those who still do stays.

        `tried` is the host of the open channel, if it has answered: without another one the channel stays.
        """
        if tried is None:
            self.close()
        snapshot = self._shop.current()
        failures: list[HostFailed] = []
        pauses: list[Hold] = []
        asked = set() if tried is None else {tried.name}
        try:
            targets = await self._shop.dialer.targets(task.next_hop, snapshot)
        except Unreachable as problem:
            if not sending.outcomes:
                raise
            # Others of this task were answered already: this concerns those only who were not.
            sending.give_up(waiting, problem.outcome, all_asked=False)
            return
        if not sending.outcomes:
            self._found(targets)
        for target in targets:
            if target == tried:
                continue
            paused = snapshot.settings.holds.of_host(target.name, self._shop.now())
            if paused is not None:
                pauses.append(paused)
                continue
            policy = policy_for(task.next_hop, target.name, snapshot.settings, self._shop.now())
            self.close()
            try:
                channel = await self._shop.dialer.open_channel(target, policy, snapshot, task.next_hop)
            except HostFailed as problem:
                failures.append(problem)
                continue
            self.channel, self._target, self._snapshot = channel, target, snapshot
            self._next_hop, self._policy, self._carried = task.next_hop, policy, 1
            asked.add(target.name)
            waiting = await sending.put_to(channel, waiting, reused=False)
            if not waiting:
                return
        unsent = _unsent(failures, pauses, answered=bool(sending.outcomes))
        sending.give_up(waiting, unsent, all_asked=all(target.name in asked for target in targets))


def _unsent(failures: Sequence[HostFailed], pauses: Sequence[Hold], *, answered: bool) -> Outcome:
    """For whom no host is left: why. Unreachable if none of them `answered` anybody."""
    if pauses and not failures and not answered:
        raise Unreachable(held_by(pauses[0]))
    failed = [*failures, *(HostFailed(pause.sentence, "4.3.2") for pause in pauses)]
    if failed and not answered:
        raise all_failed(failed)
    return all_failed(failed).outcome if failed else _NO_HOST


_NO_HOST = Outcome(Fate.DEFERRED, "no other host is left to try", "4.4.1")
