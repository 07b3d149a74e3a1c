"""Results as Markdown: for each workload a table with median (lowest-highest) and the ratio to Postfix, and our aims.

    python -m bench.report RESULTS.jsonl

A result file has one JSON object a line: first `machine`, then a run with `workload`, `server`, `repeat` and either
`figures` or `error`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
SERVERS = OURS, THEIRS = "qmtls", "postfix"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: its name in the results, its title, its decimals."""

    figure: str
    title: str
    decimals: int = 0


LATENCY = (
    Column("latency_p50_ms", "250 to arrival p50 ms", 1),
    Column("latency_p99_ms", "p99 ms", 1),
    Column("latency_max_ms", "max ms", 1),
)
AUDIT = (Column("lost", "lost"), Column("duplicates", "duplicates"))
TROUBLE = (Column("retries", "retries"), Column("stalled", "silent greetings"))
RELAY = (
    Column("messages", "messages"),
    Column("relayed_per_s", "relayed/s"),
    Column("accepted_per_s", "accepted/s"),
    Column("cpu_ms", "CPU ms/message", 2),
    *LATENCY,
    *AUDIT,
    Column("connections_per_1000", "connections out per 1,000"),
    *TROUBLE,
)
IDLE = (
    Column("sessions", "sessions"),
    Column("session_pss_kib", "PSS KiB/session", 1),
    Column("session_rss_kib", "RSS KiB/session", 1),
    Column("rest_largest_rss_mib", "at rest: RSS MiB of the largest process", 1),
    Column("rest_pss_mib", "at rest: PSS MiB of all", 1),
    Column("rest_processes", "processes"),
    Column("held_pss_mib", "with sessions: PSS MiB", 1),
    Column("held_processes", "processes"),
)
ACCEPT = (
    Column("messages", "messages"),
    Column("accepted_per_s", "accepted/s"),
    Column("cpu_ms", "CPU ms/message", 2),
    Column("per_cpu_second", "accepted per CPU second"),
    Column("transaction_p50_ms", "connect to 250 p50 ms", 1),
    Column("transaction_p99_ms", "p99 ms", 1),
    Column("lost", "lost"),
    *TROUBLE,
)
BESIDE = (
    Column("messages", "fresh messages, five times"),
    Column("dead", "dead messages"),
    Column("alone_per_s", "fresh/s alone"),
    Column("beside_per_s", "beside them"),
    Column("share", "of the rate alone", 2),
    Column("ordered_per_s", "fresh/s while they are tried again"),
    Column("ordered_share", "of the rate alone", 2),
    Column("alone_cpu_ms", "CPU ms/fresh message alone", 2),
    Column("beside_cpu_ms", "beside them", 2),
    Column("ordered_cpu_ms", "while they are tried", 2),
    *LATENCY,
    *AUDIT,
    Column("queue_lost", "lost of the queue"),
    Column("largest_rss_mib", "RSS MiB of the largest process", 1),
)
QUEUE_TABLES: tuple[tuple[str, str, tuple[Column, ...]], ...] = (
    ("beside-refused", "Fresh mail beside a destination that refuses connections", BESIDE),
    ("beside-hanging", "Fresh mail beside a destination that accepts and hangs", BESIDE),
    ("beside-silent", "Fresh mail beside a destination that does not answer", BESIDE),
    (
        "restart",
        "Restart with a full queue",
        (
            Column("waiting", "waiting"),
            Column("ready_empty_s", "ready after s, empty queue", 2),
            Column("ready_s", "full queue", 2),
            Column("rest_pss_mib", "PSS MiB of all, empty queue", 1),
            Column("pss_mib", "full queue", 1),
            Column("largest_rss_mib", "RSS MiB of the largest process", 1),
            Column("peak_rss_mib", "at its peak", 1),
            *(Column(column.figure, f"fresh mail: {column.title}", column.decimals) for column in LATENCY),
            *AUDIT,
            Column("queue_lost", "lost of the queue"),
        ),
    ),
    (
        "drain",
        "Draining a held queue to one destination over TLS",
        (
            Column("messages", "messages"),
            Column("relayed_per_s", "relayed/s"),
            Column("first_ms", "order to first arrival ms"),
            Column("cpu_ms", "CPU ms/message", 2),
            Column("connections_per_1000", "connections out per 1,000"),
            *AUDIT,
            Column("left_in_queue", "left in the queue"),
        ),
    ),
    (
        "tens",
        "Messages of 10 MiB, ten sessions",
        (
            Column("messages", "messages"),
            Column("megabytes_per_s", "MB/s"),
            Column("cpu_ms", "CPU ms/message", 1),
            Column("growth_mib", "peak growth MiB, all processes", 1),
            Column("largest_growth_mib", "of one process", 1),
            *AUDIT,
            *TROUBLE,
        ),
    ),
    (
        "many",
        "One message for many recipients",
        (
            Column("recipients", "recipients"),
            Column("body_mib", "body MiB", 2),
            Column("stored_mib", "in the queue MiB", 2),
            Column("post_s", "taken in s", 2),
            Column("all_arrived_s", "release to last arrival s", 2),
            Column("transactions", "transactions out"),
            *AUDIT,
            Column("strangers", "recipients nobody named"),
            Column("left_in_queue", "left in the queue"),
        ),
    ),
    (
        "dns-hang",
        "Fresh mail while the DNS of other domains hangs",
        (
            Column("messages", "fresh messages"),
            Column("hanging", "messages to domains that hang"),
            Column("names_asked", "names asked for in vain"),
            Column("quiet_p50_ms", "quiet: p50 ms", 1),
            Column("quiet_p99_ms", "p99 ms", 1),
            Column("latency_p50_ms", "beside: p50 ms", 1),
            Column("latency_p99_ms", "p99 ms", 1),
            Column("p99_times_quiet", "p99, times quiet", 2),
            Column("latency_max_ms", "max ms", 1),
            *AUDIT,
            Column("queue_lost", "lost of the queue"),
        ),
    ),
    (
        "cold",
        "The first message for a domain, each answer of DNS after 20 ms",
        (
            Column("messages", "domains of each kind"),
            Column("none_rounds", "level none: rounds"),
            Column("none_p50_ms", "250 to arrival p50 ms", 1),
            Column("plain_rounds", "no DANE: rounds"),
            Column("plain_p50_ms", "250 to arrival p50 ms", 1),
            Column("dane_rounds", "DANE: rounds"),
            Column("dane_p50_ms", "250 to arrival p50 ms", 1),
            Column("beside_connection", "TLSA look-ups that were under way as the connection came, a domain", 2),
            Column("lost", "lost"),
        ),
    ),
)
TABLES: tuple[tuple[str, str, tuple[Column, ...]], ...] = (
    ("accept", "Accept only", ACCEPT),
    ("accept-tls", "Accept only, STARTTLS with client certificate", ACCEPT),
    ("relay", "Relay, plain", RELAY),
    ("relay-tls", "Relay, STARTTLS with client certificate in, pinned STARTTLS out", RELAY),
    ("paced", "Relay at 50 messages a second", RELAY),
    ("idle", "Idle sessions, plain", IDLE),
    ("idle-tls", "Idle sessions behind STARTTLS", IDLE),
    (
        "big",
        "Messages of 50 MB",
        (
            Column("messages", "messages"),
            Column("growth_mib", "peak growth MiB", 1),
            Column("megabytes_per_s", "MB/s"),
            *AUDIT,
        ),
    ),
    (
        "waiting",
        "A full queue, restarted",
        (
            Column("waiting", "waiting"),
            Column("filled_per_s", "filled/s"),
            Column("ready_s", "ready after s", 2),
            Column("largest_rss_mib", "RSS MiB of the largest process", 1),
            Column("pss_mib", "PSS MiB of all", 1),
            *(Column(column.figure, f"fresh mail: {column.title}", column.decimals) for column in LATENCY),
            *AUDIT,
            Column("queue_lost", "lost of the queue"),
        ),
    ),
    *QUEUE_TABLES,
)
COUNTS = frozenset({"messages", "sessions", "waiting", "lost", "duplicates", "queue_lost", "retries", "stalled"}) | {
    *("dead", "recipients", "body_mib", "left_in_queue", "strangers", "hanging", "names_asked"),
}


@dataclass(frozen=True, slots=True)
class Aim:
    """What we want of one of our figures, or (`ratio`) of its ratio to Postfix's."""

    figure: str
    title: str
    least: float | None = None
    most: float | None = None
    ratio: bool = False

    def reached(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        bound = f"at least {self.least:g}" if self.most is None else f"at most {self.most:g}"
        return f"{self.title}: {bound}"


NONE_LOST = (Aim("lost", "lost", most=0), Aim("duplicates", "duplicates", most=0))
KEPT = (*NONE_LOST, Aim("queue_lost", "lost of the queue", most=0))
SHARE = (
    Aim("share", "fresh mail's rate beside dead mail, times that without", least=0.9),
    Aim("ordered_share", "the same while all of that is tried again", least=0.9),
    *KEPT,
)
AIMS: Mapping[str, tuple[Aim, ...]] = {
    "beside-refused": SHARE,
    "beside-hanging": SHARE,
    "beside-silent": SHARE,
    "restart": (
        Aim("ready_s", "seconds to the first greeting", most=5),
        Aim("peak_rss_mib", "MiB of the largest process at its peak", most=150),
        *KEPT,
    ),
    "drain": (Aim("relayed_per_s", "messages a second, times Postfix's", least=2, ratio=True), *NONE_LOST),
    "tens": (
        Aim("megabytes_per_s", "MB/s, times Postfix's", least=1, ratio=True),
        Aim("growth_mib", "MiB over rest, all processes", most=20),
        *NONE_LOST,
    ),
    "many": (Aim("bodies", "bodies on the disk", most=2), *NONE_LOST),
    "dns-hang": (Aim("p99_times_quiet", "p99, times that of the quiet run", most=1.5), *KEPT),
    "cold": (Aim("dane_more_rounds", "rounds of DNS that DANE adds", most=1), Aim("lost", "lost", most=0)),
}


def markdown(results: Iterable[Result]) -> str:
    """The whole report."""
    runs = list(results)
    parts = [_machine(run["machine"]) for run in runs if "machine" in run]
    for workload, title, columns in TABLES:
        mine = [run for run in runs if run.get("workload") == workload]
        if mine:
            parts.append(f"## {title}\n\n{_table(mine, columns)}{_aims(mine, AIMS.get(workload, ()))}")
    return "\n\n".join(parts) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in machine.items())])


def _table(runs: Sequence[Result], columns: Sequence[Column]) -> str:
    servers = sorted({run["server"] for run in runs}, key=lambda name: (name != OURS, name))
    good = {name: [run["figures"] for run in runs if run["server"] == name and "figures" in run] for name in servers}
    lines = [_row(["", "runs", *(column.title for column in columns)]), _row(["---"] * (len(columns) + 2))]
    for name in servers:
        cells = [_cell(_values(good[name], column), column.decimals) for column in columns]
        lines.append(_row([name, str(len(good[name])), *cells]))
    if good.get(OURS) and good.get(THEIRS):
        lines.append(_row([f"{OURS} : {THEIRS}", "", *(_ratio(good, column) for column in columns)]))
    failed = [f"{run['server']}, run {run['repeat'] + 1}, failed: {run['error']}" for run in runs if "error" in run]
    return "\n".join(lines + [f"\n{line}" for line in failed])


def _aims(runs: Sequence[Result], aims: Sequence[Aim]) -> str:
    """Each aim with what became of it, from the medians."""
    good = {name: [run["figures"] for run in runs if run["server"] == name and "figures" in run] for name in SERVERS}
    lines = [f"* {aim}; {_verdict(good, aim)}" for aim in aims if good[OURS]]
    return "".join(f"\n{line}" for line in ["", *lines] if lines)


def _verdict(good: Mapping[str, Sequence[Mapping[str, float]]], aim: Aim) -> str:
    ours, theirs = ([run[aim.figure] for run in good[name] if aim.figure in run] for name in SERVERS)
    if not ours or (aim.ratio and (not theirs or statistics.median(theirs) <= 0)):
        return "not measured"
    value = statistics.median(ours) / (statistics.median(theirs) if aim.ratio else 1)
    return f"{value:.3g}: " + ("reached" if aim.reached(value) else "**not reached**")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(values: Sequence[float], decimals: int) -> str:
    if not values:
        return "-"
    low, middle, high = (f"{value:,.{decimals}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def _values(figures: Iterable[Mapping[str, float]], column: Column) -> list[float]:
    """Of the runs that have one: a latency of no message is none."""
    return [run[column.figure] for run in figures if column.figure in run]


def _ratio(good: Mapping[str, Sequence[Mapping[str, float]]], column: Column) -> str:
    """Of the medians; none where the figure is a count, or Postfix's is zero."""
    ours, theirs = _values(good[OURS], column), _values(good[THEIRS], column)
    if column.figure in COUNTS or not ours or not theirs or statistics.median(theirs) <= 0:
        return ""
    return f"{statistics.median(ours) / statistics.median(theirs):.2f}"


def read(path: Path) -> list[Result]:
    """A result file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bench.report RESULTS.jsonl")
    print(markdown(read(Path(sys.argv[1]))), end="")
