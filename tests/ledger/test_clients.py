"""What is remembered of clients: sums that come out the same however they were cut into batches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from qmtls.ledger.clients import (
    ADDRESS_SECONDS,
    MAX_IDENTITY,
    ClientRecord,
    ClientSeen,
    ShownClient,
    Sightings,
    client_records,
    forget_addresses,
    shown_client,
    write_sightings,
)
from qmtls.ledger.schema import STEPS, open_ledger
from tests.tls.pki import NOW, YEAR, certificate, san_entries

JOE = ShownClient("joe@client.test", "ab" * 32, 1_800_000_000)
ANN = ShownClient("ann@client.test", "cd" * 32, 1_900_000_000)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_ledger(tmp_path / "ledger.db")
    yield connection
    connection.close()


def write(ledger: sqlite3.Connection, *seen: ClientSeen) -> None:
    sightings = Sightings(100)
    for one in seen:
        sightings.add(one)
    write_sightings(ledger, sightings)


def joe(time: float, octets: int = 100, address: str = "192.0.2.1", rule: str = "joe@client.test") -> ClientSeen:
    return ClientSeen(rule, JOE, address, time, octets)


def test_messages_become_one_sum_of_each_rule_and_certificate(ledger: sqlite3.Connection) -> None:
    write(ledger, joe(10), joe(11, 50), ClientSeen("ann@client.test", ANN, "192.0.2.9", 12, 1))
    write(ledger, joe(20, address="2001:db8::1"), joe(21, rule="spki:x"))
    assert client_records(ledger) == [
        ClientRecord("spki:x", JOE, 21, 21, ("192.0.2.1",), 1, 100),
        ClientRecord("joe@client.test", JOE, 10, 20, ("2001:db8::1", "192.0.2.1"), 3, 250),
        ClientRecord("ann@client.test", ANN, 12, 12, ("192.0.2.9",), 1, 1),
    ]


def test_a_batch_that_comes_late_changes_no_newer_address(ledger: sqlite3.Connection) -> None:
    write(ledger, joe(100, address="192.0.2.2"))
    write(ledger, joe(50, address="192.0.2.1"))
    (record,) = client_records(ledger)
    assert (record.first_seen, record.last_seen) == (50, 100)
    assert record.addresses == ("192.0.2.2", "192.0.2.1")


def test_old_addresses_go_and_sums_stay(ledger: sqlite3.Connection) -> None:
    write(ledger, joe(10), joe(20, address="192.0.2.2"), joe(30, address="192.0.2.3"))
    forget_addresses(ledger, 20 + ADDRESS_SECONDS)
    assert client_records(ledger) == [ClientRecord("joe@client.test", JOE, 10, 30, ("192.0.2.3", "192.0.2.2"), 3, 300)]
    forget_addresses(ledger, 99 + ADDRESS_SECONDS)
    assert client_records(ledger)[0].addresses == ("192.0.2.3",)  # the last one is kept for good


def test_a_batch_is_written_whole_or_not_at_all(ledger: sqlite3.Connection) -> None:
    ledger.execute("DROP TABLE client_addresses")
    with pytest.raises(sqlite3.Error):
        write(ledger, joe(10))
    assert not ledger.in_transaction
    assert ledger.execute("SELECT count(*) FROM clients").fetchone() == (0,)


seen = st.builds(
    ClientSeen,
    rule=st.sampled_from(["a@b.test", "spki:x"]),
    client=st.sampled_from([JOE, ANN]),
    address=st.sampled_from(["192.0.2.1", "192.0.2.2"]),
    time=st.just(0.0),
    octets=st.integers(0, 1000),
)


def in_time(all: list[ClientSeen]) -> list[ClientSeen]:
    return [replace(one, time=float(n)) for n, one in enumerate(all)]


@given(st.lists(seen, min_size=1, max_size=12).map(in_time), st.data())
def test_any_cut_into_batches_and_any_failure_gives_the_same(all: list[ClientSeen], data: st.DataObject) -> None:
    whole, cut = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    for connection in (whole, cut):
        for statement in (statement for step in STEPS for statement in step):
            connection.execute(statement)
    write(whole, *all)
    sightings = Sightings(100)
    for one in all:
        sightings.add(one)
        match data.draw(st.sampled_from(["go on", "write", "fail"])):
            case "write":
                write_sightings(cut, sightings)
                sightings = Sightings(100)
            case "fail":
                later = Sightings(100)
                later.put_back(sightings)
                sightings = later
    write_sightings(cut, sightings)
    assert client_records(cut) == client_records(whole)
    assert sum(record.messages for record in client_records(cut)) == len(all)
    whole.close()
    cut.close()


def test_beyond_the_bound_messages_are_counted_as_lost() -> None:
    full, later = Sightings(2), Sightings(2)
    for n in range(4):
        full.add(joe(n, address=f"192.0.2.{n}"))
        full.add(joe(n, address="192.0.2.0"))
    assert (len(full), full.lost) == (2, 2)
    later.add(joe(9, address="192.0.2.9"))
    later.put_back(full)
    assert (len(later), later.lost) == (2, 3)


@pytest.mark.parametrize(
    ("cert", "identity"),
    [
        (certificate("joe", sans=[x509.RFC822Name("a@b.test"), x509.RFC822Name("c@d.test")]), "a@b.test, c@d.test"),
        (certificate("joe", emails=["joe@b.test"]), "joe@b.test"),
        (certificate("mx.test"), "CN=mx.test"),
        (certificate("joe\x1b[2J", san_der=san_entries(0x81, b"a@b.test\n")), "CN=joe?[2J"),
        (certificate("x", sans=[x509.RFC822Name(f"{'x' * 300}@b.test")]), "x" * MAX_IDENTITY),
    ],
)
def test_who_a_certificate_is(cert: x509.Certificate, identity: str) -> None:
    found = shown_client(cert)
    assert found.identity == identity
    assert len(found.certificate) == 64
    assert found.not_after == int((NOW + YEAR).timestamp())


def test_a_certificate_that_ended_is_shown_with_its_end() -> None:
    assert shown_client(certificate(until=NOW - timedelta(days=1))).not_after == int(NOW.timestamp()) - 86400
