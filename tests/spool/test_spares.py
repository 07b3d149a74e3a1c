"""Files used again: when, for what, and what anybody else can see of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmtls.spool.api import Attempt, Filing
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.record import encode_envelope
from qmtls.spool.spares import SMALL
from tests.spool.mail import BODY, ENVELOPE, Disk, ids, octets, receive, store


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def spool(tmp_path: Path, disk: Disk) -> Iterator[MaildirSpool]:
    made = MaildirSpool(tmp_path / "queue" / "1", disk, spares=3)
    yield made
    made.close()


def done(disk: Disk) -> list[str]:
    found = list(disk.done)
    disk.done.clear()
    return found


def spares(spool: MaildirSpool) -> list[str]:
    return sorted(path.name for path in (spool.path / "tmp").iterdir())


def one_ready(spool: MaildirSpool, disk: Disk) -> None:
    """id1 came and went, and a sync of the directory came behind it."""
    store(spool, "id1")
    spool.remove(["id1"])
    store(spool, "id2")
    disk.done.clear()


def test_a_file_is_written_over_only_after_a_sync_of_the_directory_that_it_left(
    spool: MaildirSpool, disk: Disk
) -> None:
    store(spool, "id1")
    spool.remove(["id1"])
    assert ids(spool) == []
    assert spares(spool) == ["id1"]
    disk.done.clear()
    store(spool, "id2")
    assert "create" in done(disk)
    store(spool, "id3")
    assert done(disk) == ["reuse", "write", "sync", "close", "rename", "sync"]
    assert spares(spool) == []
    assert ids(spool) == ["id2", "id3"]


def test_a_sync_that_began_before_does_not_count(spool: MaildirSpool, disk: Disk) -> None:
    store(spool, "id1")
    steps = spool.committing([receive(spool, "id2")])
    next(steps)()
    sync_directory = next(steps)
    real = disk.sync

    def sync(fd: int) -> None:
        spool.remove(["id1"])
        real(fd)

    disk.__dict__["sync"] = sync
    sync_directory()
    del disk.__dict__["sync"]
    assert list(steps) == []
    disk.done.clear()
    store(spool, "id3")
    assert "create" in done(disk)


def test_a_sync_that_failed_does_not_count(spool: MaildirSpool, disk: Disk) -> None:
    store(spool, "id1")
    spool.remove(["id1"])
    disk.done.clear()
    disk.at, disk.fault = 6, OSError(errno.EIO, "trouble")  # create write sync close rename *sync*
    assert spool.commit([receive(spool, "id2")]) != [None]
    disk.fault = None
    store(spool, "id3")
    assert done(disk).count("create") == 2
    store(spool, "id4")
    assert "reuse" in done(disk)


@pytest.mark.parametrize("length", [0, 1, len(BODY) - 1, len(BODY), len(BODY) + 1, 5000, SMALL * 2])
def test_what_is_written_is_all_that_is_in_the_file(spool: MaildirSpool, disk: Disk, length: int) -> None:
    one_ready(spool, disk)
    content = bytes(range(256)) * (length // 256 + 1)
    store(spool, "id3", content[:length])
    assert (spool.path / "new" / "id3").read_bytes() == encode_envelope(ENVELOPE, length) + content[:length]
    assert octets(spool, "id3") == content[:length]
    assert ("reuse" in done(disk)) == (length < SMALL)


def test_an_old_message_is_not_seen_through_its_name(spool: MaildirSpool, disk: Disk) -> None:
    one_ready(spool, disk)
    store(spool, "id3", b"another\r\n")
    assert not spool.has("id1")
    assert octets(spool, "id2") == BODY
    spool.remove(["id1"])  # a second time
    assert octets(spool, "id3") == b"another\r\n"


def test_a_copy_that_somebody_made_keeps_its_message(spool: MaildirSpool, disk: Disk, tmp_path: Path) -> None:
    store(spool, "id1")
    before = (spool.path / "new" / "id1").read_bytes()
    os.link(spool.path / "new" / "id1", tmp_path / "copy")
    spool.remove(["id1"])
    store(spool, "id2")
    store(spool, "id3", b"another\r\n")
    assert (tmp_path / "copy").read_bytes() == before
    assert spares(spool) == []


@pytest.mark.parametrize("harm", ["unlink", "chmod", "link", "directory"])
def test_a_spare_that_somebody_changed_is_not_used(spool: MaildirSpool, disk: Disk, harm: str) -> None:
    one_ready(spool, disk)
    spare = spool.path / "tmp" / "id1"
    if harm == "chmod":
        spare.chmod(0o644)
    else:
        spare.unlink()
        if harm == "link":
            spare.symlink_to(spool.path / "new" / "id2")
        elif harm == "directory":
            spare.mkdir()
    store(spool, "id3", b"another\r\n")
    assert octets(spool, "id2") == BODY
    assert octets(spool, "id3") == b"another\r\n"


def test_messages_that_were_tried_and_big_ones_are_unlinked(spool: MaildirSpool, disk: Disk) -> None:
    store(spool, "id1")
    spool.record([Filing("id1", Attempt(1.0, deferred=(0,)), due=2e9)])
    store(spool, "id2", b"x" * SMALL)
    spool.remove(["id1", "id2"])
    assert ids(spool) == []
    assert spares(spool) == []
    assert list((spool.path / "log").iterdir()) == []


def test_so_are_those_of_others(tmp_path: Path, disk: Disk) -> None:
    store(MaildirSpool(tmp_path / "queue" / "1"), "id1")
    spool = MaildirSpool(tmp_path / "queue" / "1", disk, spares=3)
    spool.remove(["id1"])
    assert spares(spool) == []


def test_no_more_are_kept_than_agreed(spool: MaildirSpool, disk: Disk) -> None:
    for n in range(5):
        store(spool, f"id{n}")
    spool.remove([f"id{n}" for n in range(5)])
    assert ids(spool) == []
    assert len(spares(spool)) == 3


def test_without_traffic_they_go_within_two_looks(spool: MaildirSpool, disk: Disk) -> None:
    one_ready(spool, disk)
    spool.remove(["id2"])  # this one has not cooled
    spool.tidy()
    spool.tidy()
    assert spares(spool) == []
    store(spool, "id3")
    assert ids(spool) == ["id3"]


def test_those_that_are_needed_stay(spool: MaildirSpool, disk: Disk) -> None:
    one_ready(spool, disk)
    for n in range(3, 9):
        spool.remove([f"id{n - 1}"])
        store(spool, f"id{n}")
        spool.tidy()
    assert "create" not in disk.done
    spool.tidy()
    spool.tidy()
    assert spares(spool) == []


def test_the_end_leaves_none(tmp_path: Path, disk: Disk) -> None:
    spool = MaildirSpool(tmp_path / "queue" / "1", disk, spares=3)
    one_ready(spool, disk)
    spool.remove(["id2"])
    assert len(spares(spool)) == 2
    spool.close()
    assert spares(spool) == []


def test_a_message_given_up_takes_its_spare_with_it(spool: MaildirSpool, disk: Disk) -> None:
    one_ready(spool, disk)
    disk.broken = {"write": OSError(errno.ENOSPC, "full")}
    (error,) = spool.commit([receive(spool, "id3")])
    assert error is not None
    assert error.full
    assert spares(spool) == []
    assert ids(spool) == ["id2"]


def test_one_rename_removes_it_at_once(spool: MaildirSpool, disk: Disk) -> None:
    store(spool, "id1")
    disk.done.clear()
    assert spool.remove_at_once("id1")
    assert done(disk) == ["rename"]
    assert ids(spool) == []
    assert not spool.remove_at_once("id1")
    spool.remove(["id1"])


def test_what_takes_longer_is_not_done_at_once(spool: MaildirSpool, disk: Disk) -> None:
    store(spool, "id1", b"x" * SMALL)
    for n in range(2, 6):
        store(spool, f"id{n}")
    assert not spool.remove_at_once("id1")
    assert [spool.remove_at_once(f"id{n}") for n in range(2, 6)] == [True, True, True, False]
    assert ids(spool) == ["id1", "id5"]
    spool.remove(["id1", "id5"])
    assert ids(spool) == []
