"""The writer thread: batches, several writers of one file, and trouble that costs history and nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Queue

import pytest
from twisted.internet.defer import Deferred

from qmtls.ledger import schema
from qmtls.ledger.clients import ClientRecord, ClientSeen, ShownClient, client_records
from qmtls.ledger.handshakes import KEPT, Handshake, handshakes_for
from qmtls.ledger.schema import open_ledger, read_ledger
from qmtls.net import ledger as module
from qmtls.net.ledger import Ledger
from qmtls.tls.results import TlsSession
from qmtls.tls.resulttypes import PolicyType, TlsResult

JOE = ShownClient("joe@client.test", "ab" * 32, 1_800_000_000)
PATIENCE = 20.0


def joe(n: int = 0, address: str = "192.0.2.1") -> ClientSeen:
    return ClientSeen("joe@client.test", JOE, address, 1000.0 + n, 10)


class Desk:
    """One worker's ledger; what its thread hands back is done by `until`, as the reactor would."""

    def __init__(self, path: Path, now: Callable[[], float] = lambda: 1000.0) -> None:
        self.said: list[str] = []
        self._calls: Queue[Callable[[], object]] = Queue()
        self.ledger = Ledger(path, lambda f, *args: self._calls.put(lambda: f(*args)), self.said.append, now)
        self._ended = False

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            self._calls.get(timeout=max(0.0, end - time.monotonic()))()

    def stop(self) -> None:
        if not self._ended:
            ending: Deferred[None] = self.ledger.stop()
            self.until(lambda: ending.called)
            self._ended = True


@pytest.fixture
def desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Desk]]:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.002)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.002)
    made: list[Desk] = []

    def new() -> Desk:
        made.append(Desk(tmp_path / "state" / "ledger.db"))
        return made[-1]

    yield new
    for desk in made:
        desk.stop()


def records(path: Path) -> list[ClientRecord]:
    connection = read_ledger(path / "state" / "ledger.db")
    if connection is None:
        return []
    try:
        return client_records(connection)
    finally:
        connection.close()


def test_stop_writes_what_was_seen(desks: Callable[[], Desk], tmp_path: Path) -> None:
    desk = desks()
    for n in range(100):
        desk.ledger.saw(joe(n))
    desk.stop()
    assert records(tmp_path) == [ClientRecord("joe@client.test", JOE, 1000.0, 1099.0, ("192.0.2.1",), 100, 1000)]
    assert desk.said == []


def test_nothing_seen_makes_no_file(desks: Callable[[], Desk], tmp_path: Path) -> None:
    desks().stop()
    assert not (tmp_path / "state").exists()


def test_several_workers_write_one_file(desks: Callable[[], Desk], tmp_path: Path) -> None:
    workers = [desks() for _ in range(4)]
    for n in range(200):
        for place, worker in enumerate(workers):
            worker.ledger.saw(joe(n, f"192.0.2.{place}"))
    for worker in workers:
        worker.stop()
    (record,) = records(tmp_path)
    assert (record.messages, record.octets, len(record.addresses)) == (800, 8000, 4)
    assert [worker.said for worker in workers] == [[]] * 4


def test_a_broken_ledger_is_said_once_and_what_was_seen_is_kept(desks: Callable[[], Desk], tmp_path: Path) -> None:
    broken = tmp_path / "state" / "ledger.db"
    broken.parent.mkdir()
    broken.write_bytes(b"garbage" * 500)
    desk = desks()
    for n in range(50):
        desk.ledger.saw(joe(n))
    desk.until(lambda: len(desk.said) == 1)
    assert "not a database: history may be lost, mail is not" in desk.said[0]
    desk.ledger.saw(joe(50))
    broken.unlink()
    desk.until(lambda: len(desk.said) == 2)
    assert desk.said[1] == "ledger written again, messages lost from it=0"
    desk.stop()
    assert records(tmp_path)[0].messages == 51


def test_a_full_disk_costs_history_only(
    desks: Callable[[], Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 5)

    def full(connection: sqlite3.Connection, seen: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(module, "write_sightings", full)
        desk = desks()
        for n in range(8):
            desk.ledger.saw(joe(n, f"192.0.2.{n}"))
        desk.until(lambda: len(desk.said) == 1)
        assert "disk is full" in desk.said[0]
    desk.until(lambda: len(desk.said) == 2)
    lost = int(desk.said[1].rpartition("=")[2])
    desk.stop()
    assert lost >= 3
    assert records(tmp_path)[0].messages == 8 - lost


def test_a_ledger_that_is_moved_away_is_made_anew(desks: Callable[[], Desk], tmp_path: Path) -> None:
    desk = desks()
    desk.ledger.saw(joe())
    path = tmp_path / "state" / "ledger.db"
    wait(lambda: bool(records(tmp_path)))
    for part in path.parent.iterdir():
        part.rename(tmp_path / part.name)
    desk.ledger.saw(joe())
    desk.stop()
    assert records(tmp_path)[0].messages == 1
    assert desk.said == []


def test_busy_for_long_is_trouble(desks: Callable[[], Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.001)
    path = tmp_path / "state" / "ledger.db"
    path.parent.mkdir()
    other = open_ledger(path)
    other.execute("BEGIN IMMEDIATE")
    desk = desks()
    desk.ledger.saw(joe())
    desk.until(lambda: len(desk.said) == 1)
    assert "locked" in desk.said[0]
    other.execute("COMMIT")
    other.close()
    desk.until(lambda: len(desk.said) == 2)
    desk.stop()
    assert records(tmp_path)[0].messages == 1


def test_stop_does_not_wait_for_a_ledger_in_trouble(desks: Callable[[], Desk], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    desk = desks()
    desk.ledger.saw(joe())
    desk.stop()
    assert len(desk.said) == 1


def test_a_message_costs_the_reactor_next_to_nothing(desks: Callable[[], Desk]) -> None:
    desk = desks()
    count = 20_000
    start = time.thread_time()
    for n in range(count):
        desk.ledger.saw(ClientSeen("joe@client.test", JOE, "192.0.2.1", float(n), 10))
    each = (time.thread_time() - start) / count
    assert each < 20e-6, f"{each * 1e6:.1f} µs"  # 2 µs on a machine of 2024; a loaded one gets room


def test_sessions_are_counted_beside_messages(desks: Callable[[], Desk], tmp_path: Path) -> None:
    desk = desks()
    session = TlsSession("a.example", PolicyType.NONE, (), "mx", "", "", TlsResult.SUCCESS)
    for _ in range(3):
        desk.ledger.session(session)
    desk.ledger.saw(joe())
    desk.stop()
    assert records(tmp_path)[0].messages == 1
    connection = read_ledger(tmp_path / "state" / "ledger.db")
    assert connection is not None
    assert connection.execute("SELECT domain, sessions FROM tls_sessions").fetchall() == [("a.example", 3)]
    connection.close()
    assert desk.said == []


def wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def shown(n: int) -> Handshake:
    return Handshake("mx.a.example", 25, 1000.0 + n, "192.0.2.1", "a.example", True, "TLSv1.3", f"number {n}")


def _is_written(path: Path, text: str) -> bool:
    return text in handshakes(path)


def handshakes(path: Path) -> list[str]:
    connection = read_ledger(path / "state" / "ledger.db")
    if connection is None:
        return []
    try:
        return [one.text for one in handshakes_for(connection, "a.example", 0)]
    finally:
        connection.close()


def test_the_last_handshakes_are_written_and_outlive_trouble(desks: Callable[[], Desk], tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"not a directory")
    desk = desks()
    for n in range(10):
        desk.ledger.handshake(shown(n))
    desk.until(lambda: bool(desk.said))
    assert desk.said[0].startswith("ledger trouble")
    (tmp_path / "state").unlink()
    desk.ledger.handshake(shown(10))
    desk.stop()
    assert handshakes(tmp_path) == [f"number {n}" for n in (10, 9, 8, 7, 6)]
    assert KEPT == 5


def test_what_is_old_is_removed_while_it_is_written(
    desks: Callable[[], Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only at a start: a service runs for months."""
    forgotten: list[float] = []
    monkeypatch.setattr(module, "forget_handshakes", lambda _, now: forgotten.append(now))
    times = [1000.0]
    desk = Desk(tmp_path / "state" / "ledger.db", lambda: times[0])
    try:
        for time_of_day in (1000.0, 1001.0, 5000.0):
            times[0] = time_of_day
            desk.ledger.handshake(shown(int(time_of_day)))
            wait(partial(_is_written, tmp_path, f"number {int(time_of_day)}"))
    finally:
        desk.stop()
    assert forgotten == [1000.0, 5000.0]
