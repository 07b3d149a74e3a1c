"""TLS reports once a day (RFC 8460): who wants them, and on their way.

A day's reports are due some time in the first hours after its end (UTC), at another time on each host, so that
reporters do not all come at once. Of all workers of a host one makes them: the ledger says whose turn it is. What could
not be sent is tried again for two days. Nothing here ever keeps mail waiting.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from qmtls.control.settings import Settings
from qmtls.delivery.tlsreport import (
    MEDIA_TYPE,
    Occasion,
    Reporting,
    Wanted,
    compressed,
    read_record,
    report_json,
    report_mail,
)
from qmtls.ledger.schema import LedgerError, open_ledger
from qmtls.ledger.tlsresults import (
    claim_day,
    date_of,
    domains_to_report,
    end_claim,
    forget_sessions,
    renew_claim,
    report_done,
    session_counts,
)
from qmtls.net.channel import OffReactor
from qmtls.net.httpsline import HttpsTrouble
from qmtls.net.resolver import DnsTrouble
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import SpoolError

LEAST_DELAY, MOST_DELAY = 300.0, 4 * 3600.0  # seconds after the end of a day
AT_ONCE = 10  # domains that are asked for at the same time: one that hangs must not hold up all

T = TypeVar("T")
log = Logger()


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where reports go: `txt` raises DnsTrouble, `post` (URL, octets, media type) HttpsTrouble, `mail` (id, envelope,
    content) SpoolError."""

    txt: Callable[[str], Awaitable[tuple[bytes, ...]]]
    post: Callable[[str, bytes, str], Awaitable[None]]
    mail: Callable[[str, Envelope, bytes], Awaitable[None]]


class Sender:
    """Sends the reports of one day. `path` is the ledger's."""

    def __init__(
        self,
        path: Path,
        outlets: Outlets,
        off_reactor: OffReactor,
        next_id: Callable[[], str],
        say: Callable[[str], None],
    ) -> None:
        self._path = path
        self._outlets = outlets
        self._off_reactor = off_reactor
        self._next_id = next_id
        self._say = say
        self.stopping = False
        self.sent = 0  # reports, one for each address

    def ledger(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """Off the reactor, with a connection of its own. LedgerError, sqlite3.Error, OSError."""

        def act() -> T:
            connection = open_ledger(self._path)
            try:
                return work(connection)
            finally:
                connection.close()

        return self._off_reactor(act)

    async def send(self, day: int, by: Reporting, me: str, now: Callable[[], float]) -> bool:
        """All reports of a day that is claimed; True if nothing is left to do. What `ledger` raises."""
        domains = await self.ledger(lambda connection: domains_to_report(connection, day))
        left = False
        while domains and not self.stopping:
            batch, domains = domains[:AT_ONCE], domains[AT_ONCE:]
            occasions = [Occasion(domain, day, me, self._next_id(), now()) for domain in batch]
            done = await gatherResults([Deferred.fromCoroutine(self._domain(by, each)) for each in occasions])
            left = left or not all(done)
            await self.ledger(lambda connection: renew_claim(connection, day, now()))
        return not left and not domains

    async def _domain(self, by: Reporting, occasion: Occasion) -> bool:
        """One report; True if it is sent, or nobody wants it."""
        try:
            wanted = read_record(await self._outlets.txt(f"_smtp._tls.{occasion.domain}"))
            if wanted and not await self._report(by, occasion, wanted):
                return False
            await self.ledger(lambda connection: report_done(connection, occasion.day, occasion.domain))
        except DnsTrouble as trouble:
            self._not_sent(occasion, "", str(trouble))
            return False
        except Exception:
            log.failure("a TLS report about {domain}", domain=occasion.domain)
            return False
        return True

    async def _report(self, by: Reporting, occasion: Occasion, wanted: Wanted) -> bool:
        """To all addresses; True if one of them took it (RFC 8460 section 3)."""
        counts = await self.ledger(lambda connection: session_counts(connection, occasion.day, occasion.domain))
        octets = compressed(report_json(by, occasion, counts))
        taken = [await self._post(occasion, url, octets) for url in wanted.https]
        taken += [await self._mail(by, occasion, to, octets) for to in wanted.mail]
        return any(taken)

    async def _post(self, occasion: Occasion, url: str, octets: bytes) -> bool:
        try:
            await self._outlets.post(url, octets, MEDIA_TYPE)
        except HttpsTrouble as trouble:
            self._not_sent(occasion, url, str(trouble))
            return False
        self._told(occasion, url)
        return True

    async def _mail(self, by: Reporting, occasion: Occasion, to: Address, octets: bytes) -> bool:
        id = self._next_id()
        envelope, content = report_mail(by, occasion, to, octets, id)
        try:
            await self._outlets.mail(id, envelope, content)
        except SpoolError as problem:
            self._not_sent(occasion, f"<{to}>", str(problem))
            return False
        self._told(occasion, f"<{to}> id={id}")
        return True

    def _told(self, occasion: Occasion, to: str) -> None:
        self.sent += 1
        self._say(f"tls report day={date_of(occasion.day)} domain={occasion.domain} to={to}")

    def _not_sent(self, occasion: Occasion, to: str, why: str) -> None:
        where = f" to={to}" if to else ""
        self._say(f"tls report not sent day={date_of(occasion.day)} domain={occasion.domain}{where} reason={why}")


class TlsReports:
    """`look` now and then: if a day's reports are due and nobody makes them, they are made."""

    def __init__(
        self, sender: Sender, settings: Callable[[], Settings], now: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self._sender = sender
        self._settings = settings
        self._now = now
        # Drawn once: each look offers the same time, so many looks do not make it earlier.
        self._delay = LEAST_DELAY + chance() * (MOST_DELAY - LEAST_DELAY)
        self._busy = False

    def look(self) -> None:
        """Never fails, never waits."""
        by = self._settings().tls_reports
        if by is None or self._busy or self._sender.stopping:
            return
        self._busy = True
        working = Deferred.fromCoroutine(self._work(by))
        working.addErrback(lambda failure: log.failure("TLS reports", failure=failure))
        working.addBoth(self._rest)

    def stop(self) -> None:
        """What is not begun is left to another worker, or to the next start."""
        self._sender.stopping = True

    def _rest(self, _: object) -> None:
        self._busy = False

    async def _work(self, by: Reporting) -> None:
        sender, me = self._sender, self._settings().me

        def claim(connection: sqlite3.Connection) -> int | None:
            forget_sessions(connection, self._now())
            return claim_day(connection, self._now(), self._delay)

        try:
            day = await sender.ledger(claim)
            # What is left of a day is tried again when the claim has run out.
            if day is not None and await sender.send(day, by, me, self._now):
                await sender.ledger(lambda connection: end_claim(connection, day, finished=True))
        except (LedgerError, sqlite3.Error, OSError):
            return  # the ledger's own thread says what is wrong with it
