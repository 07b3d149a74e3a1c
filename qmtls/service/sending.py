"""One task and the hosts that it is put to: transactions, the form of the content for each host, and what was answered.

What a host cannot take is converted for it (8-bit text, or SMTPUTF8 that turns out not to be needed), else the next
host may be able to; only when every host of the next hop has said so does it go back (see `give_up`). Nothing that a
server did not offer to take is sent to it raw.

452 to some recipients of many is answered by a second transaction on the same channel (RFC 5321 section 4.5.3.1.10);
where the server announces how many it takes (RFC 9422), no transaction has more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from qmtls.delivery.dsn import wire_reverse_path
from qmtls.delivery.notify import to_be_confirmed
from qmtls.delivery.outcome import Fate, Notice, Outcome, judge_result, too_many_recipients
from qmtls.delivery.routes import Scheme
from qmtls.delivery.sevenbit import Unconvertible, survey, to_seven_bit
from qmtls.delivery.verp import expanded
from qmtls.net.channel import Channel
from qmtls.service.attempt import Task
from qmtls.service.signing import Signer
from qmtls.smtp.client import Outgoing, Unsendable
from qmtls.smtp.envelope import Envelope
from qmtls.smtp.events import Result, Stage
from qmtls.spool.api import Malformed, NotInSpool, SpoolError

SERVICE_CLOSING = 421
MAX_ROUNDS = 50  # transactions for one task on one channel that 452 makes necessary

# What one server cannot take and another can: SIZE, 8BITMIME, SMTPUTF8, REQUIRETLS.
_FOR_ANOTHER_HOST = frozenset({"5.3.4", "5.6.3", "5.6.7", "5.7.30"})

Read = Callable[[Callable[[], Any]], Deferred[Any]]  # blocking disk work, off the reactor


class _Form(NamedTuple):
    """The content as one host gets it; `chunks` gives it from its start, any number of times."""

    body: str
    smtputf8: bool
    size: int
    chunks: Callable[[], Iterator[bytes]]
    converted: bool = False


class Sending:
    """`outcomes` are those of the recipients so far, the last host's word counting."""

    __slots__ = ("_attempt", "_next_hop", "_read", "_signer", "outcomes")

    def __init__(self, task: Task, read: Read, signer: Signer | None = None) -> None:
        self._attempt = task.attempt
        self._next_hop = task.next_hop
        self._read = read
        self._signer = signer if signer is not None and signer.wants(task.attempt) else None
        self.outcomes: dict[int, Outcome] = {}

    async def put_to(self, channel: Channel, recipients: Sequence[int], *, reused: bool) -> tuple[int, ...]:
        """Transactions until all recipients have an answer of this host; returns those that the next host may take.

        Those of a `reused` channel that had gone while it was idle get no outcome: the host never answered.
        """
        later: list[int] = []
        try:
            form = self._as_it_is(channel) or await self._looked_at(channel)
            if self._signer is not None:
                form = await self._signed(self._signer, form)
        except Unsendable as problem:
            return self._cannot_take(channel, recipients, problem)
        except (SpoolError, NotInSpool, Malformed) as problem:
            unread = Outcome(Fate.DEFERRED, f"the queue file cannot be read: {problem}", "4.3.0")
            self.outcomes.update(dict.fromkeys(recipients, unread))
            return ()
        todo = tuple(recipients)
        most = channel.session.limits.recipients or len(todo)
        for _ in range(MAX_ROUNDS + (len(todo) - 1) // most):
            batch, rest = todo[:most], todo[most:]
            try:
                results = await channel.transact(self._outgoing(batch, form), form.chunks())
            except Unsendable as problem:
                at_fault = todo if problem.recipient is None else (batch[problem.recipient],)
                later += self._cannot_take(channel, at_fault, problem)
                todo = tuple(i for i in todo if i not in at_fault)
            else:
                todo = (*self._judge(batch, results, channel, later, reused=reused), *rest)
            if not todo or not channel.usable or channel.session.spent:
                break
        return (*later, *todo)

    def give_up(self, waiting: Iterable[int], unsent: Outcome, *, all_asked: bool) -> None:
        """No host is left for those who wait. `unsent` is for those who got no answer at all.

        Who was told "cannot take it" fails if every host was asked; else one that could not be asked may do better.
        """
        for index in waiting:
            known = self.outcomes.get(index)
            if known is None:
                self.outcomes[index] = unsent
            elif known.fate is Fate.FAILED and not all_asked:
                reason = f"{known.reason}; {unsent.reason}"
                self.outcomes[index] = replace(
                    known, fate=Fate.DEFERRED, status=unsent.status, reason=reason, unmet=unsent.unmet
                )

    def _envelope(self) -> Envelope:
        envelope = self._attempt.envelope
        assert envelope is not None, "loaded before it is sent"
        return envelope

    def _outgoing(self, indices: tuple[int, ...], form: _Form) -> Outgoing:
        envelope = self._envelope()
        recipients = envelope.recipients
        # One of a kind has only one recipient in each transaction (delivery.plan).
        reverse_path = expanded(envelope.reverse_path, recipients[indices[0]].address)
        return Outgoing(
            wire_reverse_path(reverse_path),
            tuple([recipients[i] for i in indices]),
            form.size,
            form.body,
            form.smtputf8,
            envelope.requiretls and not self._next_hop.is_socket,
            envelope.parameters,
        )

    # ------------------------------------------------------------ answers

    def _judge(
        self, batch: tuple[int, ...], results: tuple[Result, ...], channel: Channel, later: list[int], *, reused: bool
    ) -> list[int]:
        """Takes down the answers to one transaction; returns those for another one on this channel."""
        relays_dsn = "DSN" in channel.session.extensions
        again: list[int] = []
        taken = any(_accepted(r) for r in results)
        for index, result in zip(batch, results, strict=True):
            outcome = judge_result(result, channel.host, channel.tls)
            if taken and too_many_recipients(result):
                again.append(index)
            elif outcome.fate is Fate.DEFERRED and _for_others(result):
                later.append(index)
                if reused and _unsent(result, channel):
                    continue
            elif outcome.fate is Fate.DELIVERED and not relays_dsn and to_be_confirmed(self._envelope(), index):
                # RFC 3461 section 5.2.2: nobody behind this host will tell the sender.
                final = self._next_hop.scheme is Scheme.LMTP
                outcome = replace(outcome, notice=Notice.DELIVERED if final else Notice.RELAYED)
            self.outcomes[index] = outcome
        return again

    def _cannot_take(self, channel: Channel, recipients: Sequence[int], problem: Unsendable) -> tuple[int, ...]:
        """Those whom the next host may take. A host that only wants to be asked later keeps its word."""
        reason = f"{channel.host} cannot take it: {problem}"
        outcome = Outcome(Fate.FAILED, reason, problem.status, host=channel.host, tls=channel.tls)
        elsewhere = problem.status in _FOR_ANOTHER_HOST
        for index in recipients:
            known = self.outcomes.get(index)
            if not elsewhere or known is None or known.fate is Fate.FAILED:
                self.outcomes[index] = outcome
        return tuple(recipients) if elsewhere else ()

    # ------------------------------------------------------------ the content for one host

    def _as_it_is(self, channel: Channel) -> _Form | None:
        """If the content may go so without a look at more than memory; None if not."""
        attempt, envelope, offered = self._attempt, self._envelope(), channel.session.extensions
        if "8BITMIME" not in offered or (envelope.smtputf8 and "SMTPUTF8" not in offered):
            return None
        body = envelope.body
        if body == "7BIT" and attempt.known_ascii() is not True:
            body = "8BITMIME"  # clients say 7BIT, or nothing, whatever they send
        return _Form(body, envelope.smtputf8, attempt.size, attempt.chunks)

    async def _looked_at(self, channel: Channel) -> _Form:
        """For a server that lacks what the message may need. Unsendable; SpoolError and the like."""
        attempt, envelope, offered = self._attempt, self._envelope(), channel.session.extensions
        ascii = attempt.known_ascii()
        if ascii is None:
            ascii = await self._read(attempt.is_ascii)
        if ascii:
            # Many clients call all of their mail 8-bit or international; plain ASCII may go to any server.
            return _Form("7BIT", envelope.smtputf8 and "SMTPUTF8" in offered, attempt.size, attempt.chunks)
        found = await self._read(lambda: survey(attempt.chunks()))
        utf8 = envelope.smtputf8 and found.header
        if "8BITMIME" in offered or (utf8 and "SMTPUTF8" not in offered):
            # If it cannot be said there, the session knows.
            return _Form("8BITMIME", utf8, attempt.size, attempt.chunks)
        try:
            size = await self._read(lambda: sum(map(len, to_seven_bit(attempt.chunks(), found))))
        except Unconvertible as problem:
            why = f"the server takes 7-bit text only, and the message cannot be converted: {problem}"
            raise Unsendable(why, "5.6.3") from problem
        return _Form("7BIT", False, size, lambda: to_seven_bit(attempt.chunks(), found), converted=True)

    async def _signed(self, signer: Signer, form: _Form) -> _Form:
        """SpoolError and the like."""
        fields = await signer.fields(self._attempt, "converted" if form.converted else "as it is", form.chunks)
        if not fields:
            return form
        return form._replace(size=form.size + len(fields), chunks=lambda: chain((fields,), form.chunks()))


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
