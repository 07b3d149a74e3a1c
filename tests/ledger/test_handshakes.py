"""The last handshakes of each host: few, not for long, whoever writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qmtls.ledger import handshakes as module
from qmtls.ledger.handshakes import (
    KEPT,
    KEPT_SECONDS,
    MAX_TEXT,
    Handshake,
    LastHandshakes,
    forget_handshakes,
    handshakes_for,
    handshakes_with,
    write_handshakes,
)
from qmtls.ledger.schema import open_ledger

NOW = 1_800_000_000.0
ONE = Handshake("mx.a.example", 25, NOW, "192.0.2.1", "a.example", True, "TLSv1.3 X Y", "mx.a.example: TLSv1.3")
HOSTS = [("mx.a.example", 25)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_ledger(tmp_path / "ledger.db")
    yield connection
    connection.close()


def gathered(*several: Handshake, most: int = 100) -> LastHandshakes:
    last = LastHandshakes(most)
    for one in several:
        last.add(one)
    return last


def at(second: int, one: Handshake = ONE) -> Handshake:
    return replace(one, time=NOW + second)


def test_what_is_written_is_read(ledger: sqlite3.Connection) -> None:
    bad = replace(at(1), met=False, tls="", text="mx.a.example: STARTTLS is not offered")
    write_handshakes(ledger, gathered(ONE, bad))
    assert handshakes_with(ledger, HOSTS, 0) == [bad, ONE]
    assert handshakes_for(ledger, "a.example", 0) == [bad, ONE]
    assert handshakes_with(ledger, [("mx.a.example", 465), ("mx.b.example", 25)], 0) == []
    assert handshakes_for(ledger, "b.example", 0) == []
    assert handshakes_with(ledger, HOSTS, NOW + 1) == [bad]


def test_the_last_few_of_each_host(ledger: sqlite3.Connection) -> None:
    other = replace(ONE, host="mx.b.example", domain="b.example")
    write_handshakes(ledger, gathered(other, *(at(n) for n in range(50))))
    write_handshakes(ledger, gathered(*(at(n) for n in (60, 10, 61))))
    (rows,) = ledger.execute("SELECT count(*) FROM handshakes WHERE host = 'mx.a.example'").fetchone()
    assert rows == KEPT
    assert [one.time - NOW for one in handshakes_with(ledger, HOSTS, 0)] == [61, 60, 49, 48, 47]
    assert handshakes_for(ledger, "b.example", 0) == [other]


def test_a_busy_host_costs_few_rows() -> None:
    last = gathered(*(at(n) for n in range(1000)))
    assert len(list(last._rows())) == KEPT
    assert not last.lost


def test_only_so_many_hosts_in_memory() -> None:
    last = gathered(*(replace(ONE, host=f"mx{n}.example") for n in range(5)), most=3)
    assert (len(last), last.lost) == (3, 2)
    last.add(replace(ONE, host="mx0.example"))
    assert last.lost == 2


def test_what_could_not_be_written_comes_before_what_came_since(ledger: sqlite3.Connection) -> None:
    newer = gathered(at(10), at(11))
    newer.put_back(gathered(*(at(n) for n in range(5)), replace(ONE, host="mx.b.example")))
    write_handshakes(ledger, newer)
    assert [one.time - NOW for one in handshakes_with(ledger, HOSTS, 0)] == [11, 10, 4, 3, 2]
    full = gathered(at(1), most=1)
    full.put_back(gathered(replace(ONE, host="mx.b.example"), at(0)))
    assert (len(full), full.lost) == (1, 1)


def test_what_is_old_is_forgotten(ledger: sqlite3.Connection) -> None:
    write_handshakes(ledger, gathered(at(0), at(1)))
    forget_handshakes(ledger, NOW + KEPT_SECONDS + 0.5)
    assert handshakes_with(ledger, HOSTS, 0) == [at(1)]


def test_of_too_many_the_oldest_are_forgotten(ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    write_handshakes(ledger, gathered(*(replace(at(n), host=f"mx{n}.example") for n in range(10))))
    forget_handshakes(ledger, NOW)
    found = handshakes_for(ledger, "a.example", 0)
    assert [one.host for one in found] == ["mx9.example", "mx8.example", "mx7.example"]


def test_long_sentences_are_cut(ledger: sqlite3.Connection) -> None:
    write_handshakes(ledger, gathered(replace(ONE, text="x" * 10_000)))
    assert len(handshakes_with(ledger, HOSTS, 0)[0].text) == MAX_TEXT
