"""Messages that meet a host which behaves at random, while the service is killed again and again.

Each recipient must end in exactly one state: delivered, reported as failed, or still in the queue. What arrives twice
is explained by a reply that did not come (and the log says so), or by a kill before the delivery was on the disk.

QMTLS_STORM_MESSAGES sets the number of messages (60 by default), QMTLS_STORM_SEED what chance begins with.
"""

from __future__ import annotations

import email
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from itertools import pairwise
from pathlib import Path

import pytest

from tests.system.client import SmtpClient
from tests.system.house import ROOT, House
from tests.system.outbound.handing import open_to_all
from tests.system.outbound.randomsink import is_unknown
from tests.system.pki import Authority
from tests.system.waiting import wait_for

MESSAGES = int(os.environ.get("QMTLS_STORM_MESSAGES", "60"))
SEED = os.environ.get("QMTLS_STORM_SEED", "1")
KILLS = max(5, MESSAGES // 25)
DOMAINS = tuple(f"{kind}{n}.test" for n in range(4) for kind in ("may", "encrypt", "pinned"))  # each a host of its own
SENDER = "ann@mx.test"
ALARM = 0.2  # seconds between two orders to try everything again
DRAIN = 60 + MESSAGES / 5  # seconds, far beyond need


LAG = 20.0  # seconds that a busy sink may need until it takes what was sent before a kill, or before we gave up
DOUBT = re.compile(r"^(\S+) deferred id=\S+ to=<([^>]*)> .*\(possible duplicate\)", re.MULTILINE)


@dataclass
class Letters:
    """What is handed in: the recipients and the content of each message, and which were acknowledged."""

    chance: random.Random
    recipients: dict[int, list[str]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # of what its recipient must get
    acknowledged: set[int] = field(default_factory=set)

    def write(self, number: int) -> bytes:
        chance = self.chance
        count = chance.choice([1, 2, 3, 3, 5, 8])
        domains = [chance.choice(DOMAINS)] * count if chance.random() < 0.5 else chance.choices(DOMAINS, k=count)
        self.recipients[number] = [f"r{n}.m{number}@{domain}" for n, domain in enumerate(domains)]
        body = b"".join(b".%d line\r\n" % n for n in range(chance.choice([1, 5, 50, 5000])))
        content = b"Subject: %d\r\n\r\n" % number + body
        digest = hashlib.sha256(content.removesuffix(b"\r\n")).hexdigest()
        self.digests |= dict.fromkeys(self.recipients[number], digest)
        return content

    def all_of(self, numbers: set[int]) -> set[str]:
        return {recipient for number in numbers for recipient in self.recipients[number]}


def hand_in(house: House, letters: Letters, stop: threading.Event) -> None:
    """Until MESSAGES of them were acknowledged. What a kill cut off is not sent again: another one is."""
    number = 0
    while len(letters.acknowledged) < MESSAGES and not stop.is_set():
        try:
            with SmtpClient(house.port) as client:
                client.command("EHLO client.test", 250)
                while len(letters.acknowledged) < MESSAGES:
                    number += 1
                    content = letters.write(number)
                    stuffed = content.replace(b"\r\n.", b"\r\n..")
                    assert client.mail(SENDER, *letters.recipients[number], content=stuffed).code == 250
                    letters.acknowledged.add(number)
        except (OSError, AssertionError):
            stop.wait(0.02)


@dataclass(frozen=True, slots=True)
class Kill:
    """`still_open`: those who, as far as the disk knew then, have it to come."""

    time: float
    still_open: frozenset[str]


def open_recipients(house: House) -> Iterator[str]:
    """What the queue's files say (docs/queue.md), read while nobody writes them."""
    for path in house.messages():
        with path.open("rb") as file:
            head = file.read(100_000).partition(b"}\r\n")[0].removeprefix(b"X-Qmtls-Envelope: ") + b"}"
        done: set[int] = set()
        log = path.parents[1] / "log" / path.name
        for line in log.read_text().splitlines() if log.exists() else ():
            with suppress(ValueError):  # cut by a kill
                entry = json.loads(line)
                done.update(entry.get("done", ()), entry.get("failed", ()))
        for index, (local_part, domain, _) in enumerate(json.loads(head)["to"]):
            if index not in done:
                yield f"{local_part}@{domain}"


class Storm:
    """The house, its sink, and what was done to them."""

    def __init__(self, house: House, directory: Path) -> None:
        self.house = house
        self.directory = directory
        self.kills: list[Kill] = []
        self._alarmed = 0.0

    def journal(self) -> list[dict[str, object]]:
        path = self.directory / "journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def hurry(self) -> None:
        """All that waits is tried now."""
        if time.monotonic() > self._alarmed + ALARM:
            self._alarmed = time.monotonic()
            self.house.signal(signal.SIGALRM)

    def wait_for_events(self, count: int) -> None:
        """`count` more entries of the journal, or an empty queue."""
        goal = len(self.journal()) + count

        def enough() -> bool:
            self.hurry()
            return len(self.journal()) >= goal or not self.house.messages()

        wait_for(enough, f"{count} more recipients", DRAIN)

    def kill(self) -> None:
        self.house.kill()
        self.kills.append(Kill(time.time(), frozenset(open_recipients(self.house))))
        self.house.start()

    def drain(self) -> None:
        def empty() -> bool:
            self.hurry()
            return not self.house.messages()

        (self.directory / "calm").touch()
        wait_for(empty, "an empty queue", DRAIN)


@contextmanager
def random_sink(directory: Path, authority: Authority) -> Iterator[list[str]]:
    """Its ports, one for each of DOMAINS."""
    directory.mkdir()
    (directory / "right.pem").write_bytes(authority.server("sink.test").bundle)
    (directory / "wrong.pem").write_bytes(Authority("another").server("sink.test").bundle)
    command = [sys.executable, "-m", "tests.system.outbound.randomsink", SEED, str(directory), *DOMAINS]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        try:
            wait_for((directory / "ports").exists, "the sink")
            yield (directory / "ports").read_text().split()
        finally:
            process.kill()


@pytest.fixture
def storm(house: House, authority: Authority, tmp_path: Path) -> Iterator[Storm]:
    directory = tmp_path / "sink"
    with random_sink(directory, authority) as ports:
        routes = [f"{domain}:127.0.0.1:{port}" for domain, port in zip(DOMAINS, ports, strict=True)]
        open_to_all(house, *routes).mailbox("ann")
        house.control("tlspolicy", "".join(f"{d} encrypt\n" for d in DOMAINS if d.startswith("encrypt")))
        certificate = (directory / "right.pem").read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2]
        for domain in DOMAINS:
            if domain.startswith("pinned"):
                house.control(f"{domain}.pem", certificate)
        house.control("timeoutremote", "3\n")
        yield Storm(house, directory)


# ---------------------------------------------------------------- the books


@dataclass
class Books:
    """Who is in which state, told by those who must know: the sink, the mailbox of the sender, the queue."""

    taken: dict[str, list[dict[str, object]]] = field(default_factory=dict)  # every copy that the sink has
    refused: dict[str, float] = field(default_factory=dict)  # when first
    reported: Counter[str] = field(default_factory=Counter)
    queued: set[str] = field(default_factory=set)
    doubts: dict[str, list[float]] = field(default_factory=dict)  # when the log said "possible duplicate"


def books_of(storm: Storm) -> Books:
    books = Books()
    for entry in storm.journal():
        for recipient in entry["to"]:  # type: ignore[attr-defined]
            if entry["what"] == "taken":
                books.taken.setdefault(recipient, []).append(entry)
            else:
                books.refused.setdefault(recipient, float(str(entry["time"])))
    waiting = [path.read_bytes().partition(b"}\r\n")[2] for path in storm.house.messages()]
    for report in (*storm.house.delivered("ann"), *(mail for mail in waiting if b"multipart/report" in mail)):
        books.reported.update(failed_in(report))
    for row in storm.house.queue():
        if row["from"] == SENDER:
            books.queued.update(row["to"])
    for stamp, recipient in DOUBT.findall(storm.house.log()):
        books.doubts.setdefault(recipient, []).append(datetime.fromisoformat(stamp).timestamp())
    return books


def failed_in(report: bytes) -> list[str]:
    """Whom it names as failed, as any reader of RFC 3464 finds them."""
    parsed = email.message_from_bytes(report)
    assert parsed.get_content_type() == "multipart/report"
    (status,) = [part for part in parsed.walk() if part.get_content_type() == "message/delivery-status"]
    groups = [group for group in part_groups(status) if group["Final-Recipient"]]
    assert all(group["Action"] == "failed" for group in groups)
    return [group["Final-Recipient"].partition(";")[2].strip() for group in groups]


def part_groups(status: Message) -> list[Message]:
    found = status.get_payload()
    assert isinstance(found, list)
    return [group for group in found if isinstance(group, Message)]


def told(copy: dict[str, object]) -> bool:
    return copy["answer"] == "250"


def why_again(storm: Storm, books: Books, recipient: str, copy: dict[str, object], until: float) -> str:
    """Why somebody who has this copy was tried again before `until`; "" if that should not have been."""
    began = float(copy["time"])  # type: ignore[arg-type]
    if any(began - LAG <= kill.time <= until and recipient in kill.still_open for kill in storm.kills):
        return "kill"  # the disk did not know of the delivery
    if any(began - LAG <= time <= until for time in books.doubts.get(recipient, ())):
        return "late reply" if told(copy) else "lost reply"
    return ""


def audit(storm: Storm, letters: Letters) -> Counter[str]:
    """AssertionError if anybody is in no state, in two, or got something that he should not have got."""
    books, counts = books_of(storm), Counter[str]()
    sure = letters.all_of(letters.acknowledged)
    everybody = {*books.taken, *books.reported, *books.queued}
    assert not sure - everybody, f"lost: {sorted(sure - everybody)}"
    assert everybody <= letters.all_of(set(letters.recipients))
    for recipient in sorted(everybody):
        copies = books.taken.get(recipient, [])
        counts["recipients"] += 1
        counts["of messages cut off by a kill"] += recipient not in sure
        counts.update(explained(storm, books, recipient, copies))
        counts[state_of(storm, books, recipient, copies)] += 1
        for copy in copies:
            assert copy["content"] == letters.digests[recipient], f"{recipient} got something else"
            assert copy["tls"] == "right" or "@pinned" not in recipient, f"{recipient}: {copy}"
            assert copy["tls"] or "@encrypt" not in recipient, f"{recipient}: {copy}"
    assert counts["recipients"] == counts["delivered"] + counts["failed"] + counts["waiting"]
    return counts


def state_of(storm: Storm, books: Books, recipient: str, copies: list[dict[str, object]]) -> str:
    """Exactly one; a copy that we were not told of, or whose news a kill took, does not count beside another state."""
    failed, waits = recipient in books.reported, recipient in books.queued
    last_is_sure = bool(copies) and told(copies[-1]) and not why_again(storm, books, recipient, copies[-1], time.time())
    if failed and (waits or last_is_sure):
        # The report was safe, and the kill came before the failure was on the disk (docs/queue.md).
        early = any(k.time >= books.refused[recipient] and recipient in k.still_open for k in storm.kills)
        assert early, f"{recipient} is reported as failed, and is not done with\n" + lines_about(storm, recipient)
        failed = False
    if not failed and not waits:
        assert copies, recipient
        assert any(told(copy) for copy in copies), f"{recipient} is forgotten, and no copy was acknowledged"
        return "delivered"
    for copy in copies:
        known = why_again(storm, books, recipient, copy, time.time())
        assert known, f"{recipient} has {'failed' if failed else 'to wait'}: {copies}\n" + lines_about(storm, recipient)
    assert not failed or recipient in books.refused, f"{recipient} has failed, and nobody refused him"
    return "failed" if failed else "waiting"


def lines_about(storm: Storm, recipient: str) -> str:
    return "\n".join(line for line in storm.house.log().splitlines() if f"<{recipient}>" in line)


def explained(storm: Storm, books: Books, recipient: str, copies: list[dict[str, object]]) -> Counter[str]:
    """Why there is more than one copy, or report."""
    counts = Counter[str]()
    for copy, later in pairwise(copies):
        why = why_again(storm, books, recipient, copy, float(later["time"]))  # type: ignore[arg-type]
        assert why, f"{recipient} got it again: {copies}\n" + lines_about(storm, recipient)
        counts[f"twice after a {why}"] += 1
    repeated = max(0, books.reported[recipient] - 1)
    assert repeated <= len(storm.kills), f"{recipient} was reported {repeated + 1} times"
    counts["reports repeated after a kill"] += repeated
    return counts


def test_every_recipient_ends_in_one_state(storm: Storm, capsys: pytest.CaptureFixture[str]) -> None:
    letters, stop = Letters(random.Random(SEED)), threading.Event()
    began = time.monotonic()
    storm.house.start()
    client = threading.Thread(target=hand_in, args=(storm.house, letters, stop), daemon=True)
    client.start()
    try:
        for _ in range(KILLS):
            storm.wait_for_events(max(5, MESSAGES // KILLS))
            storm.kill()
        client.join(DRAIN)
        assert len(letters.acknowledged) == MESSAGES
    finally:
        stop.set()
    storm.wait_for_events(MESSAGES // 10)
    assert storm.house.stop() == 0
    between = audit(storm, letters)
    storm.house.start()
    storm.drain()
    assert storm.house.stop() == 0
    end = audit(storm, letters)
    assert end["waiting"] == 0 and not storm.house.queue()
    unknown = sum(is_unknown(SEED, recipient) for recipient in letters.all_of(letters.acknowledged))
    assert end["failed"] >= unknown > 0 and end["delivered"] > end["failed"]
    with capsys.disabled():
        print(f"\nrandom sink, seed {SEED}: {MESSAGES} messages, {KILLS} kills, {time.monotonic() - began:.0f} s")
        for when, counts in (("before the sink is calm", between), ("in the end", end)):
            print(f"  {when}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items()) if count))
