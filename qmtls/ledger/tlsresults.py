"""Counts of outbound TLS sessions by domain and day (UTC), for TLS reports (RFC 8460), and which reports are done.

Sessions are summed up before they are written (`SessionSums`). Of good ones only the number is kept, of others also
which hosts they were between. Counts are forgotten after KEPT_DAYS. A day's reports are the work of one process: it
claims the day, and holds the claim by renewing it; of one that ends without having finished, another takes it over.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from qmtls.ledger.schema import transaction
from qmtls.tls.results import MAX_REASON, TlsSession
from qmtls.tls.resulttypes import PolicyType, TlsResult

DAY = 86_400
KEPT_DAYS = 30
SENT_DAYS = 2  # how long after its end a day's reports are tried
CLAIM_SECONDS = 3600.0  # after which a claim that was not renewed is nobody's; what failed is tried again then
MAX_POLICY_TEXT = 8192  # characters of one policy's strings
EPOCH = date(1970, 1, 1)

_ADD = """INSERT INTO tls_sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
 sessions = sessions + excluded.sessions"""


@dataclass(frozen=True, slots=True)
class SessionCount:
    """Sessions of one day that are alike. Hosts and reason are "" for good ones."""

    session: TlsSession
    sessions: int


def day_of(time: float) -> int:
    """Days since 1970, UTC."""
    return int(time // DAY)


def date_of(day: int) -> date:
    return EPOCH + timedelta(days=day)


def day_number(text: str) -> int:
    """Of "2026-11-22". ValueError."""
    return (datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date() - EPOCH).days


# ------------------------------------------------------------ counting


class SessionSums:
    """What was counted and is not written yet: `most` different ones."""

    __slots__ = ("_most", "_sums", "lost")

    def __init__(self, most: int) -> None:
        self._most = most
        self._sums: dict[tuple[int, TlsSession], int] = {}
        self.lost = 0  # sessions that there was no room for

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, session: TlsSession, day: int) -> None:
        self._add((day, session), 1)

    def put_back(self, older: SessionSums) -> None:
        """What could not be written counts again, as far as there is room."""
        self.lost += older.lost
        for key, count in older._sums.items():
            self._add(key, count)

    def _add(self, key: tuple[int, TlsSession], count: int) -> None:
        if key in self._sums:
            self._sums[key] += count
        elif len(self._sums) < self._most:
            self._sums[key] = count
        else:
            self.lost += count

    def _rows(self) -> Iterator[tuple[object, ...]]:
        for (day, session), count in self._sums.items():
            yield (day, *_columns(session), count)


def _columns(session: TlsSession) -> tuple[str, ...]:
    where = (session.mx, session.helo, session.sending_ip, session.receiving_ip, session.reason[:MAX_REASON])
    return (
        session.domain,
        session.policy_type.value,
        json.dumps(_bounded(session.policy_strings)),
        json.dumps(_bounded(session.mx_patterns)),
        session.result.value,
        *(("", "", "", "", "") if session.result is TlsResult.SUCCESS else where),
    )


def _bounded(strings: Sequence[str]) -> list[str]:
    """The first of them, as far as there is room: whoever writes a policy writes as much as he likes."""
    kept, room = [], MAX_POLICY_TEXT
    for text in strings:
        room -= len(text)
        if room < 0:
            break
        kept.append(text)
    return kept


def write_sessions(connection: sqlite3.Connection, sums: SessionSums) -> None:
    """All of them or none; sqlite3.Error."""
    with transaction(connection):
        connection.executemany(_ADD, sums._rows())


def forget_sessions(connection: sqlite3.Connection, now: float) -> None:
    """Removes counts of KEPT_DAYS ago; sqlite3.Error."""
    for table in ("tls_sessions", "tls_report_days", "tls_reports_done"):
        connection.execute(f"DELETE FROM {table} WHERE day < ?", (day_of(now) - KEPT_DAYS,))


def session_counts(connection: sqlite3.Connection, day: int, domain: str) -> list[SessionCount]:
    """In the order of policies and results; sqlite3.Error."""
    rows = connection.execute(
        "SELECT policy_type, policy_strings, mx_patterns, result, mx, helo, sending_ip, receiving_ip, reason, sessions"
        " FROM tls_sessions WHERE day = ? AND domain = ? ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9",
        (day, domain),
    )
    return [
        SessionCount(
            TlsSession(
                domain,
                PolicyType(kind),
                tuple(json.loads(strings)),
                mx,
                sending,
                receiving,
                TlsResult(result),
                tuple(json.loads(patterns)),
                reason,
                helo,
            ),
            count,
        )
        for kind, strings, patterns, result, mx, helo, sending, receiving, reason, count in rows
    ]


# ------------------------------------------------------------ whose turn it is


def claim_day(connection: sqlite3.Connection, now: float, delay: float) -> int | None:
    """A day that is over and whose reports are due: from now on it is ours. None = there is none. sqlite3.Error.

    `delay` is how many seconds after a day's end its reports are due; for each day the first one who asks decides.
    """
    today = day_of(now)
    connection.execute(
        "INSERT OR IGNORE INTO tls_report_days SELECT DISTINCT day, (day + 1) * ? + ?, 0, 0 FROM tls_sessions"
        " WHERE day < ? AND day >= ?",
        (DAY, delay, today, today - SENT_DAYS),
    )
    for (day,) in connection.execute(
        "SELECT day FROM tls_report_days WHERE finished = 0 AND due <= ? AND day >= ? ORDER BY day",
        (now, today - SENT_DAYS),
    ).fetchall():
        if _claim(connection, day, now):
            return int(day)
    return None


def claim_this_day(connection: sqlite3.Connection, day: int, now: float) -> bool:
    """`day`, due or not, finished or not. False: somebody else is at it. sqlite3.Error."""
    connection.execute("INSERT OR IGNORE INTO tls_report_days VALUES (?, 0, 0, 0)", (day,))
    return _claim(connection, day, now)


def _claim(connection: sqlite3.Connection, day: int, now: float) -> bool:
    taken = connection.execute(
        "UPDATE tls_report_days SET claimed = ? WHERE day = ? AND (claimed <= ? OR claimed > ?)",
        (now, day, now - CLAIM_SECONDS, now + CLAIM_SECONDS),  # a claim from the future: the clock was set back
    )
    return taken.rowcount == 1


def renew_claim(connection: sqlite3.Connection, day: int, now: float) -> None:
    """We are still at it; sqlite3.Error."""
    connection.execute("UPDATE tls_report_days SET claimed = ? WHERE day = ?", (now, day))


def end_claim(connection: sqlite3.Connection, day: int, *, finished: bool) -> None:
    """Of what is not finished anybody may try the rest, at once. sqlite3.Error."""
    connection.execute("UPDATE tls_report_days SET finished = ?, claimed = 0 WHERE day = ?", (int(finished), day))


def domains_to_report(connection: sqlite3.Connection, day: int) -> list[str]:
    """Those with sessions on `day` whose report is not done; sqlite3.Error."""
    rows = connection.execute(
        "SELECT DISTINCT domain FROM tls_sessions WHERE day = ? AND domain NOT IN"
        " (SELECT domain FROM tls_reports_done WHERE day = ?) ORDER BY domain",
        (day, day),
    )
    return [domain for (domain,) in rows]


def report_done(connection: sqlite3.Connection, day: int, domain: str) -> None:
    """It is sent, or nobody wants it; sqlite3.Error."""
    connection.execute("INSERT OR IGNORE INTO tls_reports_done VALUES (?, ?)", (day, domain))


def forget_done(connection: sqlite3.Connection, day: int) -> None:
    """The reports of `day` are to be sent once more; sqlite3.Error."""
    connection.execute("DELETE FROM tls_reports_done WHERE day = ?", (day,))
