"""What the figures were measured on: processor, kernel, versions, and what a sync costs on the disk under test."""

from __future__ import annotations

import os
import platform
import ssl
import time
from pathlib import Path

PROBES = 100
OCTETS = b"x" * 4096
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def describe(state: Path, cores: set[int]) -> dict[str, str]:
    """Lines for the head of a report."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": f"{_processor()}, cores {', '.join(map(str, sorted(cores)))} of {os.cpu_count()}",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "OpenSSL of Python": ssl.OPENSSL_VERSION,
        "disk": f"{file_system(state)}, {1 / sync_seconds(state):,.0f} synced files of 4 KiB a second, one at a time",
    }


def file_system(place: Path) -> str:
    """The type of the file system that `place` is on."""
    found = (0, "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if place.resolve().is_relative_to(mount):
            found = max(found, (len(mount), kind))
    return found[1]


def sync_seconds(place: Path) -> float:
    """Of a new file, written and synced, and its directory synced."""
    probe = place / "sync-probe"
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    began = time.monotonic()
    for _ in range(PROBES):
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, OCTETS)
        os.fsync(fd)
        os.close(fd)
        os.fsync(directory)
        probe.unlink()
    seconds = time.monotonic() - began
    os.close(directory)
    return seconds / PROBES


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
