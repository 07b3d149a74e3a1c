"""Reports as new messages: composed, safe in the queue, and on their way.

Who is told: of a failure everybody who did not say otherwise, the postmaster where there is no sender; of a delivery
who asked for it (RFC 3461 section 4.1); of a delay the sender, if it was no list. A report of a report of a report is
told to nobody, and the log says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from qmtls.control.settings import Settings
from qmtls.delivery import dsn, qsbmf
from qmtls.delivery.dsn import Report, delay, is_double_bounce, success
from qmtls.delivery.notify import DELAY, FAILURE, is_from_a_list, wants
from qmtls.delivery.outcome import Outcome
from qmtls.delivery.schedule import Lifetimes
from qmtls.net.commit import Committer
from qmtls.net.ids import Ids
from qmtls.service.attempt import Attempt
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Envelope, Recipient
from qmtls.spool.api import Spool

RETURNED_OCTETS = 64 * 1024  # of the original's content handed to the report


@dataclass(frozen=True, slots=True)
class Reporter:
    """Each method returns when its report is safe. Raises NotInSpool, Malformed or SpoolError."""

    committer: Committer
    ids: Ids
    own_spool: Callable[[], Spool]
    offer: Callable[[Spool, str, Envelope, bytes], None]
    say: Callable[[str], None]
    is_mailbox: Callable[[Address], bool]

    async def failures(self, attempt: Attempt, failed: Mapping[int, Outcome], settings: Settings, now: float) -> None:
        """To the sender; to the postmaster if there is none."""
        report = await self._about(attempt, failed, settings, now)
        wanted = tuple(each for each in report.about if wants(each[0], FAILURE))
        if not wanted:
            self.say(f"no report about={attempt.id} reason=the sender wants none of a failure")
            return
        report = replace(report, about=wanted)
        style = qsbmf if settings.bounce_style == "qsbmf" else dsn
        if is_double_bounce(report.envelope):
            self.say(f"discarded id={attempt.id} reason=a report of a report could not be delivered")
        elif report.envelope.reverse_path is None:
            made = style.double_bounce(report, settings.double_bounce_to, settings.double_bounce_host)
            await self._store("report", report, made, settings)
        else:
            await self._store("report", report, style.compose(report), settings)

    async def successes(self, attempt: Attempt, told: Mapping[int, Outcome], settings: Settings, now: float) -> None:
        """To the sender, of the outcomes `told`, each of which has a notice."""
        report = await self._about(attempt, told, settings, now)
        await self._store("notice", report, success(report), settings)

    async def delays(self, attempt: Attempt, waiting: Mapping[int, Outcome], settings: Settings, now: float) -> bool:
        """To the sender, who still waits. False: nobody is to be told."""
        envelope = attempt.envelope
        if envelope is not None and (envelope.reverse_path is None or is_double_bounce(envelope)):
            return False
        report = await self._about(attempt, waiting, settings, now)
        wanted = tuple(each for each in report.about if wants(each[0], DELAY))
        if report.envelope.reverse_path is None or is_double_bounce(report.envelope) or not wanted:
            return False
        if is_from_a_list(report.content):
            return False
        report = replace(report, about=wanted)
        await self._store("warning", report, delay(report), settings)
        return True

    async def _about(self, attempt: Attempt, told: Mapping[int, Outcome], settings: Settings, now: float) -> Report:
        envelope, head, cut = await self.committer.run(lambda: _original(attempt))
        return Report(
            me=settings.me,
            bounce_from=settings.bounce_from,
            bounce_host=settings.bounce_host,
            id=self.ids.next(),
            now=now,
            envelope=envelope,
            original_id=attempt.id,
            content=head,
            cut=cut,
            about=tuple((envelope.recipients[i], o) for i, o in sorted(told.items())),
            lifetimes=Lifetimes(settings.queue_lifetime, settings.policy_lifetime),
        )

    async def _store(self, kind: str, report: Report, made: tuple[Envelope, bytes], settings: Settings) -> None:
        envelope, content = made
        to = envelope.recipients[0].address
        paths = settings.recipients.expand(to, self.is_mailbox)
        if paths != (to,):  # who wrote, or the postmaster, is an alias here
            envelope = replace(envelope, recipients=tuple(Recipient(path) for path in paths))
        spool = self.own_spool()
        incoming = spool.begin(report.id, envelope)
        incoming.write(content)
        await self.committer.commit(spool, incoming)
        self.say(f"{kind} id={report.id} about={report.original_id} to=<{to}>")
        self.offer(spool, report.id, envelope, content)


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
