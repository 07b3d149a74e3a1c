"""Workloads of DNS, of qmtls only: names that hang beside names that answer, and what a cold destination asks.

Nobody is routed here: MX and addresses come from `bench.nameserver`, and the sink listens on port 25 of a loopback
address of its own, which takes the right to (root).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.certificates import Certificate
from bench.nameserver import Asked, NameServer, Said, rounds
from bench.servers import Server, Setup
from bench.tools import Sent, Sink, audit, quantile
from bench.workloads import SETTLE_SECONDS, Bench, Figures, warm_up

SINK = "127.0.53.25"
SMTP_PORT = 25
LIVE = 50  # domains whose names answer
HANGING = 1_000  # domains whose names don't, with a message for each
ROUNDS = 3  # without names that hang, and with them
FRESH, FRESH_PACE = 300, 100  # messages of a round, and how many a second: all is over before the look-ups give up
COLD = 20  # domains of each kind that get their first message, one after the other
COLD_PACE = 4
DNS_DELAY = 0.02  # seconds until an answer
# What a cold destination is, by the ending of its name, with its line of tlspolicy.
KINDS = {"dane.test": "", "plain.test": "", "none.test": ".none.test none"}


def dns_hang(bench: Bench, server: Server) -> Figures:
    """Fresh mail to domains whose DNS answers: alone, then while a thousand other domains' DNS hangs."""
    with NameServer(_hanging) as dns:
        server.configure(Setup(dns=dns.address))
        with server.running(), bench.sink(host=SINK, port=SMTP_PORT) as sink:
            warm_up(bench, sink, domain="live.test", domains=LIVE)
            quiet = [_fresh(bench, sink, f"quiet{n}") for n in range(ROUNDS)]
            hung = bench.load("hung", bench.scaled(HANGING), domain="hang.test", domains=bench.scaled(HANGING))
            beside = [_fresh(bench, sink, f"beside{n}") for n in range(ROUNDS)]
            time.sleep(SETTLE_SECONDS)
            kept = server.queued()
    arrivals = sink.arrivals()
    before, checked = ([audit(sent, arrivals) for sent in runs] for runs in (quiet, beside))
    # The best round of each, for what else the machine does only slows down; the longest wait is that of all.
    p50 = [min(quantile(each.latencies_ms, 0.5) for each in part) for part in (before, checked)]
    p99 = [min(quantile(each.latencies_ms, 0.99) for each in part) for part in (before, checked)]
    return {
        "messages": sum(sent.accepted for sent in beside),
        "hanging": hung.accepted,
        "names_asked": len({asked.name for asked in dns.asked if asked.name.endswith(".hang.test")}),
        "quiet_p50_ms": p50[0],
        "quiet_p99_ms": p99[0],
        "latency_p50_ms": p50[1],
        "latency_p99_ms": p99[1],
        "latency_max_ms": max(max(each.latencies_ms, default=0.0) for each in checked),
        "p99_times_quiet": p99[1] / p99[0],
        "lost": sum(each.lost for each in (*before, *checked)),
        "duplicates": sum(each.duplicates for each in (*before, *checked)),
        "queue_lost": hung.accepted - kept,
    }


def _fresh(bench: Bench, sink: Sink, name: str) -> Sent:
    before = sink.counts().arrived
    sent = bench.load(name, bench.scaled(FRESH), domain="live.test", domains=LIVE, rate=FRESH_PACE)
    sink.wait_for(before + sent.accepted)
    return sent


def _hanging(name: str, kind: str) -> Said | None:
    return None if name.endswith("hang.test") else _plain(name, kind)


def _plain(name: str, kind: str) -> Said:
    """Every domain has an MX of its own below it, and that the sink's address."""
    if kind == "A" and name.startswith("mx."):
        return Said((SINK,))
    if kind == "MX":
        return Said((f"10 mx.{name}.",))
    return Said(exists=not name.startswith("_"))


def cold(bench: Bench, server: Server) -> Figures:
    """The first message for each of some domains: rounds of DNS, and time, with DANE, without, and with no look-up."""
    tlsa = _tlsa(bench.certificates.sink)

    def zone(name: str, kind: str) -> Said:
        if not name.endswith("dane.test"):
            return _plain(name, kind)
        said = Said((tlsa,)) if kind == "TLSA" else _plain(name, kind)
        return Said(said.records, True, said.exists)

    sent = {}
    with NameServer(zone, DNS_DELAY) as dns:
        server.configure(Setup(dns=dns.address, policies="\n".join(filter(None, KINDS.values()))))
        with server.running(), bench.sink(tls=True, host=SINK, port=SMTP_PORT) as sink:
            warm_up(bench, sink, tls=False, domain="warm.test")
            for kind in KINDS:
                options: dict[str, Any] = {"domain": kind, "domains": COLD, "sessions": 1, "rate": COLD_PACE}
                before = sink.counts().arrived
                sent[kind] = bench.load(kind.partition(".")[0], COLD, **options)
                sink.wait_for(before + sent[kind].accepted)
    return cold_figures(sent, dns.asked, sink.log())


def cold_figures(sent: Mapping[str, Sent], asked: Iterable[Asked], log: Iterable[tuple[str, int, int]]) -> Figures:
    """By the first label of the kinds that `sent` has; each message alone is the first for its domain."""
    arrived = {name: (connected, at) for name, connected, at in log}
    questions = list(asked)
    figures: Figures = {"messages": COLD}
    delay = int(DNS_DELAY * 1e9)
    for kind, of_kind in sent.items():
        short = kind.partition(".")[0]
        counts, early = [], []
        for name in of_kind.ended.keys() & arrived.keys():
            mine = [q for q in questions if f".{q.name}".endswith(f".d{int(name.rpartition('-')[2])}.{kind}")]
            connected = arrived[name][0]
            counts.append(rounds([q.at for q in mine], delay))
            early.append(sum(q.at + delay > connected for q in mine if q.kind == "TLSA"))
        checked = audit(of_kind, {name: [at] for name, (_, at) in arrived.items()})
        figures[f"{short}_lost"] = checked.lost
        if counts:
            figures[f"{short}_rounds"] = statistics.median(counts)
            figures[f"{short}_p50_ms"] = quantile(checked.latencies_ms, 0.5)
        if kind == "dane.test" and early:
            figures["beside_connection"] = sum(early) / len(early)
    figures["lost"] = sum(value for name, value in figures.items() if name.endswith("_lost"))
    if "dane_rounds" in figures and "none_rounds" in figures:
        figures["dane_more_rounds"] = figures["dane_rounds"] - figures["none_rounds"]
    return figures


def _tlsa(certificate: Certificate) -> str:
    """A record of usage 3: this very key."""
    key = x509.load_pem_x509_certificate(certificate.cert.read_bytes()).public_key()
    digest = Hash(SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return f"3 1 1 {digest.finalize().hex()}"


WORKLOADS: MappingProxyType[str, Callable[[Bench, Server], Figures]] = MappingProxyType(
    {"dns-hang": dns_hang, "cold": cold}
)
OURS_ONLY = frozenset(WORKLOADS)  # whom Postfix asks is said by the system's resolv.conf
