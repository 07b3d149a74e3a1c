"""The sync that a batch shares: only where it is known to serve, and not when others make it slow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmtls.net import sharedsync
from qmtls.net.sharedsync import PAUSE, SLOW, SharedSync


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    yield opened
    os.close(opened)


def mounts(place: Path, fd: int, system: str) -> Path:
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = f"1 1 0:999 / / rw - proc proc rw\n2 1 {number} / /x rw shared:1 - {system} d rw\n"
    (place / "mountinfo").write_text(lines)
    return place / "mountinfo"


class Watch:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(place: Path, fd: int, system: str, watch: Watch, *results: int, takes: float = 0.0) -> SharedSync:
    made = SharedSync(watch, mounts(place, fd, system))
    left = list(results)

    def syncfs(fd: int) -> int:
        watch.now += takes
        return left.pop(0)

    made._syncfs = syncfs
    return made


@pytest.mark.parametrize(
    ("system", "used"), [("ext4", True), ("xfs", True), ("btrfs", False), ("fuse.glusterfs", False)]
)
def test_only_file_systems_that_are_known_to_do_it(tmp_path: Path, fd: int, system: str, used: bool) -> None:
    assert make(tmp_path, fd, system, Watch(), 0)(fd) is used


def test_no_mount_table_no_shared_sync(tmp_path: Path, fd: int) -> None:
    made = SharedSync(Watch(), tmp_path / "absent")
    assert made(fd) is False


def test_after_an_error_each_file_is_asked_by_itself(tmp_path: Path, fd: int) -> None:
    """It may concern files of a later batch, and is told only once."""
    watch = Watch()
    made = make(tmp_path, fd, "ext4", watch, -1, 0)
    assert made(fd) is False
    watch.now += 2 * PAUSE
    assert made(fd) is False


def test_slow_ones_are_left_out_for_a_while(tmp_path: Path, fd: int) -> None:
    watch = Watch()
    made = make(tmp_path, fd, "ext4", watch, 0, 0, takes=SLOW * 2)
    assert made(fd) is True  # it was done, slow or not
    watch.now += PAUSE / 2
    assert made(fd) is False
    watch.now += PAUSE
    assert made(fd) is True


def test_old_kernels_do_not_tell_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    for release, found in (("5.7.19", False), ("5.8.0-generic", True), ("6.1", True), ("odd", False)):
        parts = (real[0], real[1], release, real[3], real[4])
        monkeypatch.setattr(os, "uname", lambda parts=parts: os.uname_result(parts))
        assert (sharedsync._find_syncfs() is not None) is found
