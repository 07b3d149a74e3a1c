"""What the last handshakes with a next hop's hosts showed, from the ledger.

Those of each host are always kept. Beside them there are the counts for TLS reports, while these are configured
(control/tlsrpt): how many sessions of today and yesterday met the domain's own policy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby

from qmtls.cli.history import ledger_of
from qmtls.cli.home import Home
from qmtls.cli.output import Row, local_time
from qmtls.ledger.handshakes import KEPT_SECONDS, Handshake, handshakes_for, handshakes_with
from qmtls.ledger.tlsresults import SessionCount, date_of, day_of, session_counts
from qmtls.tls.names import canonical
from qmtls.tls.resulttypes import TlsResult
from qmtls.wording import counted

DAYS = 2  # today and the day before, UTC
_WAITS = "; mail waits until then"  # said of that mail, at that time


def handshakes(home: Home, domain: str, hosts: Sequence[tuple[str, int]], now: float) -> list[Row]:
    """A row for each host and finding, the newest first, then one for each day and outcome.

    `hosts` are names (or IP addresses) and ports; if there are none, whatever hosts took mail to `domain`. CommandError
    if the ledger cannot be read.
    """
    with ledger_of(home) as ledger:
        if ledger is None:
            return []
        return [*_last(ledger, domain, hosts, now - KEPT_SECONDS), *_counts(ledger, domain, now)]


def _last(ledger: sqlite3.Connection, domain: str, hosts: Sequence[tuple[str, int]], since: float) -> Iterator[Row]:
    keys = [(canonical(host) or host, port) for host, port in hosts if host]
    found = handshakes_with(ledger, keys, since) if keys else handshakes_for(ledger, domain, since)
    for _, alike in groupby(found, lambda one: (one.host, one.port, one.address, one.domain, one.met, one.text)):
        yield _alike(domain, list(alike))


def _alike(domain: str, several: Sequence[Handshake]) -> Row:
    newest = several[0]
    return {
        "kind": "handshake",
        "domain": domain,
        "for": newest.domain,
        "host": newest.host,
        "port": newest.port,
        "address": newest.address,
        "times": len(several),
        "first": several[-1].time,
        "time": newest.time,
        "ok": newest.met,
        "tls": newest.tls,
        "text": newest.text.removesuffix(_WAITS),
    }


def _counts(ledger: sqlite3.Connection, domain: str, now: float) -> Iterator[Row]:
    today = day_of(now)
    for day in range(today, today - DAYS, -1):
        for count in session_counts(ledger, day, domain):
            yield _day(count, day)


def _day(count: SessionCount, day: int) -> Row:
    session = count.session
    return {
        "kind": "sessions",
        "domain": session.domain,
        "date": date_of(day).isoformat(),
        "policy": session.policy_type.value,
        "ok": session.result is TlsResult.SUCCESS,
        "result": session.result.value,
        "host": session.mx,
        "sessions": count.sessions,
        "text": session.reason,
    }


def handshake_text(row: Row) -> str:
    """One line of `qmtls policy explain`."""
    times, first, last = int(str(row["times"])), float(str(row["first"])), local_time(float(str(row["time"])))
    what = f"last handshake, {last}" if times == 1 else f"last {times} handshakes, {local_time(first)} to {last}"
    whose = f", for {row['for']}" if row["for"] != row["domain"] else ""
    tls = f", {row['tls']}" if row["tls"] else ""
    return f"  {what}{whose}{tls}: {row['text']}"


def sessions_text(row: Row) -> str:
    """Likewise, of the counts."""
    what = counted(int(str(row["sessions"])), "session")
    if row["ok"]:
        return f"  {row['date']}: {what} as its policy ({row['policy']}) demands"
    reason = f" ({row['text']})" if row["text"] else ""
    return f"  {row['date']}: {what} with {row['host'] or 'its hosts'} failed: {row['result']}{reason}"
