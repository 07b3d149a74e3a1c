"""Counts of TLS sessions, and whose turn it is to report them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qmtls.ledger import schema
from qmtls.ledger.schema import STEPS, open_ledger
from qmtls.ledger.tlsresults import (
    CLAIM_SECONDS,
    DAY,
    KEPT_DAYS,
    MAX_POLICY_TEXT,
    SessionCount,
    SessionSums,
    claim_day,
    claim_this_day,
    date_of,
    day_number,
    day_of,
    domains_to_report,
    end_claim,
    forget_done,
    forget_sessions,
    renew_claim,
    report_done,
    session_counts,
    write_sessions,
)
from qmtls.tls.results import TlsSession
from qmtls.tls.resulttypes import PolicyType, TlsResult

TODAY = 20_000
GOOD = TlsSession("a.example", PolicyType.NONE, (), "mx.a.example", "192.0.2.1", "192.0.2.2", TlsResult.SUCCESS)
BAD = replace(GOOD, result=TlsResult.STARTTLS_NOT_SUPPORTED, reason="STARTTLS is not offered", helo="inner")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_ledger(tmp_path / "ledger.db")
    yield connection
    connection.close()


def write(ledger: sqlite3.Connection, *sessions: TlsSession, day: int = TODAY - 1) -> None:
    sums = SessionSums(100)
    for session in sessions:
        sums.add(session, day)
    write_sessions(ledger, sums)


def claim(ledger: sqlite3.Connection, seconds: float, delay: float = 600) -> int | None:
    """`seconds` after midnight of TODAY."""
    return claim_day(ledger, TODAY * DAY + seconds, delay)


# ------------------------------------------------------------ counting


def test_sums(ledger: sqlite3.Connection) -> None:
    write(ledger, GOOD, replace(GOOD, mx="mx2.a.example"), BAD)
    write(ledger, GOOD, BAD, replace(BAD, mx="mx2.a.example"), replace(GOOD, domain="b.example"))
    write(ledger, GOOD, day=TODAY)
    blank = replace(GOOD, mx="", sending_ip="", receiving_ip="")
    assert session_counts(ledger, TODAY - 1, "a.example") == [
        SessionCount(BAD, 2),
        SessionCount(replace(BAD, mx="mx2.a.example"), 1),
        SessionCount(blank, 3),
    ]
    assert session_counts(ledger, TODAY, "a.example") == [SessionCount(blank, 1)]
    assert domains_to_report(ledger, TODAY - 1) == ["a.example", "b.example"]


def test_a_policy_comes_back_as_it_was(ledger: sqlite3.Connection) -> None:
    policy = ("version: STSv1", "mode: enforce", 'mx: "\xfc"')
    session = replace(BAD, policy_type=PolicyType.STS, policy_strings=policy, mx_patterns=("*.a.example",))
    write(ledger, session)
    assert session_counts(ledger, TODAY - 1, "a.example") == [SessionCount(session, 1)]


def test_whatever_peers_say_is_cut(ledger: sqlite3.Connection) -> None:
    write(ledger, replace(BAD, reason="x" * 10_000, policy_strings=("y" * 4000,) * 100))
    (found,) = session_counts(ledger, TODAY - 1, "a.example")
    assert len(found.session.reason) == 200
    assert sum(map(len, found.session.policy_strings)) <= MAX_POLICY_TEXT


def test_no_more_than_there_is_room_for() -> None:
    sums = SessionSums(2)
    for name in "aab":
        sums.add(replace(GOOD, domain=name), 1)
    again = SessionSums(2)
    again.add(replace(GOOD, domain="c"), 1)
    again.put_back(sums)
    assert (len(again), again.lost) == (2, 1)


def test_old_counts_are_forgotten(ledger: sqlite3.Connection) -> None:
    for age in (KEPT_DAYS, KEPT_DAYS + 1):
        write(ledger, GOOD, day=TODAY - age)
        report_done(ledger, TODAY - age, "z")
    forget_sessions(ledger, TODAY * DAY + 5.0)
    assert ledger.execute("SELECT day FROM tls_sessions").fetchall() == [(TODAY - KEPT_DAYS,)]
    assert ledger.execute("SELECT day FROM tls_reports_done").fetchall() == [(TODAY - KEPT_DAYS,)]


def test_an_older_ledger_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(schema, "STEPS", STEPS[:1])
        older.setattr(schema, "VERSION", 1)
        open_ledger(tmp_path / "ledger.db").close()
    ledger = open_ledger(tmp_path / "ledger.db")
    write(ledger, GOOD)
    assert domains_to_report(ledger, TODAY - 1) == ["a.example"]
    ledger.close()


def test_days() -> None:
    assert day_number("1970-01-02") == 1
    assert date_of(day_number("2026-11-22")).isoformat() == "2026-11-22"
    assert day_of(86_400.0) == 1
    assert day_of(86_399.9) == 0
    for text in ("2026-13-01", "yesterday", "2026-1-1x", ""):
        with pytest.raises(ValueError):
            day_number(text)


# ------------------------------------------------------------ whose turn it is


def test_a_day_is_one_process_work(ledger: sqlite3.Connection) -> None:
    write(ledger, GOOD)
    write(ledger, GOOD, day=TODAY)
    assert claim(ledger, 599) is None
    assert claim(ledger, 601, delay=1e6) == TODAY - 1  # the first who asked decided when
    assert claim(ledger, 602) is None
    report_done(ledger, TODAY - 1, "a.example")
    assert domains_to_report(ledger, TODAY - 1) == []
    end_claim(ledger, TODAY - 1, finished=True)
    assert claim(ledger, 1200) is None


def test_who_died_is_replaced(ledger: sqlite3.Connection) -> None:
    write(ledger, GOOD, replace(GOOD, domain="b.example"))
    assert claim(ledger, 0, delay=0) == TODAY - 1
    report_done(ledger, TODAY - 1, "a.example")
    renew_claim(ledger, TODAY - 1, TODAY * DAY + 3000.0)
    assert claim(ledger, CLAIM_SECONDS) is None
    assert claim(ledger, 3000 + CLAIM_SECONDS) == TODAY - 1
    assert domains_to_report(ledger, TODAY - 1) == ["b.example"]


def test_a_clock_that_was_set_back(ledger: sqlite3.Connection) -> None:
    write(ledger, GOOD)
    assert claim_this_day(ledger, TODAY - 1, (TODAY + 400) * DAY)
    assert claim(ledger, 10, delay=0) == TODAY - 1


def test_old_days_are_let_go(ledger: sqlite3.Connection) -> None:
    write(ledger, GOOD, day=TODAY - 3)
    assert claim(ledger, 80_000) is None
    assert claim_this_day(ledger, TODAY - 3, TODAY * DAY)
    assert not claim_this_day(ledger, TODAY - 3, TODAY * DAY + 1.0)


def test_once_more(ledger: sqlite3.Connection) -> None:
    write(ledger, GOOD)
    report_done(ledger, TODAY - 1, "a.example")
    forget_done(ledger, TODAY - 1)
    assert domains_to_report(ledger, TODAY - 1) == ["a.example"]
    end_claim(ledger, TODAY - 1, finished=True)
    assert claim_this_day(ledger, TODAY - 1, TODAY * DAY)


def test_all_or_none(ledger: sqlite3.Connection, tmp_path: Path) -> None:
    other = open_ledger(tmp_path / "ledger.db")
    other.execute("BEGIN IMMEDIATE")
    ledger.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(sqlite3.OperationalError):
        write(ledger, GOOD)
    other.execute("COMMIT")
    other.close()
    write(ledger, GOOD)
    assert len(session_counts(ledger, TODAY - 1, "a.example")) == 1
