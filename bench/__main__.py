"""`python -m bench`: runs workloads against the servers in turn, and writes results and tables.

Everything listens on loopback, lies below one state directory, and is ended by process id. Servers, load client and
sink share the same two cores. A run that fails is noted as such; the others go on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench import certificates, cgroup, machine, names, queues, report, tools, workloads
from bench.postfix import Postfix
from bench.servers import Ports, Qmtls, Server, ServerError, sweep
from bench.workloads import Bench

CORES = 2
FILES = 65536  # descriptors for a server with a thousand sessions
WORKLOADS = {**workloads.WORKLOADS, **queues.WORKLOADS, **names.WORKLOADS}
GROUPS = {"queue": (*queues.WORKLOADS, *names.WORKLOADS)}
OURS_ONLY = queues.OURS_ONLY | names.OURS_ONLY
STATE_MODE = 0o755  # Postfix's own user must be able to pass


def main() -> int:
    """0 if every run gave figures."""
    wanted = _arguments()
    state: Path = wanted.state.resolve()
    state.mkdir(parents=True, exist_ok=True, mode=STATE_MODE)
    _prepare_process(wanted.cores)
    try:
        bench = _bench(wanted, state)
        servers = _servers(wanted, bench)
    except (tools.ToolError, ServerError) as problem:
        sys.exit(f"bench: {problem}")
    out: Path = wanted.out or state / time.strftime("results-%Y%m%d-%H%M%S.jsonl")
    results = [_machine(state, servers)]
    with out.open("w") as lines:
        print(json.dumps(results[0]), file=lines, flush=True)
        for repeat in range(wanted.repeats):
            for workload in wanted.workloads:
                for server in servers if repeat % 2 == 0 else servers[::-1]:
                    if workload in OURS_ONLY and server.name != Qmtls.name:
                        continue
                    results.append(_run(bench, workload, server, repeat))
                    print(json.dumps(results[-1]), file=lines, flush=True)
    sweep(state)
    text = report.markdown(results)
    if wanted.report:
        wanted.report.write_text(text)
    print(f"\n{text}\n{out}")
    return int(any("error" in result for result in results))


def _run(bench: Bench, workload: str, server: Server, repeat: int) -> report.Result:
    began = time.monotonic()
    result: dict[str, object] = {"workload": workload, "server": server.name, "repeat": repeat}
    try:
        figures = WORKLOADS[workload](bench, server)
        result["figures"] = {name: round(value, 3) for name, value in figures.items() if math.isfinite(value)}
        said = ", ".join(f"{name} {value:,.6g}" for name, value in figures.items())
    except (tools.ToolError, ServerError, OSError, subprocess.SubprocessError) as problem:
        result["error"] = said = str(problem)
    print(f"{workload} {server.name} {repeat + 1} ({time.monotonic() - began:.0f} s): {said}", flush=True)
    return result


def _machine(state: Path, servers: Sequence[Server]) -> report.Result:
    facts = machine.describe(state, os.sched_getaffinity(0))
    facts |= {server.name: server.version() for server in servers}
    return {"machine": facts | {"CPU time from": cgroup.available()}}


def _bench(wanted: argparse.Namespace, state: Path) -> Bench:
    if machine.file_system(state) in machine.IN_MEMORY:
        print(
            f"bench: {state} is in memory, where a sync costs nothing; --state names a place on a disk", file=sys.stderr
        )
    return Bench(
        tools=tools.build(),
        directory=state,
        ports=Ports(*range(wanted.port, wanted.port + 6)),
        certificates=certificates.make(state / "certificates"),
        messages=wanted.messages,
        idle=wanted.idle,
        waiting=wanted.waiting,
        scale=wanted.scale,
    )


def _servers(wanted: argparse.Namespace, bench: Bench) -> list[Server]:
    """Those named; without names all that can run here. ServerError if a named one cannot."""
    qmtls = Qmtls(bench.directory / "qmtls", bench.ports, bench.certificates)
    postfix = Postfix(bench.directory / "postfix", bench.ports, bench.certificates)
    qmtls.workers = wanted.workers
    missing = postfix.missing()
    if missing and wanted.servers is None:
        print(f"bench: without Postfix: {missing}", file=sys.stderr)
        return [qmtls]
    named = wanted.servers or [qmtls.name, postfix.name]
    if missing and postfix.name in named:
        raise ServerError(missing)
    return [server for server in (postfix, qmtls) if server.name in named]


def _prepare_process(cores: set[int] | None) -> None:
    """What servers and tools inherit: two cores, and as many open files as allowed. TERM ends them like ^C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.sched_setaffinity(0, cores or set(sorted(os.sched_getaffinity(0))[:CORES]))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if most < FILES else FILES, most))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add(
        "--workloads",
        type=_known(WORKLOADS),
        default=list(WORKLOADS),
        help=f"of {','.join(WORKLOADS)}; queue: from beside-refused on (all)",
    )
    add("--servers", type=_known((Qmtls.name, Postfix.name)), help="of qmtls,postfix (all that can run)")
    add("--repeats", type=int, default=3, help="runs of each (3)")
    add("--messages", type=int, default=5000, help="in a run (5000)")
    add("--idle", type=int, default=1000, help="idle sessions (1000)")
    add("--waiting", type=int, default=100_000, help="messages in the full queue (100000)")
    add("--scale", type=float, default=1.0, help="of the queue workloads, 0.1 for a tenth of their messages (1)")
    add("--workers", type=int, default=2, help="of qmtls (2)")
    add("--cores", type=_cores, help="for servers and tools together, as 0,1 (the first two)")
    add("--port", type=int, default=4650, help="first of six on loopback (4650)")
    add("--state", type=Path, default=Path(".bench"), help="scratch directory on the disk under test (.bench)")
    add("--out", type=Path, metavar="JSONL", help="results, one object a line (STATE/results-TIME.jsonl)")
    add("--report", type=Path, metavar="FILE", help="tables in Markdown")
    return parser.parse_args()


def _known(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        said = [name for word in text.split(",") for name in GROUPS.get(word, (word,))]
        unknown = [name for name in said if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return said

    return names


def _cores(text: str) -> set[int]:
    return {int(core) for core in text.split(",")}


if __name__ == "__main__":
    sys.exit(main())
