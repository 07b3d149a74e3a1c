"""The ledger's file: made once by whoever comes first, never touched if it is not ours."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qmtls.ledger import schema
from qmtls.ledger.schema import APPLICATION, VERSION, LedgerError, open_ledger, read_ledger
from qmtls.ledger.tlsresults import session_counts


def test_a_new_ledger_has_its_version_and_is_read_beside_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writer = open_ledger(path)
    writer.execute("BEGIN IMMEDIATE")
    reader = read_ledger(path)
    assert reader is not None
    assert reader.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert reader.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
    assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert reader.execute("SELECT count(*) FROM clients").fetchone() == (0,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM clients")
    reader.close()
    writer.close()


def test_many_open_a_new_one_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    def tables() -> int:
        connection = open_ledger(path)
        (count,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
        connection.close()
        return int(count)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: tables(), range(24))) == {6}


def test_an_older_version_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    old = open_ledger(path)
    old.execute("INSERT INTO clients VALUES ('r', 'c', 'i', 0, 1, 2, 'a', 3, 4)")
    old.close()
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE more (x)",)))
    monkeypatch.setattr(schema, "VERSION", VERSION + 1)
    with pytest.raises(LedgerError, match="earlier version"):
        read_ledger(path)
    new = open_ledger(path)
    assert new.execute("SELECT count(*) FROM more").fetchone() == (0,)
    assert new.execute("SELECT messages FROM clients").fetchone() == (3,)
    new.close()


def test_counts_of_a_version_without_the_hosts_own_name_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    with monkeypatch.context() as before:
        before.setattr(schema, "STEPS", schema.STEPS[:2])
        before.setattr(schema, "VERSION", 2)
        old = open_ledger(path)
        old.execute(
            "INSERT INTO tls_sessions VALUES"
            " (20000, 'a.example', 'no-policy-found', '[]', '[]', 'validation-failure', 'mx', 'from', 'to', 'why', 7)"
        )
        old.close()
    new = open_ledger(path)
    (found,) = session_counts(new, 20_000, "a.example")
    session = found.session
    assert (found.sessions, session.mx, session.helo, session.receiving_ip, session.reason) == (
        7,
        "mx",
        "",
        "to",
        "why",
    )
    new.close()


def test_a_step_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    open_ledger(path).close()
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE more (x)", "CREATE NONSENSE")))
    monkeypatch.setattr(schema, "VERSION", VERSION + 1)
    with pytest.raises(LedgerError, match="syntax error"):
        open_ledger(path)
    found = sqlite3.connect(path)
    assert found.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert found.execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'").fetchone() == (0,)
    found.close()


def test_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    connection = open_ledger(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    for opened in (open_ledger, read_ledger):
        with pytest.raises(LedgerError, match="later version"):
            opened(path)


def test_another_program_s_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE clients (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="another program"):
        open_ledger(path)
    assert path.read_bytes() == before


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"garbage" * 500)
    for opened in (open_ledger, read_ledger):
        with pytest.raises(LedgerError, match="not a database") as caught:
            opened(path)
        assert not caught.value.busy
    with pytest.raises(LedgerError, match="unable to open"):
        open_ledger(tmp_path / "none" / "ledger.db")
    assert read_ledger(tmp_path / "none.db") is None
    (tmp_path / "empty.db").touch()  # as it is for a moment while it is made
    assert read_ledger(tmp_path / "empty.db") is None


def test_a_locked_one_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.01)
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerError) as caught:
        open_ledger(path)
    assert caught.value.busy
    connection.close()
