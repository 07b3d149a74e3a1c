"""What only a bin on a disk can show: strange files, rights, clearing up, streaming."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmtls.spool.api import Attempt, Filing, Malformed, NotInSpool, SpoolError, Waiting
from qmtls.spool.content import CHUNK
from qmtls.spool.files import OsFiles
from qmtls.spool.incoming import FLUSH_AT, MaildirIncoming
from qmtls.spool.listing import FOREIGN_LIMIT, HELD_MTIME
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.record import encode_envelope
from tests.spool.mail import BODY, ENVELOPE, Disk, ids, octets, receive, store

ATTEMPT = Attempt(1.0, done=(0,))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[MaildirSpool]:
    made = MaildirSpool(tmp_path / "queue" / "7")
    yield made
    made.close()


def test_the_file_is_the_message_under_one_header_field(spool: MaildirSpool) -> None:
    store(spool, "id1")
    assert spool.name == "7"
    assert (spool.path / "new" / "id1").read_bytes() == encode_envelope(ENVELOPE, len(BODY)) + BODY


@pytest.mark.parametrize("umask", [0, 0o777])
def test_rights_are_the_owners_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        spool = MaildirSpool(tmp_path / "queue" / "1")
        store(spool, "id1")
        spool.record([Filing("id1", ATTEMPT, due=2e9)])
    finally:
        os.umask(old)
    for path in (tmp_path / "queue").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_shared_sync_is_asked_by_a_descriptor_older_than_the_files(tmp_path: Path) -> None:
    """The system tells it only of what could not be written since it was opened."""
    asked: list[int] = []

    def shared(fd: int) -> bool:
        asked.append(fd)
        return False

    spool = MaildirSpool(tmp_path / "queue" / "1", OsFiles(shared))
    before = {int(name.name) for name in Path("/proc/self/fd").iterdir()}
    assert spool.commit([receive(spool, "id1"), receive(spool, "id2")]) == [None, None]
    assert spool.record([Filing(id, ATTEMPT, due=2e9) for id in ("id1", "id2")]) == [None, None]
    assert len(asked) == 2
    assert set(asked) <= before
    spool.close()


def test_content_in_tiny_pieces_costs_little_more_than_its_octets(spool: MaildirSpool) -> None:
    incoming = spool.begin("id1", ENVELOPE)
    octets_of = bytes(range(200, 203))
    count = FLUSH_AT // len(octets_of) - 1
    tracemalloc.start()
    for n in range(count):
        assert not incoming.write(octets_of[:2] + bytes([n & 127]))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * FLUSH_AT
    assert spool.commit([incoming]) == [None]
    assert octets(spool, "id1") == b"".join(octets_of[:2] + bytes([n & 127]) for n in range(count))


def test_a_listing_during_a_commit_leaves_its_messages_out(spool: MaildirSpool) -> None:
    """Whoever commits offers them for delivery: found by a listing too they would be sent twice."""
    steps = spool.committing([receive(spool, "id1"), receive(spool, "id2")])
    next(steps)()
    directory_sync = next(steps)
    assert sorted(path.name for path in (spool.path / "new").iterdir()) == ["id1", "id2"]
    assert not ids(spool)
    directory_sync()
    with pytest.raises(StopIteration):
        next(steps)
    assert ids(spool) == ["id1", "id2"]


def test_a_commit_that_is_given_up_leaves_its_messages_to_the_next_listing(spool: MaildirSpool) -> None:
    steps = spool.committing([receive(spool, "id1")])
    next(steps)()
    next(steps)
    steps.close()
    assert ids(spool) == ["id1"]


def test_a_second_start_finds_everything(spool: MaildirSpool) -> None:
    store(spool, "id1")
    spool.record([Filing("id1", ATTEMPT, due=1_800_000_000.0)])
    again = MaildirSpool(spool.path)
    assert list(again.scan()) == [Waiting("id1", 1_800_000_000.0)]
    assert again.history("id1") == (ATTEMPT,)


def test_due_times_that_no_file_system_keeps_are_bounded(spool: MaildirSpool) -> None:
    for due, found in ((-5.0, 86_400.0), (0.0, 86_400.0), (1e300, 2.0**31 - 1), (float("inf"), 2.0**31 - 1)):
        store(spool, "id1")
        spool.record([Filing("id1", ATTEMPT, due=due)])
        assert list(spool.scan()) == [Waiting("id1", found)]
        spool.remove(["id1"])


def test_held_is_marked_in_the_early_past(spool: MaildirSpool) -> None:
    store(spool, "id1")
    spool.record([Filing("id1", ATTEMPT, due=1_800_000_000.0, held=True)])
    assert (spool.path / "cur/id1").stat().st_mtime == HELD_MTIME


def test_foreign_files_are_named_and_left_alone(spool: MaildirSpool) -> None:
    store(spool, "id1")
    new, cur = spool.path / "new", spool.path / "cur"
    (new / "README").write_text("hello")
    (new / "directory1").mkdir()
    (cur / "link1").symlink_to("/etc/passwd")
    os.mkfifo(cur / "fifo1")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(new / "socket1"))
    (cur / "bad\udcff").write_text("")
    assert ids(spool) == ["id1"]
    assert sorted(spool.foreign()) == [
        "cur/bad\udcff: not a queue file's name",
        "cur/fifo1: not a regular file",
        "cur/link1: not a regular file",
        "new/README: not a queue file's name",
        "new/directory1: not a regular file",
        "new/socket1: not a regular file",
    ]
    sock.close()
    spool.prepare()
    assert (new / "README").exists()
    assert (cur / "link1").is_symlink()


def test_a_flood_of_foreign_names_is_not_kept(spool: MaildirSpool) -> None:
    for n in range(FOREIGN_LIMIT + 50):
        (spool.path / "new" / f"X{n}").touch()
    assert ids(spool) == []
    assert len(list(spool.foreign())) == FOREIGN_LIMIT
    assert ids(spool) == []
    assert len(list(spool.foreign())) == FOREIGN_LIMIT  # of the last scan, not of all


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "socket"])
def test_what_is_no_file_is_never_read(spool: MaildirSpool, kind: str) -> None:
    store(spool, "id1")
    path = spool.path / "new" / "id2"
    match kind:
        case "link":
            path.symlink_to(spool.path / "new" / "id1")
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            socket.socket(socket.AF_UNIX).bind(str(path))
    for read in (spool.envelope, spool.content):
        with pytest.raises(Malformed):
            read("id2")


class NoRights(OsFiles):
    def open(self, path: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")


def test_an_unreadable_file_is_malformed_not_trouble(spool: MaildirSpool) -> None:
    store(spool, "id1")
    for read in (MaildirSpool(spool.path, NoRights()).envelope, MaildirSpool(spool.path, NoRights()).history):
        with pytest.raises(Malformed, match="Permission denied"):
            read("id1")


class BadDisk(OsFiles):
    def read(self, fd: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


def test_a_read_error_is_trouble_not_malformed(spool: MaildirSpool) -> None:
    store(spool, "id1")
    spool.record([Filing("id1", ATTEMPT, due=2e9)])
    bad = MaildirSpool(spool.path, BadDisk())
    for read in (bad.envelope, bad.content, bad.history):
        with pytest.raises(SpoolError, match="Input/output"):
            read("id1")


@pytest.mark.parametrize("size", [20, CHUNK, 3 * CHUNK])
@pytest.mark.parametrize("change", [-1, -19, 1])
def test_a_file_that_was_cut_or_grew_is_never_sent(spool: MaildirSpool, size: int, change: int) -> None:
    store(spool, "id1", b"x" * size)
    path = spool.path / "new" / "id1"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x")
    for read in (spool.envelope, spool.content):
        with pytest.raises(Malformed, match=r"cut short|longer"):
            read("id1")


def test_every_cut_of_a_file_is_malformed(spool: MaildirSpool) -> None:
    store(spool, "id1")
    path = spool.path / "new" / "id1"
    data = path.read_bytes()
    for n in range(len(data)):
        path.write_bytes(data[:n])
        with pytest.raises(Malformed):
            spool.envelope("id1")


def test_a_file_that_is_cut_while_it_is_read(spool: MaildirSpool) -> None:
    store(spool, "id1", b"x" * (3 * CHUNK))
    chunks = spool.content("id1").chunks()
    assert next(chunks) == b"x" * CHUNK
    os.truncate(spool.path / "new" / "id1", CHUNK + CHUNK // 2)
    with pytest.raises(SpoolError, match="cut short"):
        list(chunks)


def test_big_content_can_be_read_after_it_moved_and_not_after_it_went(spool: MaildirSpool) -> None:
    store(spool, "id1", b"x" * (3 * CHUNK))
    content = spool.content("id1")
    spool.record([Filing("id1", ATTEMPT, due=2e9)])
    assert sum(map(len, content.chunks())) == content.size == 3 * CHUNK
    spool.remove(["id1"])
    with pytest.raises(NotInSpool):
        list(content.chunks())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_reading_leaves_no_descriptors(spool: MaildirSpool) -> None:
    store(spool, "id1", b"x" * (3 * CHUNK))
    before = open_files()
    for _ in range(3):
        spool.envelope("id1")
        chunks = spool.content("id1").chunks()
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        with pytest.raises(NotInSpool):
            spool.content("id2")
    receive(spool, "id3").abort()
    assert open_files() == before


def test_an_envelope_of_thousands_of_recipients(spool: MaildirSpool) -> None:
    many = dataclasses.replace(ENVELOPE, recipients=ENVELOPE.recipients * 5000)
    store(spool, "id1", BODY, many)
    assert spool.envelope("id1") == many
    assert octets(spool, "id1") == BODY


def test_a_streamed_message_keeps_little_in_memory(spool: MaildirSpool) -> None:
    incoming = spool.begin("id1", ENVELOPE)
    assert isinstance(incoming, MaildirIncoming)
    assert not incoming.write(b"x" * (FLUSH_AT - 1))
    assert incoming.write(b"x")
    incoming.flush()
    assert not incoming.write(b"x")
    assert (spool.path / "tmp" / "id1").stat().st_size > FLUSH_AT
    incoming.abort()
    assert list((spool.path / "tmp").iterdir()) == []


def test_an_abort_during_a_flush_is_carried_out_by_the_flush(tmp_path: Path) -> None:
    class AbortInWrite(OsFiles):
        def write(self, fd: int, parts: object) -> None:
            super().write(fd, parts)  # type: ignore[arg-type]
            incoming.abort()  # as from another thread, in the middle
            assert (tmp_path / "queue/1/tmp/id1").exists()

    spool = MaildirSpool(tmp_path / "queue" / "1", AbortInWrite())
    incoming = receive(spool, "id1")
    incoming.flush()
    assert not (tmp_path / "queue/1/tmp/id1").exists()
    with pytest.raises(SpoolError, match="given up"):
        incoming.flush()
    (error,) = spool.commit([incoming])
    assert error is not None


def test_an_abort_during_the_commit_comes_too_late(tmp_path: Path) -> None:
    class AbortInSync(OsFiles):
        def sync(self, fd: int) -> None:
            if incoming is not None:
                incoming.abort()
            super().sync(fd)

    incoming = None
    spool = MaildirSpool(tmp_path / "queue" / "1", AbortInSync())
    incoming = receive(spool, "id1")
    assert spool.commit([incoming]) == [None]
    assert octets(spool, "id1") == BODY


def test_the_start_empties_tmp(spool: MaildirSpool) -> None:
    store(spool, "id1")
    spool.record([Filing("id1", ATTEMPT, due=2e9)])
    (spool.path / "tmp/half").write_bytes(b"x")
    (spool.path / "tmp/link").symlink_to("/etc/passwd")
    (spool.path / "tmp/directory").mkdir()
    spool.prepare()
    assert [path.name for path in (spool.path / "tmp").iterdir()] == ["directory"]
    assert spool.history("id1") == (ATTEMPT,)


def test_young_files_in_tmp_can_be_spared(spool: MaildirSpool) -> None:
    old, young = spool.path / "tmp/old", spool.path / "tmp/young"
    for path, time in ((old, 1000.0), (young, 2000.0)):
        path.touch()
        os.utime(path, (time, time))
    spool.prepare(tmp_before=1500.0)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_torn_log_line_does_not_spoil_the_next(spool: MaildirSpool) -> None:
    store(spool, "id1")
    (spool.path / "log/id1").write_bytes(b'{"time":1.0,"done":[0')
    assert spool.history("id1") == ()
    spool.record([Filing("id1", ATTEMPT, due=2e9)])
    assert spool.history("id1") == (ATTEMPT,)


def test_a_mail_reader_may_look(spool: MaildirSpool) -> None:
    store(spool, "id1")
    store(spool, "id2")
    spool.record([Filing("id2", ATTEMPT, due=1_800_000_000.0)])
    (spool.path / "new/id1").rename(spool.path / "cur/id1:2,S")
    (spool.path / "cur/id2").rename(spool.path / "cur/id2:2,FS")
    spool.prepare()
    found = {w.id: w for w in spool.scan()}
    assert list(spool.foreign()) == []
    assert found["id2"] == Waiting("id2", 1_800_000_000.0)
    assert not found["id1"].held
    assert octets(spool, "id1") == BODY
    assert spool.history("id2") == (ATTEMPT,)


def test_a_mail_reader_may_look_while_a_message_is_sent(spool: MaildirSpool) -> None:
    """Nobody gets it again: what is finished goes under its other name, what is not keeps its record."""
    for id in ("id1", "id2", "other"):
        store(spool, id)
    (spool.path / "new/id1").rename(spool.path / "cur/id1:2,S")
    (spool.path / "new/id2").rename(spool.path / "cur/id2:2,S")
    assert not spool.remove_at_once("id1")
    spool.remove(["id1"])
    assert spool.record([Filing("id2", ATTEMPT, due=1_800_000_000.0)]) == [None]
    assert sorted(path.name for path in (spool.path / "cur").iterdir()) == ["id2"]
    assert spool.history("id2") == (ATTEMPT,)
    assert {w.id: w.due for w in spool.scan()} == {"id2": 1_800_000_000.0, "other": 0.0}


def test_a_mail_reader_may_look_while_an_attempt_is_filed(tmp_path: Path) -> None:
    class Looked(OsFiles):
        def set_mtime(self, path: str, time: float) -> None:
            if "/new/" in path:
                Path(path).rename(path.replace("/new/", "/cur/") + ":2,S")
            super().set_mtime(path, time)

    spool = MaildirSpool(tmp_path / "queue" / "1", Looked())
    store(spool, "id1")
    assert spool.record([Filing("id1", ATTEMPT, due=1_800_000_000.0)]) == [None]
    assert spool.history("id1") == (ATTEMPT,)
    assert list(spool.scan()) == [Waiting("id1", 1_800_000_000.0)]


def test_a_marked_copy_never_replaces_the_message(spool: MaildirSpool) -> None:
    store(spool, "id1")
    spool.record([Filing("id1", ATTEMPT, due=2e9)])
    (spool.path / "cur/id1:2,S").write_text("other")
    assert ids(spool) == ["id1"]
    assert list(spool.foreign()) == ["cur/id1:2,S: not a queue file's name"]
    assert octets(spool, "id1") == BODY


def test_a_scan_opens_no_file(tmp_path: Path) -> None:
    store(MaildirSpool(tmp_path / "queue" / "1"), "id1")
    assert ids(MaildirSpool(tmp_path / "queue" / "1", NoRights())) == ["id1"]


def test_a_message_that_goes_during_a_scan_is_skipped(spool: MaildirSpool) -> None:
    for id in ("id1", "id2"):
        store(spool, id)
        spool.record([Filing(id, ATTEMPT, due=2e9)])
    scan = spool.scan()
    first = next(scan)
    spool.remove(["id1", "id2"])
    assert {w.id for w in scan} <= {"id1", "id2"} - {first.id}


def test_a_bin_that_cannot_be_made_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("a file")
    with pytest.raises(SpoolError, match="open bin"):
        MaildirSpool(tmp_path / "queue" / "1")
    disk = Disk()
    disk.broken = {"make_directory": OSError(errno.ENOSPC, "No space left on device")}
    with pytest.raises(SpoolError) as caught:
        MaildirSpool(tmp_path / "other" / "1", disk)
    assert caught.value.full


def test_an_envelope_that_cannot_be_written_down_is_refused(spool: MaildirSpool) -> None:
    bad = dataclasses.replace(ENVELOPE, body="7BIT\r\n")
    (error,) = spool.commit([receive(spool, "id1", BODY, bad)])
    assert error is not None
    assert ids(spool) == []


def test_the_owners_time_between_two_steps_of_a_hold_does_not_win(tmp_path: Path) -> None:
    """Time, then move, by two processes: the attempt's time may come between the hold's time and its move."""

    class Owner(OsFiles):
        def rename(self, old: str, new: str) -> None:
            self.set_mtime(old, 1_900_000_000.0)
            super().rename(old, new)

    spool = MaildirSpool(tmp_path / "queue" / "1", Owner())
    store(MaildirSpool(tmp_path / "queue" / "1"), "id1")
    assert spool.record([Filing("id1", Attempt(1.0, event="hold"), 0.0, held=True)]) == [None]
    assert spool.look("id1") == Waiting("id1", 0.0, held=True)


def test_all_of_a_message_at_once(spool: MaildirSpool) -> None:
    store(spool, "id1")
    spool.record([Filing("id1", ATTEMPT, due=2e9)])
    found = spool.stored("id1")
    assert (found.waiting, found.envelope, found.size) == (Waiting("id1", 2e9), ENVELOPE, len(BODY))
    assert found.history == (ATTEMPT,)
    with pytest.raises(NotInSpool):
        spool.stored("nothere")


@pytest.mark.parametrize("torn", [b"", b"half of another"])
def test_a_file_that_was_used_again_while_it_was_read(tmp_path: Path, torn: bytes) -> None:
    class Reused(OsFiles):
        def read(self, fd: int, size: int, offset: int) -> bytes:
            path.rename(path.parent.parent / "tmp/id1")
            data = super().read(fd, size, offset)
            return torn + data

    spool = MaildirSpool(tmp_path / "queue" / "1", Reused())
    path = spool.path / "new/id1"
    store(MaildirSpool(spool.path), "id1")
    with pytest.raises(NotInSpool):
        spool.stored("id1")
