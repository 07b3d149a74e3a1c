"""The ledger's file: one SQLite database in HOME/state, with a version of its own, written by all workers of a host.

Opening makes what is missing and brings an older version up to date in one transaction, whoever of several workers
comes first. A file that is something else, or that a later version of the program made, is left as it is.
Write-ahead logging lets commands read while workers write. With it, NORMAL syncs only now and then: the queue's disk is
not kept busy for history, and a power cut costs the last seconds of history at most.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "ledger.db"
BUSY_SECONDS = 5.0  # another worker's batch takes milliseconds
APPLICATION = 0x716D746C  # "qmtl", in SQLite's header

# One step for each version: what turns the version before it into this one. A step that was released never changes.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE clients (
 rule TEXT NOT NULL, certificate TEXT NOT NULL, identity TEXT NOT NULL, not_after INTEGER NOT NULL,
 first_seen REAL NOT NULL, last_seen REAL NOT NULL, address TEXT NOT NULL,
 messages INTEGER NOT NULL, octets INTEGER NOT NULL, PRIMARY KEY (rule, certificate)) WITHOUT ROWID""",
        """CREATE TABLE client_addresses (
 rule TEXT NOT NULL, certificate TEXT NOT NULL, address TEXT NOT NULL, last_seen REAL NOT NULL,
 messages INTEGER NOT NULL, PRIMARY KEY (rule, certificate, address)) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE tls_sessions (
 day INTEGER NOT NULL, domain TEXT NOT NULL, policy_type TEXT NOT NULL, policy_strings TEXT NOT NULL,
 mx_patterns TEXT NOT NULL, result TEXT NOT NULL, mx TEXT NOT NULL, sending_ip TEXT NOT NULL,
 receiving_ip TEXT NOT NULL, reason TEXT NOT NULL, sessions INTEGER NOT NULL,
 PRIMARY KEY (day, domain, policy_type, policy_strings, mx_patterns, result, mx, sending_ip, receiving_ip, reason)
 ) WITHOUT ROWID""",
        """CREATE TABLE tls_report_days (
 day INTEGER PRIMARY KEY, due REAL NOT NULL, claimed REAL NOT NULL, finished INTEGER NOT NULL)""",
        """CREATE TABLE tls_reports_done (
 day INTEGER NOT NULL, domain TEXT NOT NULL, PRIMARY KEY (day, domain)) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE tls_sessions RENAME TO tls_sessions_before",
        """CREATE TABLE tls_sessions (
 day INTEGER NOT NULL, domain TEXT NOT NULL, policy_type TEXT NOT NULL, policy_strings TEXT NOT NULL,
 mx_patterns TEXT NOT NULL, result TEXT NOT NULL, mx TEXT NOT NULL, helo TEXT NOT NULL, sending_ip TEXT NOT NULL,
 receiving_ip TEXT NOT NULL, reason TEXT NOT NULL, sessions INTEGER NOT NULL,
 PRIMARY KEY (day, domain, policy_type, policy_strings, mx_patterns, result, mx, helo, sending_ip, receiving_ip, reason)
 ) WITHOUT ROWID""",
        """INSERT INTO tls_sessions SELECT day, domain, policy_type, policy_strings, mx_patterns, result, mx, '',
 sending_ip, receiving_ip, reason, sessions FROM tls_sessions_before""",
        "DROP TABLE tls_sessions_before",
    ),
    (
        """CREATE TABLE handshakes (
 host TEXT NOT NULL, port INTEGER NOT NULL, time REAL NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL,
 met INTEGER NOT NULL, tls TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (host, port, time, address, domain)
 ) WITHOUT ROWID""",
        "CREATE INDEX handshakes_by_domain ON handshakes (domain, time)",
        "CREATE INDEX handshakes_by_time ON handshakes (time)",
    ),
)
VERSION = len(STEPS)


class LedgerError(Exception):
    """The ledger cannot be used; str() says why. `busy`: others are writing, it may work in a moment."""

    def __init__(self, why: str, *, busy: bool = False) -> None:
        super().__init__(why)
        self.busy = busy


def open_ledger(path: Path) -> sqlite3.Connection:
    """For writing; the file is made if there is none. Transactions are the caller's. LedgerError."""
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.Error as problem:
        raise ledger_error(path, problem) from problem
    try:
        if _seen_version(connection, path) < VERSION:
            _bring_up(connection, path)
        _log_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as problem:
        connection.close()
        raise ledger_error(path, problem) from problem
    except LedgerError:
        connection.close()
        raise
    return connection


def read_ledger(path: Path) -> sqlite3.Connection | None:
    """For reading only; None if there is no such file, or nothing in it yet. LedgerError."""
    if not path.exists():
        return None
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.Error as problem:
        raise ledger_error(path, problem) from problem
    try:
        version = _seen_version(connection, path)
        if version == VERSION:
            return connection
        if version:
            raise LedgerError(f"{path} was made by an earlier version; the service brings it up to date")
    except sqlite3.Error as problem:
        connection.close()
        raise ledger_error(path, problem) from problem
    except LedgerError:
        connection.close()
        raise
    connection.close()
    return None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside, or nothing of it; sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def ledger_error(path: Path, problem: sqlite3.Error) -> LedgerError:
    busy = getattr(problem, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return LedgerError(f"{path}: {problem}", busy=busy)


def _seen_version(connection: sqlite3.Connection, path: Path) -> int:
    """In a transaction of its own: another worker may be making the file at this moment."""
    connection.execute("BEGIN")
    try:
        return _version(connection, path)
    finally:
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """0 for an empty file; LedgerError for one that is not ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION and (application or version or tables):
        raise LedgerError(f"{path} is a database of another program; move it away")
    if version > VERSION:
        raise LedgerError(f"{path} was made by a later version of this program; use that one, or move the file away")
    return int(version)


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Entering it answers "busy" at once, whatever the time limit. Then another worker is just doing it."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise


def _bring_up(connection: sqlite3.Connection, path: Path) -> None:
    with transaction(connection):
        version = _version(connection, path)  # another worker may have been first
        for step in STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
