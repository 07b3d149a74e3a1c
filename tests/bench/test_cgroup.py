"""Without control groups: who belongs to a server, and what it used, from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench import cgroup

# A parent that starts a child in a session of its own, says its id, and ends at the first line of input.
PARENT = """
import subprocess
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, start_new_session=True)
print(child.pid, flush=True)
input()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def test_the_tree_keeps_who_lost_its_parent_and_ends_it(parent: subprocess.Popen[str]) -> None:
    tree = cgroup.ProcessTree()
    tree.started(parent.pid)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert sorted(tree.pids()) == sorted([parent.pid, child])
    assert cgroup.memory(tree).processes == 2
    parent.communicate("\n")
    assert tree.pids() == [child]
    cgroup.end(tree)
    assert tree.pids() == []


def test_cpu_time_is_counted() -> None:
    tree = cgroup.ProcessTree()
    tree.started(os.getpid())
    before, limit = tree.cpu_seconds(), time.process_time() + 0.1
    while time.process_time() < limit:
        pass
    assert tree.cpu_seconds() - before >= 0.05


def test_growth_of_a_process_is_seen() -> None:
    tree = cgroup.ProcessTree()
    tree.started(os.getpid())
    before = cgroup.reset_peaks(tree)
    if os.getpid() not in before:
        pytest.skip("/proc/PID/clear_refs cannot be written")
    held = b"x" * 32 * 1024 * 1024
    del held
    assert cgroup.peak_growth(before) >= 24 * 1024 * 1024
