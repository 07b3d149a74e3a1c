"""The load client and the sink: compiled on first use, run, and their logs compared."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
FLAGS = ("-O2", "-Wall", "-Wextra", "-std=gnu11")
LIBRARIES = ("-lssl", "-lcrypto")
LOAD_SECONDS = 1800.0  # longer than any run; the client itself ends when nothing moves for a minute
POLL_SECONDS = 0.05
STUCK_SECONDS = 45.0  # without an arrival: what has not come by then is lost
NS = 1e-9
MS = 1e-6  # of a nanosecond


class ToolError(Exception):
    """A tool cannot be built, or its run means nothing. One line."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the two programs are."""

    load: Path
    sink: Path


def build(into: Path = HERE / "bin") -> Tools:
    """Compiles what is older than its source. ToolError says what is missing."""
    into.mkdir(exist_ok=True)
    made = []
    for name in ("load", "sink"):
        program, source, shared = into / name, HERE / f"{name}.c", HERE / "link.h"
        newest = max(source.stat().st_mtime, shared.stat().st_mtime)
        if not program.exists() or program.stat().st_mtime < newest:
            _compile(source, program)
        made.append(program)
    return Tools(*made)


def _compile(source: Path, program: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise ToolError(
            "a C compiler (cc) is needed for the load client; on Debian: apt-get install gcc libc6-dev libssl-dev"
        )
    command = [compiler, *FLAGS, "-o", str(program), str(source), *LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if "openssl/" in done.stderr or "-lssl" in done.stderr:
            raise ToolError("OpenSSL's headers are needed for the load client; on Debian: apt-get install libssl-dev")
        raise ToolError(f"{' '.join(command)}:\n{done.stderr.strip()}")


def arguments(options: Mapping[str, object]) -> list[str]:
    """NAME=VALUE for each option; True is 1, False and None are left out."""
    said = {name: int(value) if isinstance(value, bool) else value for name, value in options.items() if value}
    return [f"{name}={value}" for name, value in said.items()]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a run of the load client did. Times in ns of the monotonic clock."""

    began: dict[str, int]  # by id, accepted messages only
    ended: dict[str, int]
    unknown: frozenset[str]  # the connection went after the last octet
    refused: int
    retries: int
    stalled: int
    first: int
    last: int

    @property
    def accepted(self) -> int:
        return len(self.ended)

    @property
    def rate(self) -> float:
        """Accepted messages a second, from the first connection to the last 250."""
        return self.accepted / max((self.last - self.first) * NS, 1e-6)

    def transactions_ms(self) -> list[float]:
        """From the connection (or the 250 before, in the same session) to the 250."""
        return [(self.ended[name] - began) * MS for name, began in self.began.items()]


def run_load(tools: Tools, log: Path, **options: object) -> Sent:
    """Runs the client to its end. ToolError if it could not send everything."""
    command = [str(tools.load), *arguments({"log": log, **options})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_SECONDS, check=False)
    if done.returncode:
        raise ToolError(f"load client: {done.stderr.strip() or f'status {done.returncode}'}")
    counts = json.loads(done.stdout)
    began, ended, unknown = {}, {}, set()
    for line in log.read_text().splitlines():
        name, begin, finish, code = line.split()
        if code == "250":
            began[name], ended[name] = int(begin), int(finish)
        elif code == "0":
            unknown.add(name)
    return Sent(
        began=began,
        ended=ended,
        unknown=frozenset(unknown),
        refused=counts["refused"],
        retries=counts["retries"],
        stalled=counts["stalled"],
        first=counts["first_ns"],
        last=counts["last_ns"],
    )


class HeldSessions:
    """Sessions that do nothing after their EHLO, for as long as the context lasts."""

    def __init__(self, tools: Tools, **options: object) -> None:
        self._command = [str(tools.load), *arguments({"hold": True, **options})]
        self.held = 0

    def __enter__(self) -> HeldSessions:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ToolError(f"load client: status {self._process.wait()}")
        self.held = json.loads(line)["held"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class Counts:
    """The sink's counters. `last_ns`: the last arrival."""

    arrived: int
    octets: int
    connections: int
    most: int
    handshakes: int
    resumed: int
    last_ns: int


class Sink:
    """The sink as a child process, from __enter__ to close()."""

    def __init__(self, tools: Tools, log: Path, **options: object) -> None:
        """`options` are those of sink.c: port, host, cert and key, recipients."""
        self._log = log
        self._command = [str(tools.sink), *arguments({"log": log, **options})]

    def __enter__(self) -> Sink:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.counts()  # it listens before it answers
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends it; its log is complete then."""
        self._process.communicate()

    def counts(self) -> Counts:
        """The counters now. ToolError if the sink has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return Counts(**json.loads(self._process.stdout.readline()))
        except (OSError, ValueError) as problem:
            raise ToolError(f"the sink has ended with status {self._process.wait()}") from problem

    def wait_for(self, arrivals: int) -> Counts:
        """Until so many messages are here in all, or none has come for a long while."""
        seen, since = -1, time.monotonic()
        while True:
            counts = self.counts()
            if counts.arrived >= arrivals or time.monotonic() - since > STUCK_SECONDS:
                return counts
            if counts.arrived != seen:
                seen, since = counts.arrived, time.monotonic()
            time.sleep(POLL_SECONDS)

    def arrivals(self) -> dict[str, list[int]]:
        """After close(): the times at which each id came."""
        came: dict[str, list[int]] = {}
        for name, _, at in self.log():
            came.setdefault(name, []).append(at)
        return came

    def log(self) -> list[tuple[str, int, int]]:
        """After close(), for each message: its id, when its connection came, and when it was there."""
        lines = (line.rsplit(" ", 2) for line in self._log.read_text().splitlines())
        return [(name, int(connected), int(at)) for name, connected, at in lines]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was acknowledged against what arrived."""

    lost: int
    duplicates: int
    latencies_ms: list[float]  # from the 250 to the arrival


def audit(sent: Sent, arrivals: dict[str, list[int]]) -> Audit:
    """Ids decide. A message of unknown fate may have arrived or not, but once."""
    came = {name: times for name, times in arrivals.items() if name in sent.ended or name in sent.unknown}
    return Audit(
        lost=len(sent.ended.keys() - came.keys()),
        duplicates=sum(len(times) - 1 for times in came.values()),
        latencies_ms=[(came[name][0] - ended) * MS for name, ended in sent.ended.items() if name in came],
    )


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of all do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else math.nan
