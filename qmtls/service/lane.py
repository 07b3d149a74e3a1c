"""One lane to one next hop: an open channel if there is one, and what is done with one task on it.

The next host is tried for the recipients that a host answered 4xx at MAIL or RCPT, and when a host cannot be used or
goes away before it has the whole message: afterwards it might have accepted it. A channel that broke while it was idle
is replaced without counting. 452 to some recipients of many is answered by a second transaction on the same channel
(RFC 5321 section 4.5.3.1.10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from qmtls.delivery.dsn import wire_reverse_path
from qmtls.delivery.outcome import Fate, Outcome, judge_result, too_many_recipients
from qmtls.delivery.plan import NextHop
from qmtls.net.channel import Channel
from qmtls.net.outbound import Dialer, HostFailed, Target, Unreachable, all_failed, policy_for
from qmtls.net.snapshot import Snapshot
from qmtls.service.attempt import Task
from qmtls.smtp.client import Outgoing, Unsendable
from qmtls.smtp.events import Result, Stage
from qmtls.spool.api import Malformed, NotInSpool, SpoolError
from qmtls.tls.policy import Policy

SERVICE_CLOSING = 421
MAX_ROUNDS = 50  # transactions for one task on one channel after 452


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all lanes of a worker share."""

    clock: Any
    dialer: Dialer
    current: Callable[[], Snapshot]
    read: Callable[[Callable[[], Any]], Deferred[Any]]  # blocking disk work, off the reactor
    say: Callable[[str], None]


class Lane:
    """At most one channel, with the snapshot, next hop, target and TLS demand it was opened for."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._channel: Channel | None = None
        self._next_hop: NextHop | None = None
        self._target: Target | None = None
        self._policy: Policy | None = None
        self._snapshot: Snapshot | None = None

    @property
    def usable(self) -> bool:
        channel = self._channel
        return channel is not None and channel.usable and self._snapshot is self._shop.current()

    def on_end(self, call: Callable[..., None] | None) -> None:
        """`call` when the peer ends the idle channel."""
        if self._channel is not None:
            self._channel.on_idle_end = call

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.quit()

    def drop(self) -> None:
        """Ends the channel at once."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abort()

    async def serve(self, task: Task) -> dict[int, Outcome] | None:
        """Outcomes of all recipients; None if the message is gone. Raises Unreachable if no host could be used."""
        task.attempt.in_hand += 1
        try:
            return await self._serve(task) if await self._load(task) else None
        except Exception:
            self.drop()  # nobody knows how far the channel got
            raise
        finally:
            task.attempt.in_hand -= 1

    async def _serve(self, task: Task) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        if self.usable and self._meets_demand(task.next_hop):
            target, channel = self._target, self._channel
            assert channel is not None
            waiting = await self._send(channel, task, task.recipients, outcomes, reused=True)
            if not waiting:
                return outcomes
            tried = target if outcomes else None
        else:
            tried, waiting = None, task.recipients
        await self._try_hosts(task, waiting, outcomes, tried)
        return outcomes

    def _meets_demand(self, next_hop: NextHop) -> bool:
        """The open channel may carry mail to `next_hop`.

        At a relay, domains with equal TLS demands share their lanes; tasks that were in line at a reload may no longer
        be equal.
        """
        if next_hop == self._next_hop:
            return True
        assert self._target is not None and self._snapshot is not None
        return policy_for(next_hop, self._target, self._snapshot) == self._policy

    async def _load(self, task: Task) -> bool:
        attempt = task.attempt
        if attempt.waited and not attempt.spool.has(attempt.id):
            return self._gone(task)
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

    async def _try_hosts(
        self, task: Task, waiting: Sequence[int], outcomes: dict[int, Outcome], tried: Target | None
    ) -> None:
        """The hosts in order, until nobody waits; the last outcome of those who still do stays."""
        self.close()
        snapshot = self._shop.current()
        failures: list[HostFailed] = []
        try:
            targets = await self._shop.dialer.targets(task.next_hop, snapshot)
        except Unreachable as problem:
            if not outcomes:
                raise
            # Others of this task were answered already: this concerns those only who were not.
            outcomes.update({i: problem.outcome for i in waiting if i not in outcomes})
            return
        for target in targets:
            if target == tried:
                continue
            policy = policy_for(task.next_hop, target, snapshot)
            try:
                channel = await self._shop.dialer.open_channel(target, policy, snapshot)
            except HostFailed as problem:
                failures.append(problem)
                continue
            self.close()
            self._channel, self._target, self._snapshot = channel, target, snapshot
            self._next_hop, self._policy = task.next_hop, policy
            waiting = await self._send(channel, task, waiting, outcomes, reused=False)
            if not waiting:
                return
        if failures and not outcomes:
            raise all_failed(failures)
        if any(i not in outcomes for i in waiting):
            unsent = all_failed(failures) if failures else Unreachable(_NO_HOST)
            outcomes.update({i: unsent.outcome for i in waiting if i not in outcomes})

    async def _send(
        self, channel: Channel, task: Task, recipients: Sequence[int], outcomes: dict[int, Outcome], *, reused: bool
    ) -> tuple[int, ...]:
        """Transactions until all recipients have an answer of this host; returns those that the next host may take.

        Those of a `reused` channel that had gone while it was idle get no outcome: the host never answered.
        """
        todo = tuple(recipients)
        body = await self._body(channel, task)
        deferred: list[int] = []
        for _ in range(MAX_ROUNDS):
            try:
                results = await channel.transact(*self._outgoing(task, todo, body))
            except Unsendable as problem:
                at_fault = todo if problem.recipient is None else (todo[problem.recipient],)
                outcomes.update(dict.fromkeys(at_fault, _returned(problem, channel)))
                todo = tuple(i for i in todo if i not in at_fault)
                if not todo:
                    break
                continue
            again: list[int] = []
            taken = any(_accepted(r) for r in results)
            for index, result in zip(todo, results, strict=True):
                outcome = judge_result(result, channel.host, channel.tls)
                if taken and too_many_recipients(result):
                    again.append(index)
                elif outcome.fate is Fate.DEFERRED and _for_others(result):
                    deferred.append(index)
                    if reused and _unsent(result, channel):
                        continue
                outcomes[index] = outcome
            todo = tuple(again)
            if not todo or not channel.usable:
                break
        return (*deferred, *todo)

    async def _body(self, channel: Channel, task: Task) -> str:
        """What to say of the content. Many clients call all of their mail 8-bit; plain ASCII may go to any server."""
        attempt = task.attempt
        assert attempt.envelope is not None
        declared = attempt.envelope.body
        if declared == "7BIT" or declared in channel.session.extensions:
            return declared
        return "7BIT" if await self._shop.read(attempt.is_ascii) else declared

    def _outgoing(self, task: Task, indices: tuple[int, ...], body: str) -> tuple[Outgoing, Any]:
        attempt = task.attempt
        envelope = attempt.envelope
        assert envelope is not None
        outgoing = Outgoing(
            reverse_path=wire_reverse_path(envelope.reverse_path),
            recipients=tuple(envelope.recipients[i] for i in indices),
            size=attempt.size,
            body=body,
        )
        return outgoing, attempt.chunks()


_NO_HOST = Outcome(Fate.DEFERRED, "no other host is left to try", "4.4.1")


def _accepted(result: Result) -> bool:
    return result.reply is not None and result.reply.is_positive


def _for_others(result: Result) -> bool:
    """Another host may do better, and there cannot be two copies: this one has not seen the end of the content."""
    ended = result.reply is None or result.reply.code == SERVICE_CLOSING
    return result.stage in (Stage.MAIL, Stage.RCPT) or (ended and result.stage in (Stage.DATA, Stage.SENDING))


def _unsent(result: Result, channel: Channel) -> bool:
    """The channel ended before the server looked at the transaction: it had gone, or its patience ended (421)."""
    reply = result.reply
    idle_end = reply is None or reply.code == SERVICE_CLOSING
    return idle_end and result.stage is Stage.MAIL and not channel.usable


def _returned(problem: Unsendable, channel: Channel) -> Outcome:
    reason = f"{channel.host} cannot take it: {problem}"
    return Outcome(Fate.FAILED, reason, problem.status, host=channel.host, tls=channel.tls)
