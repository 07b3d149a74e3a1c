"""`make run`: what it shows, that its next steps work as printed, and that it leaves nothing behind when stopped.

A copy in a directory of its own, so that a demonstration that somebody has running is left alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.house import ROOT
from tests.system.waiting import PATIENCE, wait_for


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/demo.py", tmp_path / "scripts/demo.py")
    yield tmp_path
    demo(tmp_path, "--stop")


def demo(directory: Path, *arguments: str) -> str:
    command = [sys.executable, "scripts/demo.py", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def shell(directory: Path, line: str) -> str:
    done = subprocess.run(
        line, shell=True, cwd=directory, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def pids(directory: Path) -> list[int]:
    return [int(path.read_text()) for path in sorted(directory.glob(".run/*/pid"))]


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def reloads(directory: Path) -> int:
    """How often alpha took up a change: it looks once a second, and a person types no faster."""
    return (directory / ".run/alpha/log").read_text().count("reloaded ")


def test_demonstration(directory: Path) -> None:
    said = demo(directory)
    refusal = said.index("S: 553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts; no valid cert")
    accepted = said.index("S: 250 2.0.0 ok ")
    delivered = said.index("(cert example@alpha.example)")
    assert refusal < accepted < delivered
    assert "Subject: Over TLS all the way" in said[delivered:]
    assert len(pids(directory)) == 2
    assert all(map(running, pids(directory)))

    # The next steps, as printed: another pin, a message, the queue; the right pin, again.
    steps = re.findall(r"^    (\S.*(?:\\\n.*)?)$", said.partition("To try next:")[2], re.MULTILINE)
    # A person waits a moment; we look again and again.
    wrong_pin, send, listing, right_pin, inbox = (step.removeprefix("sleep 3; ") for step in steps[:5])
    shell(directory, wrong_pin)
    wait_for(lambda: reloads(directory) == 1, "the wrong pin")
    shell(directory, send)
    wait_for(lambda: "pin file control/beta.example.pem" in shell(directory, listing), "the reason")
    shell(directory, right_pin)
    wait_for(lambda: len(shell(directory, inbox).split()) == 2, "the message")
    check, show = steps[5:7]
    shell(directory, check)
    assert "example@alpha.example" in shell(directory, show)

    # Once more ends the first pair.
    before = pids(directory)
    demo(directory)
    assert not any(map(running, before))
    last = pids(directory)
    assert "stopped alpha" in demo(directory, "--stop")
    assert not any(map(running, last))
