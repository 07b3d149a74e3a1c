"""What the kernel knows of a process: memory and open files."""

from __future__ import annotations

import re
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


def resident(pid: int) -> int:
    """Octets of memory in use now."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """The most octets that were ever in use since the start, or since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * KIB


def open_files(pid: int) -> list[str]:
    """What its descriptors are, sorted; sockets and the like without their number."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(re.sub(r"\[\d+\]", "", str(link.readlink())))
        except FileNotFoundError:
            continue
    return sorted(found)
