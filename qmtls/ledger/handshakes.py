"""The last TLS handshakes with each host, whichever mail they were for: what they showed, and what was demanded.

For people who ask why mail waits; nothing is decided by them. Of each host the last KEPT are kept, for KEPT_SECONDS,
and of all hosts MOST_ROWS, the newest. A busy host costs KEPT rows of a batch, however many connections it gets.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qmtls.ledger.schema import transaction

KEPT = 5  # of each host
KEPT_SECONDS = 30 * 86400.0
MOST_ROWS = 50_000  # about 20 MB
MAX_TEXT = 500  # characters; names in a certificate may be long

_ADD = "INSERT OR REPLACE INTO handshakes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_TRIM = """DELETE FROM handshakes WHERE host = ? AND port = ? AND time <
 (SELECT time FROM handshakes WHERE host = ? AND port = ? ORDER BY time DESC LIMIT 1 OFFSET ?)"""
_COLUMNS = "SELECT host, port, time, address, domain, met, tls, text FROM handshakes"


@dataclass(frozen=True, slots=True)
class Handshake:
    """One try at TLS with a host. `host` is its name, canonical, or its IP address if it was found by none.

    `domain` is the recipients', whose demand was judged; `met` says whether it was met, `text` how, as a sentence.
    `tls` is version, cipher and group, "" if no TLS came about.
    """

    host: str
    port: int
    time: float  # Unix seconds
    address: str
    domain: str
    met: bool
    tls: str
    text: str


class LastHandshakes:
    """What was seen and is not written yet: the last KEPT of each host, `most` hosts."""

    __slots__ = ("_hosts", "_most", "lost")

    def __init__(self, most: int) -> None:
        self._most = most
        self._hosts: dict[tuple[str, int], deque[Handshake]] = {}
        self.lost = 0  # handshakes that there was no room for

    def __len__(self) -> int:
        return len(self._hosts)

    def add(self, handshake: Handshake) -> None:
        key = (handshake.host, handshake.port)
        found = self._hosts.get(key)
        if found is not None:
            found.append(handshake)
        elif len(self._hosts) < self._most:
            self._hosts[key] = deque((handshake,), KEPT)
        else:
            self.lost += 1

    def put_back(self, older: LastHandshakes) -> None:
        """What could not be written counts again, as far as there is room."""
        self.lost += older.lost
        for key, before in older._hosts.items():
            found = self._hosts.get(key)
            if found is not None:
                self._hosts[key] = deque((*before, *found), KEPT)
            elif len(self._hosts) < self._most:
                self._hosts[key] = before
            else:
                self.lost += len(before)

    def _rows(self) -> Iterator[tuple[object, ...]]:
        for (host, port), several in self._hosts.items():
            for one in several:
                yield host, port, one.time, one.address, one.domain, one.met, one.tls, one.text[:MAX_TEXT]


def write_handshakes(connection: sqlite3.Connection, last: LastHandshakes) -> None:
    """All of them or none; sqlite3.Error."""
    with transaction(connection):
        connection.executemany(_ADD, last._rows())
        connection.executemany(_TRIM, ((*place, *place, KEPT - 1) for place in last._hosts))


def forget_handshakes(connection: sqlite3.Connection, now: float) -> None:
    """Removes those that are old, and the oldest of too many; sqlite3.Error."""
    connection.execute("DELETE FROM handshakes WHERE time < ?", (now - KEPT_SECONDS,))
    connection.execute(
        "DELETE FROM handshakes WHERE time <= (SELECT time FROM handshakes ORDER BY time DESC LIMIT 1 OFFSET ?)",
        (MOST_ROWS,),
    )


def handshakes_with(connection: sqlite3.Connection, hosts: Sequence[tuple[str, int]], since: float) -> list[Handshake]:
    """Those with these hosts (name and port) after `since`: host by host, the newest first; sqlite3.Error."""
    where = f"{_COLUMNS} WHERE host = ? AND port = ? AND time >= ? ORDER BY time DESC LIMIT {KEPT}"
    rows = [row for host, port in hosts for row in connection.execute(where, (host, port, since))]
    return [_handshake(row) for row in rows]


def handshakes_for(connection: sqlite3.Connection, domain: str, since: float) -> list[Handshake]:
    """The newest for mail to a domain, with whatever hosts; sqlite3.Error."""
    where = f"{_COLUMNS} WHERE domain = ? AND time >= ? ORDER BY time DESC LIMIT {KEPT}"
    return [_handshake(row) for row in connection.execute(where, (domain, since))]


def _handshake(row: tuple[str, int, float, str, str, int, str, str]) -> Handshake:
    host, port, time, address, domain, met, tls, text = row
    return Handshake(host, port, time, address, domain, bool(met), tls, text)
