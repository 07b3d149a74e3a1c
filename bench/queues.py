"""Workloads of the queue: dead destinations beside live ones, long queues, draining, big mail, many recipients.

Numbers are for `--scale 1`. Each server gets the same work; its own ways to retry or release mail are in
`bench.servers` and `bench.postfix`. Mail for dead destinations must still be in the queue at the end: it is counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench import cgroup, deadends
from bench.servers import Qmtls, Server, Setup
from bench.tools import NS, Audit, Sent, Sink, ToolError, audit
from bench.workloads import (
    FRESH,
    MIB,
    PACE,
    REST_SECONDS,
    SETTLE_SECONDS,
    WARM_UP,
    Bench,
    Figures,
    outcome,
    trouble,
    until_deferred,
    warm_up,
)
from qmtls.net.ids import Ids
from qmtls.net.sharedsync import SharedSync
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import Attempt, Filing, SpoolError
from qmtls.spool.files import OsFiles
from qmtls.spool.maildir import MaildirSpool

FRESH_BESIDE = 1000  # messages, as fast as they go
ROUNDS = 5  # of them, without the dead mail and with it
REFUSED, HANGING, SILENT = 20_000, 5_000, 5_000  # messages for a destination that takes none
DRAINED = 5_000
TENS, TEN_MIB, TEN_SESSIONS = 50, 10 * MIB, 10
RECIPIENTS, DOMAINS = 10_000, 200
BODY = MIB
FILL_SIZE, FILL_PER_SESSION = 1024, 100
FILL_BATCH = 1000
LINE = b"x" * 76 + b"\r\n"
LATER = 3600.0  # seconds until mail is due that a restart finds waiting
EMPTY_SECONDS = 60.0


def beside_refused(bench: Bench, server: Server) -> Figures:
    """Fresh mail, while a host that refuses connections has mail due."""
    return _beside(bench, server, "dead.test", bench.scaled(REFUSED))


def beside_hanging(bench: Bench, server: Server) -> Figures:
    """Fresh mail, while a host that accepts connections and says nothing has mail due."""
    return _beside(bench, server, "hanging.test", bench.scaled(HANGING))


def beside_silent(bench: Bench, server: Server) -> Figures:
    """Fresh mail, while a host that does not answer at all has mail due."""
    return _beside(bench, server, "silent.test", bench.scaled(SILENT))


def _beside(bench: Bench, server: Server, domain: str, dead: int) -> Figures:
    twin = server.twin()
    for each in (server, twin):
        each.configure(Setup())
    fresh = bench.scaled(FRESH_BESIDE)
    ports = bench.ports
    with (
        deadends.hanging(ports.hanging),
        deadends.silent(ports.silent),
        server.running(),
        twin.running(),
        bench.sink() as sink,
    ):
        for each in (server, twin):
            _fresh(bench, each, sink, "warm", WARM_UP)
        filled = bench.load("dead", dead, domain=domain, per=FILL_PER_SESSION, size=FILL_SIZE)
        if domain == "dead.test":
            until_deferred(server, filled.accepted)
        # In turn: what else the machine does changes from minute to minute.
        alone, beside, ordered = [], [], []
        for n in range(ROUNDS):
            alone.append(_fresh(bench, twin, sink, f"alone{n}", fresh))
            beside.append(_fresh(bench, server, sink, f"beside{n}", fresh))
        for n in range(ROUNDS):
            server.retry_all()
            ordered.append(_fresh(bench, server, sink, f"ordered{n}", fresh))
        memory = cgroup.memory(server.group)
        _until_left(server, filled.accepted)
        kept = server.queued()
    return {
        "messages": fresh,
        "dead": filled.accepted,
        "filled_per_s": filled.rate,
        "largest_rss_mib": memory.largest_rss / MIB,
        "queue_lost": filled.accepted - kept,
    } | shares(alone, beside, ordered, sink.arrivals())


@dataclass(frozen=True, slots=True)
class Round:
    """Fresh mail, sent as fast as it went. `rate`: arrivals a second, from the first connection to the last of them;
    `cpu_ms`: for each of them, of all that the server did meanwhile."""

    sent: Sent
    rate: float
    cpu_ms: float


def shares(
    alone: Sequence[Round], beside: Sequence[Round], ordered: Sequence[Round], arrivals: dict[str, list[int]]
) -> Figures:
    """Rates beside dead mail against those without: the best of each, for what else the machine does only slows down. A
    stall that comes and goes shows in the latencies, which are those beside dead mail."""
    figures: Figures = {}
    best = max(each.rate for each in alone)
    for name, part in (("alone", alone), ("beside", beside), ("ordered", ordered)):
        figures[f"{name}_per_s"] = max(each.rate for each in part)
        figures[f"{name}_cpu_ms"] = min(each.cpu_ms for each in part)
    figures["share"] = figures["beside_per_s"] / best if best else 0.0
    figures["ordered_share"] = figures["ordered_per_s"] / best if best else 0.0
    disturbed = [audit(each.sent, arrivals) for each in (*beside, *ordered)]
    checks = [*disturbed, *(audit(each.sent, arrivals) for each in alone)]
    lost, duplicates = sum(each.lost for each in checks), sum(each.duplicates for each in checks)
    return figures | outcome(Audit(lost, duplicates, [value for each in disturbed for value in each.latencies_ms]))


def _fresh(bench: Bench, server: Server, sink: Sink, name: str, count: int) -> Round:
    before, cpu = sink.counts().arrived, server.group.cpu_seconds()
    sent = bench.load(name, count, port=server.ports.server)
    after = sink.wait_for(before + sent.accepted)
    cpu = server.group.cpu_seconds() - cpu
    time.sleep(SETTLE_SECONDS)
    came = after.arrived - before
    return Round(sent, came / max((after.last_ns - sent.first) * NS, 1e-6), cpu * 1000 / max(came, 1))


def _until_left(server: Server, messages: int) -> None:
    """Until the queue has only so many, or for a minute: what has arrived is removed a little later."""
    limit = time.monotonic() + EMPTY_SECONDS
    while server.queued() > messages and time.monotonic() < limit:
        time.sleep(SETTLE_SECONDS)


def restart(bench: Bench, server: Server) -> Figures:
    """A start with a full queue, whose mail was tried once and is due in an hour; then fresh mail beside it."""
    assert isinstance(server, Qmtls)
    server.configure(Setup())
    with server.running() as ready_empty:
        time.sleep(REST_SECONDS)
        rest = cgroup.memory(server.group)
    began = time.monotonic()
    bins = [server.directory / "queue" / str(n) for n in range(1, server.workers + 1)]
    fill(bins, bench.waiting, "dead.test")
    filled = time.monotonic() - began
    with server.running() as ready, bench.sink() as sink:
        sent = bench.load("fresh", FRESH, rate=PACE)
        sink.wait_for(sent.accepted)
        time.sleep(REST_SECONDS)
        memory, peak = cgroup.memory(server.group), cgroup.largest_peak(server.group)
        kept = server.queued()
    checked = audit(sent, sink.arrivals())
    return {
        "waiting": bench.waiting,
        "filled_per_s": bench.waiting / filled,
        "ready_empty_s": ready_empty,
        "ready_s": ready,
        "rest_pss_mib": rest.pss / MIB,
        "largest_rss_mib": memory.largest_rss / MIB,
        "peak_rss_mib": peak / MIB,
        "pss_mib": memory.pss / MIB,
        "queue_lost": bench.waiting - kept,
    } | (outcome(checked) | trouble(sent))


def fill(bins: Iterable[Path], count: int, domain: str) -> None:
    """Stores messages in equal parts, each tried once and due in an hour, as an earlier service would have."""
    places, ids, now = tuple(bins), Ids(), time.time()
    files = OsFiles(SharedSync(clock=lambda: 0.0))  # by a clock that stands still no shared sync takes too long
    arrival = Arrival(now, "127.0.0.1", "client.test", "ESMTP", "", "127.0.0.0/8")
    envelope = Envelope(Address("load", "client.test"), (Recipient(Address("r", domain)),), arrival)
    body = b"Subject: benchmark\r\n\r\n" + LINE * (FILL_SIZE // len(LINE))
    attempt = Attempt(now, deferred=(0,), reasons=((0, "127.0.0.1 cannot be connected to: refused"),))
    for part, place in enumerate(places):
        spool = MaildirSpool(place, files)
        left = count // len(places) + (part < count % len(places))
        while left:
            batch = [spool.begin(ids.next(), envelope) for _ in range(min(FILL_BATCH, left))]
            for incoming in batch:
                incoming.write(body)
            failed = spool.commit(batch)
            failed += spool.record([Filing(incoming.id, attempt, now + LATER) for incoming in batch])
            _no_error(failed)
            left -= len(batch)
        spool.close()


def _no_error(errors: Iterable[SpoolError | None]) -> None:
    for error in errors:
        if error is not None:
            raise ToolError(f"the queue cannot be filled: {error}")


def drain(bench: Bench, server: Server) -> Figures:
    """A held queue is released, to one destination over TLS with a pinned key."""
    server.configure(Setup(hold=True, tls=True))
    with server.running(), bench.sink(tls=True) as sink:
        held = bench.load("held", bench.scaled(DRAINED), tls=True)
        _until_kept(server, held.accepted)
        cpu, began = server.group.cpu_seconds(), time.monotonic_ns()
        server.release()
        first = sink.wait_for(1).last_ns
        after = sink.wait_for(held.accepted)
        time.sleep(SETTLE_SECONDS)
        cpu = server.group.cpu_seconds() - cpu
        _until_left(server, 0)
        left = server.queued()
        after = sink.counts()
    checked = audit(held, sink.arrivals())
    return {
        "messages": held.accepted,
        "relayed_per_s": after.arrived / max((after.last_ns - began) * NS, 1e-6),
        "first_ms": (first - began) / 1e6,
        "cpu_ms": cpu * 1000 / max(held.accepted, 1),
        "connections_per_1000": after.connections * 1000 / max(held.accepted, 1),
        "left_in_queue": left,
        "lost": checked.lost,
        "duplicates": checked.duplicates,
    }


def _until_kept(server: Server, messages: int) -> None:
    limit = time.monotonic() + EMPTY_SECONDS
    while server.queued() < messages and time.monotonic() < limit:
        time.sleep(SETTLE_SECONDS)
    if server.queued() != messages:
        raise ToolError(f"of {messages} messages to hold, {server.queued()} are in the queue")


def tens(bench: Bench, server: Server) -> Figures:
    """Messages of 10 MiB over ten sessions: octets a second, and by how much the processes grow."""
    server.configure(Setup())
    with server.running(), bench.sink() as sink:
        before = warm_up(bench, sink)
        resident, cpu = cgroup.reset_peaks(server.group), server.group.cpu_seconds()
        sent = bench.load("run", bench.scaled(TENS), size=TEN_MIB, sessions=TEN_SESSIONS)
        after = sink.wait_for(before.arrived + sent.accepted)
        cpu = server.group.cpu_seconds() - cpu
        grown, most = cgroup.peak_growth(resident), cgroup.largest_growth(resident)
    checked = audit(sent, sink.arrivals())
    seconds = (after.last_ns - sent.first) * NS
    return {
        "messages": sent.accepted,
        "megabytes_per_s": (after.octets - before.octets) / seconds / 1e6,
        "cpu_ms": cpu * 1000 / max(sent.accepted, 1),
        "growth_mib": grown / MIB,
        "largest_growth_mib": most / MIB,
    } | (outcome(checked) | trouble(sent))


def many(bench: Bench, server: Server) -> Figures:
    """One message of 1 MiB for very many recipients: what it takes on the disk while it is held, and who gets it."""
    recipients = [f"r{n}@d{n % DOMAINS}.many.test" for n in range(bench.scaled(RECIPIENTS))]
    server.configure(Setup(hold=True, recipients=len(recipients)))
    paths = bench.directory / "recipients.log"
    with server.running(), bench.sink(recipients=paths) as sink:
        before = server.queued_octets()
        began = time.monotonic_ns()
        server.post("load@client.test", recipients, _body())
        posted = time.monotonic_ns()
        _until_kept(server, 1)
        stored = server.queued_octets() - before
        released = time.monotonic_ns()
        server.release()
        _until_left(server, 0)
        left, after = server.queued(), sink.counts()
    came = Counter(paths.read_text().split())
    wanted = {f"<{address}>" for address in recipients}
    return {
        "recipients": len(recipients),
        "body_mib": BODY / MIB,
        "stored_mib": stored / MIB,
        "bodies": stored / BODY,
        "post_s": (posted - began) * NS,
        "all_arrived_s": (after.last_ns - released) * NS,
        "transactions": after.arrived,
        "left_in_queue": left,
        "lost": len(wanted - came.keys()),
        "duplicates": sum(count - 1 for count in came.values()),
        "strangers": len(came.keys() - wanted),
    }


def _body() -> bytes:
    head = b"From: <load@client.test>\r\nSubject: benchmark\r\nX-Load-Id: many\r\n\r\n"
    return head + LINE * ((BODY - len(head)) // len(LINE))


WORKLOADS: MappingProxyType[str, Callable[[Bench, Server], Figures]] = MappingProxyType(
    {
        "beside-refused": beside_refused,
        "beside-hanging": beside_hanging,
        "beside-silent": beside_silent,
        "restart": restart,
        "drain": drain,
        "tens": tens,
        "many": many,
    }
)
OURS_ONLY = frozenset({"restart"})  # what it measures has no counterpart that could be filled likewise
