"""The crash table of docs/queue.md: stopped, or failed, at every single operation, then started again.

A killed process keeps what it gave to the system, so this shows the order of names and contents. What a
power cut takes (that is: whether the syncs are there) is tests/power.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qmtls.spool.api import Attempt, Filing, SpoolError
from qmtls.spool.files import OsFiles
from qmtls.spool.maildir import MaildirSpool
from tests.spool.mail import BODY, ENVELOPE, Disk, Stopped, ids, octets, receive, store

DUE = 1_800_000_000.0
FIRST = Attempt(1.0, done=(0,), deferred=(1, 2), reasons=((1, "no"), (2, "no")))
SECOND = Attempt(2.0, done=(1,), deferred=(2,), reasons=((2, "no"),))
SPARES = 2
BIG = b"x" * 100_000
SHORT = b"short\r\n"
CONTENT = {"id1": BODY, "id2": BIG, "id3": BODY, "id4": SHORT, "id5": SHORT, "id6": BODY}

Confirmed = list[str]
Scene = Callable[[MaildirSpool, Confirmed], None]


def receiving(spool: MaildirSpool, confirmed: Confirmed) -> None:
    """A batch of a small and a streamed message, then one alone."""
    big = receive(spool, "id2", BIG[:60_000])
    big.flush()
    big.write(BIG[60_000:])
    batch = [receive(spool, "id1"), big]
    confirmed += [i.id for i, error in zip(batch, spool.commit(batch), strict=True) if error is None]
    confirmed += ["id3"] if spool.commit([receive(spool, "id3")]) == [None] else []


def recording(spool: MaildirSpool, confirmed: Confirmed) -> None:
    """A first attempt that moves the message, and a second where it is; beside it one that gets held."""
    hold = Filing("id3", Attempt(1.0, event="hold"), due=0.0, held=True)
    first, held = spool.record([Filing("id1", FIRST, due=DUE), hold])
    confirmed += ["first"] if first is None else []
    confirmed += ["held"] if held is None else []
    confirmed += ["second"] if spool.record([Filing("id1", SECOND, due=DUE + 1)]) == [None] else []


def removing(spool: MaildirSpool, confirmed: Confirmed) -> None:
    """One that was tried, one that never was."""
    spool.remove(["id1"])
    confirmed.append("id1")
    spool.remove(["id2"])
    confirmed.append("id2")


def reusing(spool: MaildirSpool, confirmed: Confirmed) -> None:
    """Messages come and go, and later ones are written over the files of earlier ones: as long, shorter, in a batch."""
    store(spool, "id1")
    spool.remove(["id1"])
    confirmed += ["id3"] if spool.commit([receive(spool, "id3")]) == [None] else []
    store(spool, "id4", SHORT)
    spool.remove(["id4"])
    batch = [receive(spool, "id2", BIG), receive(spool, "id5", SHORT)]
    confirmed += [i.id for i, error in zip(batch, spool.commit(batch), strict=True) if error is None]
    confirmed += ["id6"] if spool.commit([receive(spool, "id6")]) == [None] else []


def start_over(queue: Path) -> MaildirSpool:
    """The next start, on a disk that works. What it finds must be in order whatever happened before."""
    spool = MaildirSpool(queue / "1")
    spool.prepare()
    spool.tidy()
    spool.tidy()
    assert list((queue / "1" / "tmp").iterdir()) == []
    assert list(spool.foreign()) == []
    for id in ids(spool):
        assert octets(spool, id) == CONTENT[id]  # whole, or not there at all
        assert spool.envelope(id) == ENVELOPE
    assert {path.name for path in (queue / "1" / "log").iterdir()} <= set(ids(spool))
    assert not [id for id in ids(spool) if (queue / "1/new" / id).exists() and (queue / "1/cur" / id).exists()]
    return spool


def faults(scene: Scene, before: Callable[[Path], None], tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A fresh queue for each operation that the scene makes, and the operation's number; checks that it makes some."""
    disk = Disk()
    before(tmp_path / "count")
    spool = MaildirSpool(tmp_path / "count" / "1", disk, SPARES)
    already = len(disk.done)
    scene(spool, [])
    operations = len(disk.done)
    assert operations - already >= 4
    for n in range(already + 1, operations + 1):
        queue = tmp_path / f"{n}"
        before(queue)
        yield queue, n


def stop(queue: Path, n: int, after: bool, scene: Scene) -> Confirmed:
    disk = Disk(n, Stopped(), after)
    confirmed: Confirmed = []
    with pytest.raises(Stopped):
        scene(MaildirSpool(queue / "1", disk, SPARES), confirmed)
    disk.let_go()
    return confirmed


def nothing(queue: Path) -> None:
    queue.mkdir()


def three_waiting(queue: Path) -> None:
    spool = MaildirSpool(queue / "1")
    for id in ("id1", "id2", "id3"):
        store(spool, id, CONTENT[id])


def one_tried(queue: Path) -> None:
    three_waiting(queue)
    MaildirSpool(queue / "1").record([Filing("id1", FIRST, due=DUE)])


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_receiving(tmp_path: Path, after: bool) -> None:
    for queue, n in faults(receiving, nothing, tmp_path):
        confirmed = stop(queue, n, after, receiving)
        assert set(confirmed) <= set(ids(start_over(queue)))


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_writing_over_files(tmp_path: Path, after: bool) -> None:
    for queue, n in faults(reusing, nothing, tmp_path):
        confirmed = stop(queue, n, after, reusing)
        assert set(confirmed) <= set(ids(start_over(queue)))


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_recording(tmp_path: Path, after: bool) -> None:
    for queue, n in faults(recording, three_waiting, tmp_path):
        confirmed = stop(queue, n, after, recording)
        spool = start_over(queue)
        assert ids(spool) == ["id1", "id2", "id3"]
        check_recorded(spool, confirmed)
        lines = len(spool.history("id1"))
        assert spool.record([Filing("id1", SECOND, due=DUE + 9)]) == [None]
        assert spool.history("id1")[lines:] == (SECOND,)


def check_recorded(spool: MaildirSpool, confirmed: Confirmed) -> None:
    history = spool.history("id1")
    assert history == (FIRST, SECOND)[: len(history)]
    assert len(history) >= ("first" in confirmed) + ("second" in confirmed)
    waiting = {w.id: w for w in spool.scan()}
    assert waiting["id1"].due in (0.0, DUE, DUE + 1)
    if "first" in confirmed:
        assert waiting["id1"].due >= DUE
    if "second" in confirmed:
        assert waiting["id1"].due == DUE + 1
    if "held" in confirmed:
        assert waiting["id3"].held


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_removing(tmp_path: Path, after: bool) -> None:
    for queue, n in faults(removing, one_tried, tmp_path):
        confirmed = stop(queue, n, after, removing)
        spool = start_over(queue)
        assert not set(confirmed) & set(ids(spool))
        assert "id3" in ids(spool)
        if "id1" in ids(spool):  # then what was done is still known
            assert spool.history("id1") == (FIRST,)


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_starting(tmp_path: Path, after: bool) -> None:
    def before(queue: Path) -> None:
        one_tried(queue)
        (queue / "1/tmp/id8").write_bytes(b"half")
        (queue / "1/log/id9").write_bytes(b"{}\n")

    def starting(spool: MaildirSpool, confirmed: Confirmed) -> None:
        spool.prepare()
        spool.tidy()
        spool.remove(["id2"])
        spool.tidy()
        spool.record([Filing("id3", FIRST, due=DUE)])

    for queue, n in faults(starting, before, tmp_path):
        stop(queue, n, after, starting)
        spool = start_over(queue)
        assert {"id1", "id3"} <= set(ids(spool))
        assert spool.history("id1") == (FIRST,)


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_making_the_bin(tmp_path: Path, after: bool) -> None:
    disk = Disk()
    MaildirSpool(tmp_path / "count" / "1", disk)
    assert len(disk.done) > 6
    for n in range(1, len(disk.done) + 1):
        queue = tmp_path / f"{n}"
        with pytest.raises(Stopped):
            MaildirSpool(queue / "1", Disk(n, Stopped(), after))
        spool = start_over(queue)
        store(spool, "id1")
        assert ids(spool) == ["id1"]


TROUBLES = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS]


@pytest.mark.parametrize("number", TROUBLES)
def test_one_failure_while_receiving(tmp_path: Path, number: int) -> None:
    for queue, n in faults(receiving, nothing, tmp_path):
        disk = Disk(n, OSError(number, "trouble"))
        spool = MaildirSpool(queue / "1", disk)
        confirmed: Confirmed = []
        try:
            receiving(spool, confirmed)
        except SpoolError as error:  # from flush
            assert error.full == (number in (errno.ENOSPC, errno.EDQUOT))
        assert set(ids(spool)) == set(confirmed)  # what was refused is taken back at once
        store(spool, "id1")  # and the next message is served
        assert {"id1", *confirmed} <= set(ids(start_over(queue)))


@pytest.mark.parametrize("number", TROUBLES)
def test_the_answer_says_whether_the_disk_is_full(tmp_path: Path, number: int) -> None:
    for operation in ("create", "write", "sync", "rename"):
        disk = Disk()
        spool = MaildirSpool(tmp_path / f"{operation}" / "1", disk)
        disk.broken = {operation: OSError(number, "trouble")}
        (error,) = spool.commit([receive(spool, "id1")])
        assert error is not None
        assert error.full == (number in (errno.ENOSPC, errno.EDQUOT))
        assert "trouble" in str(error)
        disk.broken = {}
        assert ids(spool) == []
        assert list((spool.path / "tmp").iterdir()) == []


def test_a_directory_that_cannot_be_synced_confirms_nothing(tmp_path: Path) -> None:
    disk = Disk()
    spool = MaildirSpool(tmp_path / "queue" / "1", disk)
    start = len(disk.done)
    spool.commit([receive(spool, "id1"), receive(spool, "id2")])
    assert disk.done[-1] == "sync"  # nothing but the directory's sync is between the renames and the answer
    spool.remove(["id1", "id2"])
    disk.at, disk.fault = len(disk.done) * 2 - start - 2, OSError(errno.EIO, "trouble")
    results = spool.commit([receive(spool, "id1"), receive(spool, "id2")])
    assert all(isinstance(error, SpoolError) for error in results)
    assert ids(spool) == []


def test_a_batch_shares_its_directory_sync_and_syncs_each_file_before_its_rename(tmp_path: Path) -> None:
    disk = Disk()
    spool = MaildirSpool(tmp_path / "queue" / "1", disk)
    start = len(disk.done)
    spool.commit([receive(spool, f"id{n}") for n in range(3)])
    assert disk.done[start:] == ["create", "write"] * 3 + ["sync"] * 3 + ["close", "rename"] * 3 + ["sync"]


def test_a_line_is_synced_before_its_message_moves(tmp_path: Path) -> None:
    three_waiting(tmp_path / "queue")
    disk = Disk()
    spool = MaildirSpool(tmp_path / "queue" / "1", disk)
    start = len(disk.done)
    spool.record([Filing("id1", FIRST, due=DUE), Filing("id2", FIRST, due=DUE)])
    lines = ["append_to", "write"] * 2 + ["sync", "close"] * 2 + ["sync"]
    assert disk.done[start:] == lines + ["set_mtime", "rename"] * 2 + ["sync"]


def test_a_new_bin_is_synced_up_to_what_was_there(tmp_path: Path) -> None:
    synced: list[str] = []

    class Names(OsFiles):
        def sync(self, fd: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))

    spool = MaildirSpool(tmp_path / "queue" / "1", Names())
    assert set(synced) == {str(tmp_path), str(tmp_path / "queue"), str(spool.path)}
    synced.clear()
    MaildirSpool(spool.path, Names())  # whoever made it may not have come that far
    assert set(synced) >= {str(tmp_path / "queue"), str(spool.path)}


@pytest.mark.parametrize("number", TROUBLES)
def test_one_failure_while_recording(tmp_path: Path, number: int) -> None:
    for queue, n in faults(recording, three_waiting, tmp_path):
        spool = MaildirSpool(queue / "1", Disk(n, OSError(number, "trouble")))
        confirmed: Confirmed = []
        recording(spool, confirmed)
        assert len(confirmed) < 3
        for used in (spool, start_over(queue)):
            assert ids(used) == ["id1", "id2", "id3"]
            history = used.history("id1")
            assert history in ((), (FIRST,), (SECOND,), (FIRST, SECOND))
            assert ("first" not in confirmed) or FIRST in history
            assert ("second" not in confirmed) or SECOND in history


def test_a_file_that_cannot_be_removed_is_not_sent_for_ever(tmp_path: Path) -> None:
    three_waiting(tmp_path / "queue")
    disk = Disk()
    spool = MaildirSpool(tmp_path / "queue" / "1", disk)
    disk.broken = {"unlink": OSError(errno.EROFS, "read-only")}
    with pytest.raises(SpoolError, match="id1"):
        spool.remove(["id1"])
    assert ids(spool) == ["id2", "id3"]
    disk.broken = {}
    spool.remove(["id2"])
    assert ids(start_over(tmp_path / "queue")) == ["id3"]
