"""What all processes of one server use: CPU time and memory, and how they are ended.

A control group counts exactly, processes that have ended included: cgroup v2, else v1 with cpuacct. Where neither
can be written (no root), the tree of processes below the first one is added up from /proc; that misses what a
process used whose parent ended first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

V2 = Path("/sys/fs/cgroup")
V1 = Path("/sys/fs/cgroup/cpuacct")
TICK = os.sysconf("SC_CLK_TCK")
KIB = 1024
TERM_SECONDS = 5.0
KILL_SECONDS = 5.0
RESET_PEAK = "5"  # for /proc/PID/clear_refs: VmHWM becomes what is resident now


class Group(Protocol):
    """The processes of one server."""

    kind: str

    def enter(self) -> None:
        """Called in the new process, before it becomes the server."""

    def started(self, pid: int) -> None:
        """The first process is there."""

    def pids(self) -> list[int]:
        """All that live now."""

    def cpu_seconds(self) -> float:
        """User and system time so far, of the dead too."""

    def close(self) -> None:
        """After the last process has ended."""


class ControlGroup:
    """One directory below the hierarchy of version 2, or of version 1's cpuacct."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.kind = kind
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def enter(self) -> None:
        (self._directory / "cgroup.procs").write_text(str(os.getpid()))

    def started(self, pid: int) -> None:
        pass

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self._directory / "cgroup.procs").read_text().split()]

    def cpu_seconds(self) -> float:
        if self.kind == "cgroup v1":
            return int((self._directory / "cpuacct.usage").read_text()) / 1e9
        for line in (self._directory / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1e6
        raise OSError(f"{self._directory}/cpu.stat has no usage_usec")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._directory.rmdir()


@dataclass(frozen=True, slots=True)
class _Process:
    """From /proc/PID/stat. The start time tells a process from a later one with the same id."""

    parent: int
    start: int
    cpu_seconds: float  # its own, and that of children it has waited for
    is_dead: bool  # and not waited for yet


class ProcessTree:
    """The first process and all below it, as /proc shows them. Who was once seen there belongs to it for good."""

    kind = "/proc"

    def __init__(self) -> None:
        self._members: dict[int, int] = {}  # start time by process id

    def enter(self) -> None:
        pass

    def started(self, pid: int) -> None:
        found = dict(_processes())
        self._members = {pid: found[pid].start} if pid in found else {}

    def _living(self) -> dict[int, _Process]:
        all_ = {pid: found for pid, found in _processes() if not found.is_dead}
        living = {pid for pid, start in self._members.items() if pid in all_ and all_[pid].start == start}
        while more := {pid for pid, found in all_.items() if found.parent in living} - living:
            living |= more
        self._members |= {pid: all_[pid].start for pid in living}
        return {pid: all_[pid] for pid in living}

    def pids(self) -> list[int]:
        return list(self._living())

    def cpu_seconds(self) -> float:
        return sum(found.cpu_seconds for found in self._living().values())

    def close(self) -> None:
        pass


def _processes() -> Iterator[tuple[int, _Process]]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # no process, or one that has just gone
            pid = int(entry.name)
            state, parent, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
            used = sum(map(int, fields[9:13])) / TICK
            yield pid, _Process(int(parent), int(fields[17]), used, is_dead=state in "ZX")


def new_group(name: str) -> Group:
    """The most exact kind that this machine lets us make."""
    own = f"qmtls-bench-{os.getpid()}-{name}"
    with contextlib.suppress(OSError):
        if (V2 / "cgroup.controllers").exists():
            return ControlGroup(V2 / own, "cgroup v2")
        if (V1 / "cpuacct.usage").exists():
            return ControlGroup(V1 / own, "cgroup v1")
    return ProcessTree()


def available() -> str:
    """The kind of group that this machine lets us make."""
    probe = new_group("probe")
    probe.close()
    return probe.kind


def end(group: Group) -> None:
    """Ends what still lives of the group, by process id: all of it was started for it."""
    for number, patience in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        limit = time.monotonic() + patience
        for pid in group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while group.pids() and time.monotonic() < limit:
            time.sleep(0.02)
    group.close()


@dataclass(frozen=True, slots=True)
class Memory:
    """Octets. PSS shares out what several processes map; RSS counts it for each of them."""

    rss: int
    pss: int
    largest_rss: int
    processes: int


def memory(group: Group) -> Memory:
    """Of all processes that live now."""
    each = [sizes for pid in group.pids() if (sizes := _sizes(Path(f"/proc/{pid}/smaps_rollup")))]
    rss = [sizes.get("Rss", 0) for sizes in each]
    return Memory(sum(rss), sum(sizes.get("Pss", 0) for sizes in each), max(rss, default=0), len(each))


def reset_peaks(group: Group) -> dict[int, int]:
    """Makes each process's peak start anew; its resident octets now, by process id."""
    resident = {}
    for pid in group.pids():
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)
            resident[pid] = _sizes(Path(f"/proc/{pid}/status")).get("VmRSS", 0)
    return resident


def peak_growth(before: dict[int, int]) -> int:
    """By how many octets these processes had grown at most, each at its own moment, added up."""
    grown = 0
    for pid, resident in before.items():
        grown += max(0, _sizes(Path(f"/proc/{pid}/status")).get("VmHWM", 0) - resident)
    return grown


def largest_growth(before: dict[int, int]) -> int:
    """The same of the process that grew most."""
    return max((peak_growth({pid: resident}) for pid, resident in before.items()), default=0)


def largest_peak(group: Group) -> int:
    """The most octets that one process of the group had resident so far."""
    return max((_sizes(Path(f"/proc/{pid}/status")).get("VmHWM", 0) for pid in group.pids()), default=0)


def _sizes(path: Path) -> dict[str, int]:
    """The lines `Name: N kB` of a file in /proc as octets; nothing if the process is gone."""
    sizes = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[2] == "kB":
                sizes[words[0].rstrip(":")] = int(words[1]) * KIB
    return sizes
