"""Clients that an identity let in: who, by which rule, from where, when, how much.

Messages are summed up before they are written (`Sightings`): a busy client costs one row of a batch, not one for each
message. Addresses are kept for a time only; the sums stay.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from qmtls.ledger.schema import transaction
from qmtls.tls.identities import REMEMBERED, certificate_emails
from qmtls.tls.names import shown_dn
from qmtls.tls.pin import certificate_digest

MAX_IDENTITY = 256  # characters; what a client wrote into its certificate may be long
ADDRESS_SECONDS = 90 * 86400.0  # an address that was not seen for so long is forgotten

_SAW = """INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rule, certificate) DO UPDATE SET
 identity = excluded.identity, first_seen = min(first_seen, excluded.first_seen),
 address = CASE WHEN excluded.last_seen >= last_seen THEN excluded.address ELSE address END,
 last_seen = max(last_seen, excluded.last_seen),
 messages = messages + excluded.messages, octets = octets + excluded.octets"""
_FROM = """INSERT INTO client_addresses VALUES (?, ?, ?, ?, ?) ON CONFLICT (rule, certificate, address) DO UPDATE SET
 last_seen = max(last_seen, excluded.last_seen), messages = messages + excluded.messages"""


@dataclass(frozen=True, slots=True)
class ShownClient:
    """Who a client is, worked out once for a connection (`shown_client`). A user who gave a password has no
    certificate: "" and 0."""

    identity: str  # e-mail addresses of the certificate, else its subject; or the user
    certificate: str = ""  # SHA-256 of it, hexadecimal
    not_after: int = 0  # Unix seconds


@dataclass(frozen=True, slots=True)
class ClientSeen:
    """One accepted message that `rule` (as `tlsclients` has it, without its scope) permitted."""

    rule: str
    client: ShownClient
    address: str  # IP address that it came from
    time: float  # Unix seconds
    octets: int


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """What is known of one certificate under one rule; `addresses` newest first."""

    rule: str
    client: ShownClient
    first_seen: float
    last_seen: float
    addresses: tuple[str, ...]
    messages: int
    octets: int


@lru_cache(maxsize=REMEMBERED)
def shown_client(leaf: x509.Certificate) -> ShownClient:
    """Never fails, whatever is in the certificate."""
    identity = ", ".join(certificate_emails(leaf)) or shown_dn(leaf.subject)
    end = int(leaf.not_valid_after_utc.timestamp())
    return ShownClient(identity[:MAX_IDENTITY], certificate_digest(leaf).hex(), end)


class _Sum:
    __slots__ = ("client", "first", "last", "messages", "octets")

    def __init__(self, seen: ClientSeen) -> None:
        self.client = seen.client
        self.first = self.last = seen.time
        self.messages = 1
        self.octets = seen.octets


class Sightings:
    """What was seen and is not written yet: a sum for each rule, certificate and address, `most` of them."""

    __slots__ = ("_most", "_sums", "lost")

    def __init__(self, most: int) -> None:
        self._most = most
        self._sums: dict[tuple[str, str, str], _Sum] = {}
        self.lost = 0  # messages that there was no room for

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, seen: ClientSeen) -> None:
        key = (seen.rule, seen.client.certificate, seen.address)
        found = self._sums.get(key)
        if found is not None:
            found.messages += 1
            found.octets += seen.octets
            found.last = seen.time
        elif len(self._sums) < self._most:
            self._sums[key] = _Sum(seen)
        else:
            self.lost += 1

    def put_back(self, older: Sightings) -> None:
        """What could not be written counts again, as far as there is room."""
        self.lost += older.lost
        for key, sum in older._sums.items():
            found = self._sums.get(key)
            if found is not None:
                found.messages += sum.messages
                found.octets += sum.octets
                found.first = sum.first
            elif len(self._sums) < self._most:
                self._sums[key] = sum
            else:
                self.lost += sum.messages

    def _rows(self) -> Iterator[tuple[str, str, str, _Sum]]:
        return ((*key, sum) for key, sum in self._sums.items())


def write_sightings(connection: sqlite3.Connection, sightings: Sightings) -> None:
    """All of them or none; sqlite3.Error."""
    with transaction(connection):
        connection.executemany(
            _SAW,
            (
                (rule, cert, s.client.identity, s.client.not_after, s.first, s.last, address, s.messages, s.octets)
                for rule, cert, address, s in sightings._rows()
            ),
        )
        connection.executemany(
            _FROM, ((rule, cert, address, s.last, s.messages) for rule, cert, address, s in sightings._rows())
        )


def forget_addresses(connection: sqlite3.Connection, now: float) -> None:
    """Removes addresses that were not seen for long; sqlite3.Error."""
    connection.execute("DELETE FROM client_addresses WHERE last_seen < ?", (now - ADDRESS_SECONDS,))


def client_records(connection: sqlite3.Connection) -> list[ClientRecord]:
    """Everything, those seen last first; sqlite3.Error."""
    addresses: dict[tuple[str, str], list[str]] = {}
    for rule, certificate, address in connection.execute(
        "SELECT rule, certificate, address FROM client_addresses ORDER BY last_seen DESC"
    ):
        addresses.setdefault((rule, certificate), []).append(address)
    rows: Iterable[tuple[str, str, str, int, float, float, str, int, int]] = connection.execute(
        "SELECT rule, certificate, identity, not_after, first_seen, last_seen, address, messages, octets FROM clients"
        " ORDER BY last_seen DESC, rule"
    )
    return [
        ClientRecord(
            rule,
            ShownClient(identity, certificate, not_after),
            first,
            last,
            tuple(dict.fromkeys((address, *addresses.get((rule, certificate), ())))),
            messages,
            octets,
        )
        for rule, certificate, identity, not_after, first, last, address, messages, octets in rows
    ]
