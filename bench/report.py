"""Results as Markdown: for each workload a table with median (lowest-highest) and the ratio to Postfix.

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
OURS, THEIRS = "qmtls", "postfix"


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
)
COUNTS = frozenset({"messages", "sessions", "waiting", "lost", "duplicates", "queue_lost", "retries", "stalled"})


def markdown(results: Iterable[Result]) -> str:
    """The whole report."""
    runs = list(results)
    parts = [_machine(run["machine"]) for run in runs if "machine" in run]
    for workload, title, columns in TABLES:
        mine = [run for run in runs if run.get("workload") == workload]
        if mine:
            parts.append(f"## {title}\n\n{_table(mine, columns)}")
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
