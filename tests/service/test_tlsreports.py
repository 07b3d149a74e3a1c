"""TLS reports once a day: who gets which, what happens when something fails, and that only one process sends them."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from qmtls.ledger.schema import open_ledger
from qmtls.ledger.tlsresults import CLAIM_SECONDS, DAY, SessionSums, domains_to_report, write_sessions
from qmtls.net.httpsline import HttpsTrouble
from qmtls.service.tlsreports import LEAST_DELAY, MOST_DELAY, Outlets, Sender, TlsReports
from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import SpoolError
from qmtls.tls.results import TlsSession
from qmtls.tls.resulttypes import PolicyType, TlsResult
from tests.control.directory import compiled
from tests.delivery.rfc8460 import check_report
from tests.net.doubles import TROUBLE, off_reactor

TODAY = 20_778  # 2026-11-21
GOOD = TlsSession("a.example", PolicyType.NONE, (), "mx.a.example", "", "", TlsResult.SUCCESS)
BAD = replace(GOOD, result=TlsResult.STARTTLS_NOT_SUPPORTED)


class World:
    """DNS, web and queue by dictionaries; the time by order."""

    def __init__(self, path: Path) -> None:
        self.path = path / "ledger.db"
        self.time = TODAY * DAY + 0.0
        self.records: dict[str, Any] = {}
        self.broken: set[str] = set()  # addresses that take nothing
        self.posted: list[tuple[str, bytes]] = []
        self.mailed: list[tuple[Envelope, bytes]] = []
        self.said: list[str] = []
        self.asked: list[str] = []
        self.settings = compiled(path / "control", {"tlsrpt": "from=tlsrpt@here.example org=Here\n"})
        self._ids = iter(range(1, 1000))

    def reports(self, chance: float = 0.0) -> TlsReports:
        """Of one worker."""
        outlets = Outlets(self._txt, self._post, self._mail)
        sender = Sender(self.path, outlets, off_reactor, lambda: f"id{next(self._ids)}", self.said.append)
        return TlsReports(sender, lambda: self.settings, lambda: self.time, lambda: chance)

    def count(self, *sessions: TlsSession, day: int = TODAY - 1) -> None:
        sums = SessionSums(1000)
        for session in sessions:
            sums.add(session, day)
        self.ledger(lambda connection: write_sessions(connection, sums))

    def ledger(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        connection = open_ledger(self.path)
        found = work(connection)
        connection.close()
        return found

    @property
    def left(self) -> list[str]:
        found: list[str] = self.ledger(lambda connection: domains_to_report(connection, TODAY - 1))
        return found

    async def _txt(self, name: str) -> tuple[bytes, ...]:
        self.asked.append(name)
        found = self.records.get(name.removeprefix("_smtp._tls."), ())
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        return tuple(b"v=TLSRPTv1; rua=" + uris.encode() for uris in found)

    async def _post(self, url: str, body: bytes, media_type: str) -> None:
        assert media_type == "application/tlsrpt+gzip"
        if url in self.broken:
            raise HttpsTrouble("no")
        self.posted.append((url, body))

    async def _mail(self, id: str, envelope: Envelope, content: bytes) -> None:
        if str(envelope.recipients[0].address) in self.broken:
            raise SpoolError("disk")
        assert f"<{id}@".encode() in content
        self.mailed.append((envelope, content))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    assert not [line for line in made.said if "Traceback" in line]


def late(world: World, seconds: float = MOST_DELAY + 1) -> None:
    world.time = TODAY * DAY + seconds


def test_a_day(world: World) -> None:
    world.records = {"a.example": ["mailto:r@a.example"], "b.example": ["https://b.example/tls,mailto:x@b.example"]}
    world.count(GOOD, GOOD, BAD, replace(GOOD, domain="b.example"), replace(GOOD, domain="nobody.example"))
    world.count(GOOD, day=TODAY)
    late(world)
    world.reports().look()
    assert sorted(world.asked) == [f"_smtp._tls.{name}.example" for name in ("a", "b", "nobody")]
    to = [str(envelope.recipients[0].address) for envelope, _ in world.mailed]
    assert to == ["r@a.example", "x@b.example"]
    (url, body), (_, mail) = world.posted[0], world.mailed[0]
    assert url == "https://b.example/tls"
    check_report(json.loads(gzip.decompress(body)))
    attached = message_from_bytes(mail).get_payload(1).get_payload(decode=True)  # type: ignore[union-attr]
    assert isinstance(attached, bytes)
    report = json.loads(gzip.decompress(attached))
    check_report(report)
    assert report["organization-name"] == "Here"
    assert report["date-range"]["start-datetime"] == "2026-11-20T00:00:00Z"
    assert report["policies"][0]["summary"] == {
        "total-successful-session-count": 2,
        "total-failure-session-count": 1,
    }
    assert world.left == []
    assert world.said[0] == "tls report day=2026-11-20 domain=a.example to=<r@a.example> id=id4"


def test_when(world: World) -> None:
    """Some time in the first hours, and not before what was counted last is written."""
    world.records = {"a.example": ["mailto:r@a.example"]}
    world.count(GOOD)
    reports = world.reports(chance=0.5)
    for seconds, mails in ((0, 0), (LEAST_DELAY, 0), (MOST_DELAY / 2, 0), (MOST_DELAY, 1), (MOST_DELAY + 9000, 1)):
        late(world, seconds)
        reports.look()
        assert len(world.mailed) == mails, seconds


def test_once_for_all_workers(world: World) -> None:
    dns: Deferred[list[str]] = Deferred()
    world.records = {"a.example": dns}
    world.count(GOOD)
    late(world)
    workers = [world.reports() for _ in range(3)]
    for worker in workers * 2:
        worker.look()
    assert len(world.asked) == 1
    dns.callback(["mailto:r@a.example"])
    for worker in workers:
        worker.look()
    assert len(world.mailed) == 1


def test_what_fails_is_tried_again(world: World) -> None:
    world.records = {
        "a.example": TROUBLE,
        "b.example": ["https://b.example/tls"],
        "c.example": ["mailto:r@c.example"],
        "d.example": ["https://d.example/tls,mailto:r@d.example"],
    }
    world.broken = {"https://b.example/tls", "r@c.example", "https://d.example/tls"}
    world.count(*(replace(GOOD, domain=f"{name}.example") for name in "abcd"))
    late(world)
    reports = world.reports()
    reports.look()
    assert world.left == ["a.example", "b.example", "c.example"]  # one of d's addresses took it
    assert len([line for line in world.said if line.startswith("tls report not sent")]) == 4
    reports.look()
    assert len(world.asked) == 4
    world.broken.clear()
    world.records["a.example"] = ["mailto:r@a.example"]
    late(world, MOST_DELAY + CLAIM_SECONDS + 2)
    reports.look()
    assert world.left == []
    assert len(world.mailed) == 3
    late(world, MOST_DELAY + 3 * CLAIM_SECONDS)
    reports.look()
    assert len(world.asked) == 7


def test_a_domain_that_hangs_does_not_hold_up_others(world: World) -> None:
    hanging: Deferred[list[str]] = Deferred()
    world.records = {f"d{n}.example": ["mailto:r@a.example"] for n in range(9)} | {"d0.example": hanging}
    world.count(*(replace(GOOD, domain=f"d{n}.example") for n in range(9)))
    late(world)
    world.reports().look()
    assert len(world.mailed) == 8
    hanging.callback([])


def test_who_stops_leaves_the_rest(world: World) -> None:
    world.count(*(replace(GOOD, domain=f"d{n:02}.example") for n in range(25)))
    dns: Deferred[list[str]] = Deferred()
    world.records = {"d00.example": dns}
    late(world)
    reports = world.reports()
    reports.look()
    reports.stop()
    dns.callback([])
    assert len(world.left) == 15
    late(world, MOST_DELAY + CLAIM_SECONDS + 2)
    world.reports().look()
    assert world.left == []


def test_off_without_the_file(world: World) -> None:
    world.settings = replace(world.settings, tls_reports=None)
    world.count(GOOD)
    late(world)
    world.reports().look()
    assert world.asked == []


def test_a_ledger_in_trouble_is_no_trouble(world: World) -> None:
    world.path.write_bytes(b"no database at all, but a text that somebody put there")
    late(world)
    reports = world.reports()
    reports.look()
    world.path.unlink()
    world.count(GOOD)
    world.records = {"a.example": ["mailto:r@a.example"]}
    reports.look()
    assert len(world.mailed) == 1
