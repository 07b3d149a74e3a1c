"""The workloads: each configures a server from nothing, starts it, drives it, and returns figures by name.

Messages are 4 KiB over twenty sessions, one message per session, unless a workload says otherwise. Before the clock
starts some mail goes through, so that processes exist and code is warm. CPU time is that of all the server's
processes, over load and delivery both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench import cgroup
from bench.certificates import Certificates
from bench.servers import Ports, Server, Setup
from bench.tools import Audit, Counts, HeldSessions, Sent, Sink, ToolError, Tools, audit, quantile, run_load

Figures = dict[str, float]

SESSIONS = 20
SIZE = 4096
WARM_UP = 200  # messages
PACE = 50  # messages a second where latency without a backlog is wanted
FIRST_IDLE = 100  # sessions opened before the ones that are measured
BIG = 50_000_000  # octets
BIG_WARM_UP = 1_000_000
BIG_COUNT = 3  # one after the other
FRESH = 200  # messages, paced, beside a full queue
FILL_PER_SESSION = 100
FILL_SIZE = 1024
SETTLE_SECONDS = 0.3  # for what a server does behind its last reply
REST_SECONDS = 2.0
LOOK_SECONDS = 3.0  # between counts of a queue, which cost time themselves
DEFERRED_SECONDS = 600.0  # for a queue of messages to be tried once each
MIB = 1024 * 1024
KIB = 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """What every workload needs."""

    tools: Tools
    directory: Path
    ports: Ports
    certificates: Certificates
    messages: int
    idle: int
    waiting: int
    scale: float = 1.0  # of the numbers in bench.queues and bench.names

    def scaled(self, number: int) -> int:
        """So many where the whole would be `number`."""
        return max(1, round(number * self.scale))

    def load(self, name: str, messages: int, tls: bool = False, **options: object) -> Sent:
        """A run of the load client against the server, ids prefixed with `name`."""
        usual: dict[str, object] = {"sessions": SESSIONS, "size": SIZE, "prefix": name, "messages": messages}
        log = self.directory / f"load-{name}.log"
        return run_load(self.tools, log, **(usual | self._connection(tls) | options))

    def hold(self, sessions: int, tls: bool) -> HeldSessions:
        """Idle sessions, not opened yet."""
        return HeldSessions(self.tools, sessions=sessions, **self._connection(tls))

    def _connection(self, tls: bool) -> dict[str, object]:
        client, server = self.certificates.client, self.certificates.server
        secure = {"tls": True, "cert": client.cert, "key": client.key, "pin": server.fingerprint} if tls else {}
        return {"port": self.ports.server} | secure

    def sink(self, tls: bool = False, **options: object) -> Sink:
        """The sink, not started yet."""
        shown = {"cert": self.certificates.sink.cert, "key": self.certificates.sink.key} if tls else {}
        return Sink(self.tools, self.directory / "sink.log", **({"port": self.ports.sink} | shown | options))


def accept(bench: Bench, server: Server) -> Figures:
    """Mail in, synced, and kept: remote mail is held."""
    return _accepted(bench, server, tls=False)


def accept_tls(bench: Bench, server: Server) -> Figures:
    """The same over STARTTLS: each message on a connection of its own, full handshake, client certificate."""
    return _accepted(bench, server, tls=True)


def _accepted(bench: Bench, server: Server, tls: bool) -> Figures:
    server.configure(Setup(hold=True, tls=tls))
    with server.running():
        bench.load("warm", WARM_UP, tls)
        time.sleep(SETTLE_SECONDS)
        queued, cpu = server.queued(), server.group.cpu_seconds()
        sent = bench.load("run", bench.messages, tls)
        time.sleep(SETTLE_SECONDS)
        cpu = server.group.cpu_seconds() - cpu
        kept = server.queued() - queued
    transactions = sent.transactions_ms()
    return {
        "messages": bench.messages,
        "accepted_per_s": sent.rate,
        "cpu_ms": cpu * 1000 / bench.messages,
        "per_cpu_second": bench.messages / cpu if cpu else float("inf"),
        "transaction_p50_ms": quantile(transactions, 0.5),
        "transaction_p99_ms": quantile(transactions, 0.99),
        "lost": sent.accepted - kept,
    } | trouble(sent)


def relay(bench: Bench, server: Server) -> Figures:
    """In and out, plain."""
    return _relayed(bench, server, bench.messages)


def relay_tls(bench: Bench, server: Server) -> Figures:
    """In over STARTTLS with a client certificate, which alone opens the relay; out over STARTTLS to a pinned key."""
    return _relayed(bench, server, bench.messages, tls=True)


def paced(bench: Bench, server: Server) -> Figures:
    """Relay at a pace that every server keeps: latency without a backlog."""
    return _relayed(bench, server, min(bench.messages, 10 * PACE), rate=PACE)


def _relayed(bench: Bench, server: Server, messages: int, tls: bool = False, rate: int = 0) -> Figures:
    server.configure(Setup(tls=tls))
    with server.running(), bench.sink(tls) as sink:
        before = warm_up(bench, sink, tls)
        cpu = server.group.cpu_seconds()
        sent = bench.load("run", messages, tls, rate=rate)
        after = sink.wait_for(before.arrived + sent.accepted)
        time.sleep(SETTLE_SECONDS)
        cpu = server.group.cpu_seconds() - cpu
        left = server.queued()
        after = sink.counts()
    checked = audit(sent, sink.arrivals())
    seconds = (after.last_ns - sent.first) / 1e9
    return {
        "messages": messages,
        "relayed_per_s": (after.arrived - before.arrived) / seconds,
        "accepted_per_s": sent.rate,
        "cpu_ms": cpu * 1000 / messages,
        "connections_per_1000": (after.connections - before.connections) * 1000 / messages,
        "left_in_queue": left,
    } | (outcome(checked) | trouble(sent))


def warm_up(bench: Bench, sink: Sink, tls: bool = False, **options: object) -> Counts:
    """Some mail goes through; the counters then. ToolError if not all of it arrived."""
    sent = bench.load("warm", WARM_UP, tls, **options)
    counts = sink.wait_for(sent.accepted)
    if counts.arrived < sent.accepted:
        raise ToolError(f"of {sent.accepted} messages to warm up, {counts.arrived} arrived")
    time.sleep(SETTLE_SECONDS)
    return counts


def outcome(checked: Audit) -> Figures:
    """Latencies, and what is lost or came twice."""
    return {
        "latency_p50_ms": quantile(checked.latencies_ms, 0.5),
        "latency_p99_ms": quantile(checked.latencies_ms, 0.99),
        "latency_max_ms": max(checked.latencies_ms, default=0.0),
        "lost": checked.lost,
        "duplicates": checked.duplicates,
    }


def trouble(sent: Sent) -> Figures:
    """What the client met."""
    return {"refused": sent.refused, "unknown": len(sent.unknown), "retries": sent.retries, "stalled": sent.stalled}


def idle(bench: Bench, server: Server) -> Figures:
    """Memory at rest, and of sessions that have said EHLO and nothing since."""
    return _held(bench, server, tls=False)


def idle_tls(bench: Bench, server: Server) -> Figures:
    """The same behind STARTTLS, with a client certificate."""
    return _held(bench, server, tls=True)


def _held(bench: Bench, server: Server, tls: bool) -> Figures:
    server.configure(Setup(hold=True, tls=tls, sessions=FIRST_IDLE + bench.idle))
    with server.running():
        bench.load("warm", WARM_UP, tls)
        time.sleep(REST_SECONDS)
        rest = cgroup.memory(server.group)
        with bench.hold(FIRST_IDLE, tls):  # these use up what the warm-up left free
            time.sleep(REST_SECONDS)
            before = cgroup.memory(server.group)
            with bench.hold(bench.idle, tls) as sessions:
                time.sleep(REST_SECONDS)
                after = cgroup.memory(server.group)
    held = max(sessions.held, 1)
    return {
        "sessions": sessions.held,
        "rest_largest_rss_mib": rest.largest_rss / MIB,
        "rest_pss_mib": rest.pss / MIB,
        "rest_processes": rest.processes,
        "session_pss_kib": (after.pss - before.pss) / held / KIB,
        "session_rss_kib": (after.rss - before.rss) / held / KIB,
        "held_pss_mib": after.pss / MIB,
        "held_processes": after.processes,
    }


def big(bench: Bench, server: Server) -> Figures:
    """Messages of 50 MB, one after the other: by how much the processes grow."""
    server.configure(Setup())
    with server.running(), bench.sink() as sink:
        before = warm_up(bench, sink, size=BIG_WARM_UP)
        resident = cgroup.reset_peaks(server.group)
        sent = bench.load("run", BIG_COUNT, size=BIG, sessions=1)
        after = sink.wait_for(before.arrived + sent.accepted)
        grown = cgroup.peak_growth(resident)
    checked = audit(sent, sink.arrivals())
    seconds = (after.last_ns - sent.first) / 1e9
    return {
        "messages": BIG_COUNT,
        "growth_mib": grown / MIB,
        "megabytes_per_s": (after.octets - before.octets) / seconds / 1e6,
    } | (outcome(checked) | trouble(sent))


def waiting(bench: Bench, server: Server) -> Figures:
    """A queue full of mail that was tried once and waits: time to start with it, and fresh mail beside it."""
    server.configure(Setup())
    with server.running():
        filled = bench.load("fill", bench.waiting, domain="dead.test", per=FILL_PER_SESSION, size=FILL_SIZE)
        until_deferred(server, filled.accepted)
    with server.running() as ready, bench.sink() as sink:
        sent = bench.load("fresh", FRESH, rate=PACE)
        sink.wait_for(sent.accepted)
        time.sleep(SETTLE_SECONDS)
        memory = cgroup.memory(server.group)
        kept = server.queued()
    return {
        "waiting": filled.accepted,
        "filled_per_s": filled.rate,
        "ready_s": ready,
        "largest_rss_mib": memory.largest_rss / MIB,
        "pss_mib": memory.pss / MIB,
        "queue_lost": filled.accepted - kept,
    } | (outcome(audit(sent, sink.arrivals())) | trouble(sent))


def until_deferred(server: Server, messages: int) -> None:
    """Until so many were tried and wait. ToolError if that takes too long."""
    limit = time.monotonic() + DEFERRED_SECONDS
    while server.queued(deferred=True) < messages:
        if time.monotonic() > limit:
            raise ToolError(f"of {messages} messages {server.queued(deferred=True)} wait for another attempt")
        time.sleep(LOOK_SECONDS)


WORKLOADS: MappingProxyType[str, Callable[[Bench, Server], Figures]] = MappingProxyType(
    {
        "accept": accept,
        "accept-tls": accept_tls,
        "relay": relay,
        "relay-tls": relay_tls,
        "paced": paced,
        "idle": idle,
        "idle-tls": idle_tls,
        "big": big,
        "waiting": waiting,
    }
)
