"""How large a message may be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from qmtls.net.diskroom import RESERVE, disk_room, is_full

GIB = 1 << 30


def disk(monkeypatch: pytest.MonkeyPatch, size: int, free: int, files: int = 1000, left: int = 500) -> None:
    block = 4096
    blocks = (size // block, free // block, free // block)
    found = os.statvfs_result((block, block, *blocks, files, left, left, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: found)


def test_a_reserve_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 100 * GIB, 10 * GIB)
    assert disk_room(Path("/q")) == 10 * GIB - RESERVE


def test_the_reserve_of_a_small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 40 << 20, 30 << 20)
    assert disk_room(Path("/q")) == 28 << 20


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 100 * GIB, RESERVE // 2)
    assert disk_room(Path("/q")) == 0
    disk(monkeypatch, 100 * GIB, 10 * GIB, left=0)
    assert disk_room(Path("/q")) == 0


def test_file_systems_that_count_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 100 * GIB, 10 * GIB, files=0, left=0)
    assert disk_room(Path("/q")) > 0


def test_where_nobody_says(tmp_path: Path) -> None:
    assert disk_room(tmp_path / "none") == sys.maxsize
    assert 0 <= disk_room(tmp_path) < sys.maxsize


def test_full_is_a_disk_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 100 * GIB, RESERVE // 2)
    assert not is_full(Path("/q"))
    disk(monkeypatch, 100 * GIB, 0)
    assert is_full(Path("/q"))
    disk(monkeypatch, 100 * GIB, 10 * GIB, left=0)
    assert is_full(Path("/q"))
    disk(monkeypatch, 100 * GIB, 10 * GIB, files=0, left=0)
    assert not is_full(Path("/q"))
    monkeypatch.undo()
    assert not is_full(Path("/nowhere/at/all"))
