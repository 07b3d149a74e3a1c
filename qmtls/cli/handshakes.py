"""What the last TLS sessions with a domain's hosts showed, from the ledger's counts.

They are kept while TLS reports are configured (control/tlsrpt); without them there is nothing to say.
"""

from __future__ import annotations

from qmtls.cli.history import ledger_of
from qmtls.cli.home import Home
from qmtls.cli.output import Row
from qmtls.ledger.tlsresults import SessionCount, date_of, day_of, session_counts
from qmtls.tls.resulttypes import TlsResult
from qmtls.wording import counted

DAYS = 2  # today and the day before, UTC


def handshakes(home: Home, domain: str, now: float) -> list[Row]:
    """A row for each day and outcome, the latest day first. CommandError if the ledger cannot be read."""
    today = day_of(now)
    with ledger_of(home) as ledger:
        if ledger is None:
            return []
        days = range(today, today - DAYS, -1)
        return [_row(count, day) for day in days for count in session_counts(ledger, day, domain)]


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
    what = counted(int(str(row["sessions"])), "session")
    if row["ok"]:
        return f"  {row['date']}: {what} as its policy ({row['policy']}) demands"
    reason = f" ({row['text']})" if row["text"] else ""
    return f"  {row['date']}: {what} with {row['host'] or 'its hosts'} failed: {row['result']}{reason}"
