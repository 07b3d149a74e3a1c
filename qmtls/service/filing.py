"""How an attempt ends: its outcomes to log and disk, failures to a report, the rest to the list of what is due.

The order is what makes a crash harmless: first the failure report is safe, then the log says who is done, and
only then is anything forgotten. A crash in between repeats a report or a delivery; it loses neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.control.settings import Settings
from qmtls.delivery.dsn import FailureReport, compose, double_bounce, is_double_bounce
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.schedule import expired, next_due
from qmtls.net.commit import Committer
from qmtls.net.ids import Ids
from qmtls.service.attempt import Attempt
from qmtls.smtp.envelope import Envelope
from qmtls.spool import api
from qmtls.spool.api import Filing, NotInSpool, Spool, SpoolError

REFILE_SECONDS = 30.0  # when the disk would not take the results
GIVING_UP = "; it has been in the queue too long, this was the last attempt"
RETURNED_OCTETS = 64 * 1024  # of the original's content handed to the report

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

    def close(self, attempt: Attempt) -> None:
        """All tasks of `attempt` are settled."""
        outcomes = attempt.outcomes
        for index, outcome in outcomes.items():
            self._log(attempt, index, outcome)
        if not attempt.tried and all(o.fate is Fate.DELIVERED for o in outcomes.values()):
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
        settings = self.settings()
        if expired(attempt.arrived, now, settings.queue_lifetime):
            attempt.outcomes = {i: _last(o) for i, o in attempt.outcomes.items()}
        failed = {i: o for i, o in attempt.outcomes.items() if o.fate is Fate.FAILED}
        waiting = {i: o for i, o in attempt.outcomes.items() if o.fate is Fate.DEFERRED}
        due = next_due(attempt.arrived, now, random())
        told = not failed
        while True:
            try:
                if not told and not await self._tell(attempt, failed, settings, now):
                    failed, waiting = {}, {**waiting, **failed}
                told = True
                if waiting:
                    entry = _entry(now, attempt.outcomes, failed, waiting)
                    await self.committer.record(attempt.spool, Filing(attempt.id, entry, due))
                break
            except NotInSpool:  # somebody removed it: nobody need be told, nothing can be filed
                waiting = {}
                break
            except SpoolError as problem:
                self.say(f"queue trouble id={attempt.id} error={problem} again={REFILE_SECONDS:.0f}s")
                await self._sleep(REFILE_SECONDS)
        if waiting:
            self.waits(attempt, due)
        else:
            self.finished(attempt)

    def _sleep(self, seconds: float) -> Deferred[None]:
        waking: Deferred[None] = Deferred()
        self.clock.callLater(seconds, waking.callback, None)
        return waking

    async def _tell(self, attempt: Attempt, failed: dict[int, Outcome], settings: Settings, now: float) -> bool:
        """True once the report is safe. False: a fault of ours made it impossible, so nobody has failed yet."""
        try:
            await self._report(attempt, failed, settings, now)
        except (SpoolError, NotInSpool):
            raise
        except Exception:
            log.failure("reporting on {id}", id=attempt.id)
            return False
        return True

    async def _report(self, attempt: Attempt, failed: dict[int, Outcome], settings: Settings, now: float) -> None:
        """The failure report, safe in the queue; nothing for a report of a report of a report."""
        envelope, head, cut = await self.committer.run(lambda: _original(attempt))
        report = FailureReport(
            me=settings.me,
            bounce_from=settings.bounce_from,
            bounce_host=settings.bounce_host,
            id=self.ids.next(),
            now=now,
            envelope=envelope,
            original_id=attempt.id,
            content=head,
            cut=cut,
            failures=tuple((envelope.recipients[i].address, o) for i, o in sorted(failed.items())),
        )
        if envelope.reverse_path is not None and not is_double_bounce(envelope):
            made = compose(report)
        elif envelope.reverse_path is None:
            made = double_bounce(report, settings.double_bounce_to, settings.double_bounce_host)
        else:
            self.say(f"discarded id={attempt.id} reason=a report of a report could not be delivered")
            return
        spool = self.own_spool()
        incoming = spool.begin(report.id, made[0])
        incoming.write(made[1])
        await self.committer.commit(spool, incoming)
        self.say(f"report id={report.id} about={attempt.id} to=<{made[0].recipients[0].address}>")
        self.offer(spool, report.id, made[0], made[1])

    def _log(self, attempt: Attempt, index: int, outcome: Outcome) -> None:
        envelope = attempt.envelope
        to = str(envelope.recipients[index].address) if envelope is not None else f"#{index}"
        delay = self.now() - attempt.arrived
        host = f' host="{outcome.host}"' if outcome.host else ""
        tls = f' tls="{outcome.tls}"' if outcome.tls else ""
        status = f" status={outcome.status}" if outcome.status else ""
        self.say(
            f"{outcome.fate.value} id={attempt.id} to=<{to}>{host}{tls}{status} delay={delay:.1f} "
            f'reason="{outcome.reason}"'
        )


def _entry(
    now: float, outcomes: dict[int, Outcome], failed: dict[int, Outcome], waiting: dict[int, Outcome]
) -> api.Attempt:
    return api.Attempt(
        time=now,
        done=tuple(i for i, o in outcomes.items() if o.fate is Fate.DELIVERED),
        failed=tuple(failed),
        deferred=tuple(waiting),
        reasons=tuple((i, o.reason) for i, o in (*failed.items(), *waiting.items())),
    )


def _last(outcome: Outcome) -> Outcome:
    if outcome.fate is not Fate.DEFERRED:
        return outcome
    return replace(outcome, fate=Fate.FAILED, reason=outcome.reason + GIVING_UP)


def _original(attempt: Attempt) -> tuple[Envelope, bytes, bool]:
    """Blocking: envelope and the beginning of the content; True if there is more of it."""
    attempt.load()
    assert attempt.envelope is not None
    gathered = b""
    for chunk in attempt.chunks():
        gathered += chunk
        if len(gathered) > RETURNED_OCTETS:
            return attempt.envelope, gathered[:RETURNED_OCTETS], True
    return attempt.envelope, gathered, False
