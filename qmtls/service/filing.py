"""How an attempt ends: its outcomes to log and disk, failures and wanted news to reports, the rest to what is due.

The order is what makes a crash harmless: first the reports are safe, then the log says who is done, and only then is
anything forgotten. A crash in between repeats a report or a delivery; it loses neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from random import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.control.settings import Settings
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.schedule import Lifetimes, expired, next_due
from qmtls.net.commit import Committer
from qmtls.net.ids import Ids
from qmtls.service.attempt import Attempt
from qmtls.service.reporting import Reporter
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Envelope
from qmtls.spool import api
from qmtls.spool.api import Filing, NotInSpool, Spool, SpoolError

NOTE_SECONDS = 1.0  # how long deliveries may go unrecorded while others of the same message are under way
REFILE_SECONDS = 30.0  # when the disk would not take the results
GIVING_UP = "; it has been in the queue too long, this was the last attempt"
UNMET_TOO_LONG = "; no connection has met that demand since {since}, too long a time, so this was the last attempt"

log = Logger()


@dataclass(frozen=True, slots=True)
class Registrar:
    """Ends attempts. `offer` takes a failure report as a new message, `waits` a message and its next time."""

    clock: Any  # for how long things take
    now: Callable[[], float]  # the time of day, Unix seconds
    committer: Committer
    ids: Ids
    settings: Callable[[], Settings]
    own_spool: Callable[[], Spool]
    offer: Callable[[Spool, str, Envelope, bytes], None]
    waits: Callable[[Attempt, float], None]
    finished: Callable[[Attempt], None]
    say: Callable[[str], None]
    is_mailbox: Callable[[Address], bool]  # for reports to aliases; True in doubt

    def settled_in_part(self, attempt: Attempt) -> None:
        """Some tasks are settled and others not: what is delivered is soon written down, so that a crash, while a slow
        host keeps the rest of the message waiting, does not deliver it again."""
        if attempt.note is None:
            attempt.note = self.clock.callLater(NOTE_SECONDS, self._note, attempt)

    def _note(self, attempt: Attempt) -> None:
        attempt.note = None
        # Who is to be told of a delivery, or of a failure, is told first; that happens at the end.
        done = tuple(i for i, o in attempt.outcomes.items() if o.leaves_nothing and i not in attempt.noted)
        if not done or attempt.noting is not None:
            return
        attempt.tried = True  # from now on it has a log
        now = self.now()
        attempt.noting = self.committer.record(attempt.spool, Filing(attempt.id, api.Attempt(now, done=done), now))
        attempt.noting.addCallbacks(lambda _: attempt.noted.update(done), self._not_noted, errbackArgs=(attempt,))
        attempt.noting.addBoth(lambda _: self._note_ended(attempt))

    def _not_noted(self, failure: Failure, attempt: Attempt) -> None:
        """It is written at the end of the attempt, if the disk takes it then."""
        self.say(f"queue trouble id={attempt.id} error={failure.value}")

    def _note_ended(self, attempt: Attempt) -> None:
        attempt.noting = None
        if attempt.open_tasks == 0:
            self.close(attempt)

    def close(self, attempt: Attempt) -> None:
        """All tasks of `attempt` are settled."""
        if attempt.note is not None:
            attempt.note.cancel()
            attempt.note = None
        if attempt.noting is not None:
            return  # its end comes back here
        _age(attempt, self.settings(), self.now())
        if attempt.envelope is not None:
            self._log_all(attempt)
            self._end(attempt)
            return
        # It waited in line, where memory is short; the log names who it is for all the same.
        reading: Deferred[Any] = self.committer.run(attempt.load_envelope)
        reading.addBoth(lambda _: self._named(attempt))
        reading.addErrback(self._broke, attempt)

    def _named(self, attempt: Attempt) -> None:
        self._log_all(attempt)
        attempt.forget()
        self._end(attempt)

    def _end(self, attempt: Attempt) -> None:
        if not attempt.tried and all(outcome.leaves_nothing for outcome in attempt.outcomes.values()):
            self.finished(attempt)
            return
        filing = Deferred.fromCoroutine(self._file(attempt))
        filing.addErrback(self._broke, attempt)

    def _broke(self, failure: Failure, attempt: Attempt) -> None:
        """A fault of ours: nothing was filed, so the message is as it was."""
        log.failure("filing {id}", failure=failure, id=attempt.id)
        self.waits(attempt, self.now() + REFILE_SECONDS)

    async def _file(self, attempt: Attempt) -> None:
        now = self.now()
        reporter = Reporter(self.committer, self.ids, self.own_spool, self.offer, self.say, self.is_mailbox)
        ending = _Ending(attempt, self.settings(), now, reporter)
        own = next_due(attempt.arrived, now, random())
        due = min((outcome.look or own for outcome in ending.waiting.values()), default=own)
        while True:
            try:
                await ending.tell()
                if all(o.fate is Fate.HELD for o in ending.waiting.values()):
                    due = now  # which they are as soon as their rule goes
                while ending.entries:
                    await self.committer.record(attempt.spool, Filing(attempt.id, ending.entries[0], due))
                    del ending.entries[0]
                break
            except NotInSpool:  # somebody removed it: nobody need be told, nothing can be filed
                ending.waiting = {}
                break
            except SpoolError as problem:
                self.say(f"queue trouble id={attempt.id} error={problem} again={REFILE_SECONDS:.0f}s")
                await self._sleep(REFILE_SECONDS)
        if ending.waiting:
            self.waits(attempt, due)
        else:
            self.finished(attempt)

    def _sleep(self, seconds: float) -> Deferred[None]:
        waking: Deferred[None] = Deferred()
        self.clock.callLater(seconds, waking.callback, None)
        return waking

    def _log_all(self, attempt: Attempt) -> None:
        for index, outcome in attempt.outcomes.items():
            self._log(attempt, index, outcome)

    def _log(self, attempt: Attempt, index: int, outcome: Outcome) -> None:
        envelope = attempt.envelope
        # Without a name only if the disk does not give it.
        to = f"to=<{envelope.recipients[index].address}>" if envelope is not None else f"recipient={index}"
        delay = self.now() - attempt.arrived
        host = f' host="{outcome.host}"' if outcome.host else ""
        tls = f' tls="{outcome.tls}"' if outcome.tls else ""
        status = f" status={outcome.status}" if outcome.status else ""
        self.say(
            f'{outcome.fate.value} id={attempt.id} {to}{host}{tls}{status} delay={delay:.1f} reason="{outcome.reason}"'
        )


class _Ending:
    """Who is told what, each once however often the disk refuses, and then what is to be filed."""

    __slots__ = (
        "_attempt",
        "_failed",
        "_late",
        "_news",
        "_now",
        "_reporter",
        "_settings",
        "_told",
        "entries",
        "waiting",
    )

    def __init__(self, attempt: Attempt, settings: Settings, now: float, reporter: Reporter) -> None:
        self._attempt, self._settings, self._now, self._reporter = attempt, settings, now, reporter
        outcomes = attempt.outcomes.items()
        self._failed = {i: o for i, o in outcomes if o.fate is Fate.FAILED}
        self.waiting = {i: o for i, o in outcomes if o.fate in (Fate.DEFERRED, Fate.HELD)}
        self._news = {i: o for i, o in outcomes if o.notice is not None}
        self._late = 0 < settings.delay_warn <= now - attempt.arrived
        self._told = False
        self.entries: list[api.Attempt] = []  # for its log, in this order

    async def tell(self) -> None:
        """Returns when all reports are safe. Raises SpoolError, then to be called again, and NotInSpool."""
        if self.entries:
            return
        attempt, settings, now, reporter = self._attempt, self._settings, self._now, self._reporter
        failed = self._failed
        if failed and not self._told and not await _safe(attempt, reporter.failures(attempt, failed, settings, now)):
            self.waiting |= failed
            failed.clear()
        self._told = True
        if self._news:
            # What is delivered stays delivered, even if a fault of ours keeps the news from the sender.
            await _safe(attempt, reporter.successes(attempt, self._news, settings, now))
            self._news = {}
        late = self._to_be_warned_of()
        if late and await _safe(attempt, reporter.delays(attempt, late, settings, now)):
            unmet = tuple(i for i, o in late.items() if o.unmet)
            attempt.warned, attempt.warned_unmet = True, attempt.warned_unmet or bool(unmet)
            self.entries.append(api.Attempt(now, event=api.DELAY, unmet=unmet))
        if self.waiting:
            self.entries.append(_entry(now, attempt.outcomes, failed, self.waiting))

    def _to_be_warned_of(self) -> dict[int, Outcome]:
        """Each sender is warned once, and once more if it is for TLS that the message waits now."""
        attempt = self._attempt
        if not self._late or attempt.warned_unmet:
            return {}
        late = {i: o for i, o in self.waiting.items() if o.fate is Fate.DEFERRED}
        return {i: o for i, o in late.items() if o.unmet} if attempt.warned else late


async def _safe(attempt: Attempt, reporting: Awaitable[bool | None]) -> bool:
    """True once the report is safe. False: nobody was told, or a fault of ours made it impossible.

    Raises SpoolError and NotInSpool.
    """
    try:
        return await reporting is not False
    except (SpoolError, NotInSpool):
        raise
    except Exception:
        log.failure("reporting on {id}", id=attempt.id)
        return False


def _entry(
    now: float, outcomes: dict[int, Outcome], failed: dict[int, Outcome], waiting: dict[int, Outcome]
) -> api.Attempt:
    return api.Attempt(
        time=now,
        done=tuple(i for i, o in outcomes.items() if o.fate is Fate.DELIVERED),
        failed=tuple(failed),
        deferred=tuple(waiting),
        reasons=tuple((i, o.reason) for i, o in (*failed.items(), *waiting.items())),
        unmet=tuple(i for i, o in waiting.items() if o.unmet),
    )


def _age(attempt: Attempt, settings: Settings, now: float) -> None:
    """Who waited too long has failed; and whose TLS demand is not met, learns since when."""
    lifetimes = Lifetimes(settings.queue_lifetime, settings.policy_lifetime)
    for index, outcome in attempt.outcomes.items():
        if outcome.fate is Fate.DEFERRED:
            dated = _dated(outcome, attempt.unmet_since.get(index, now))
            attempt.outcomes[index] = _last(dated) if expired(attempt.arrived, now, lifetimes.of(dated)) else dated


def _dated(outcome: Outcome, since: float) -> Outcome:
    """Since when its demand has not been met, if that is why it waits."""
    return replace(outcome, since=since) if outcome.unmet else outcome


def _last(outcome: Outcome) -> Outcome:
    why = UNMET_TOO_LONG.format(since=formatdate(outcome.since)) if outcome.unmet else GIVING_UP
    return replace(outcome, fate=Fate.FAILED, reason=outcome.reason + why)
