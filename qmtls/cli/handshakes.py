"""What the last TLS sessions with a domain's hosts showed, from the ledger's counts.

They are kept while TLS reports are configured (control/tlsrpt); without them there is nothing to say.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from qmtls.cli.home import Home
from qmtls.cli.output import CommandError, Row
from qmtls.cli.owner import as_owner_of
from qmtls.ledger.schema import FILE, LedgerError, read_ledger
from qmtls.ledger.tlsresults import SessionCount, date_of, day_of, session_counts
from qmtls.tls.resulttypes import TlsResult

DAYS = 2  # today and the day before, UTC


def handshakes(home: Home, domain: str, now: float) -> Iterator[Row]:
    """A row for each day and outcome, the latest day first. CommandError if the ledger cannot be read."""
    path = home.state / FILE
    try:
        with as_owner_of(home.state):
            connection = read_ledger(path)
            if connection is None:
                return
            try:
                for day in range(day_of(now), day_of(now) - DAYS, -1):
                    yield from (_row(count, day) for count in session_counts(connection, day, domain))
            finally:
                connection.close()
    except (LedgerError, OSError, sqlite3.Error) as problem:
        raise CommandError(f"{path}: {problem}") from None


def _row(count: SessionCount, day: int) -> Row:
    session = count.session
    return {
        "kind": "handshakes",
        "domain": session.domain,
        "date": date_of(day).isoformat(),
        "policy": session.policy_type.value,
        "ok": session.result is TlsResult.SUCCESS,
        "result": session.result.value,
        "host": session.mx,
        "sessions": count.sessions,
        "text": session.reason,
    }


def handshakes_text(row: Row) -> str:
    """One line of `qmtls policy explain`."""
    count = int(str(row["sessions"]))
    what = f"{count} session{'s' if count != 1 else ''}"
    if row["ok"]:
        return f"  {row['date']}: {what} as its policy ({row['policy']}) demands"
    reason = f" ({row['text']})" if row["text"] else ""
    return f"  {row['date']}: {what} with {row['host'] or 'its hosts'} failed: {row['result']}{reason}"
