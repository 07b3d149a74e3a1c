"""Orders that meet a kill, each other, or the end of a message: what is on the disk afterwards is right."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qmtls.cli.bins import Entry, Queue
from qmtls.cli.orders import BOUNCING, GONE, HOLDING, RELEASING, REMOVING, RETRY, Batch, Order, carry_out
from qmtls.spool.api import BOUNCE, HOLD, Attempt, Filing, ordered_back, pending
from qmtls.spool.files import Files, OsFiles
from qmtls.spool.maildir import MaildirSpool
from tests.spool.mail import Disk, Stopped, octets, store

TRIED = Attempt(1.0, done=(0,), deferred=(1, 2), reasons=((1, "no"), (2, "no")))
DUE = 1_800_000_000.0
ORDERS = {"retry": RETRY, "hold": HOLDING, "release": RELEASING, "bounce": BOUNCING, "remove": REMOVING}
IDS = ("fresh", "tried", "held")


def fill(queue: Path) -> None:
    spool = MaildirSpool(queue / "1")
    for id in IDS:
        store(spool, id)
    hold = Attempt(2.0, reasons=((1, "held"),), event=HOLD)
    assert spool.record([Filing("tried", TRIED, DUE), Filing("held", TRIED, DUE)]) == [None, None]
    assert spool.record([Filing("held", hold, 0.0, held=True)]) == [None]
    spool.close()


def give(
    queue: Path, order: Order, files: Files | None = None, between: Callable[[], object] = lambda: None
) -> Sequence[str]:
    """As the command does; `between` reading and acting."""
    with Queue(queue, pytest.fail, files=files) as seen:
        entries = list(seen.find(IDS, 0.0))
        between()
        return carry_out(order, Batch(entries[0].bin, entries, "", pytest.fail))


def stops(tmp_path: Path, order: Order, after: bool) -> Iterator[Path]:
    """The queue after a kill at each operation of the order."""
    fill(tmp_path / "count")
    disk = Disk()
    give(tmp_path / "count", order, disk)
    assert len(disk.done) > 3
    for n in range(1, len(disk.done) + 1):
        queue = tmp_path / f"{n}"
        fill(queue)
        disk = Disk(n, Stopped(), after)
        with pytest.raises(Stopped):
            give(queue, order, disk)
        disk.let_go()
        yield queue


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ORDERS)
def test_killed_half_way(tmp_path: Path, name: str, after: bool) -> None:
    for queue in stops(tmp_path, ORDERS[name], after):
        spool = MaildirSpool(queue / "1")
        spool.prepare()
        there = {waiting.id: waiting for waiting in spool.scan()}
        if name != "remove":
            assert set(there) == set(IDS)
        for id in there:
            assert octets(spool, id)
            if id != "fresh":
                assert pending(3, spool.history(id)) == (1, 2), "who has it does not get it again"
        if name in ("retry", "hold") and "held" in there:
            assert there["held"].held, "what was held stays so"
        spool.close()
        assert give_again(queue, ORDERS[name]), "given again, it is carried out"


def give_again(queue: Path, order: Order) -> bool:
    spool = MaildirSpool(queue / "1")
    try:
        if not list(spool.scan()):
            return True
        give(queue, order)
        found = {waiting.id: waiting for waiting in spool.scan()}
        match order:
            case _ if order is HOLDING:
                return all(waiting.held for waiting in found.values())
            case _ if order is RELEASING:
                return not any(waiting.held or waiting.returning for waiting in found.values())
            case _ if order is BOUNCING:
                histories = [spool.history(id) for id in found]
                return all(w.returning for w in found.values()) and all(map(ordered_back, histories))
            case _ if order is REMOVING:
                return not found
            case _:
                return found["tried"].due < DUE
    finally:
        spool.close()


@pytest.mark.parametrize("name", ORDERS)
def test_a_message_that_goes_meanwhile(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    owner = MaildirSpool(tmp_path / "1")
    said = give(tmp_path, ORDERS[name], between=lambda: owner.remove(["tried"]))
    if name in ("retry", "hold", "bounce"):
        assert [word == GONE for word in said] == [False, True, False]
    assert not list((tmp_path / "1").rglob("tried"))


@pytest.mark.parametrize("name", ORDERS)
def test_an_attempt_that_ends_meanwhile(tmp_path: Path, name: str) -> None:
    """The first attempt: its end moves the message."""
    fill(tmp_path)
    owner = MaildirSpool(tmp_path / "1")
    give(tmp_path, ORDERS[name], between=lambda: owner.record([Filing("fresh", TRIED, DUE)]))
    found = {waiting.id: waiting for waiting in owner.scan()}
    if name == "remove":
        assert not found
        return
    assert owner.history("fresh")[0] == TRIED
    assert found["fresh"].held == (name == "hold")
    assert found["fresh"].returning == (name == "bounce")


@pytest.mark.parametrize("name", ["hold", "bounce"])
def test_an_attempt_that_ends_behind_the_order_does_not_undo_it(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    owner = MaildirSpool(tmp_path / "1")
    give(tmp_path, ORDERS[name])
    assert owner.record([Filing("fresh", TRIED, DUE), Filing("tried", TRIED, DUE)]) == [None, None]
    found = {waiting.id: waiting for waiting in owner.scan()}
    assert all(found[id].held if name == "hold" else found[id].returning for id in ("fresh", "tried"))


@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("second", ORDERS)
def test_an_order_that_was_read_before_another_was_given(tmp_path: Path, first: str, second: str) -> None:
    """One command reads the queue, another gives its order whole, then the first gives its own: as one of the two
    would leave it behind the other."""
    fill(tmp_path)
    give(tmp_path, ORDERS[second], between=lambda: give(tmp_path, ORDERS[first]))
    spool = MaildirSpool(tmp_path / "1")
    found = {waiting.id: waiting for waiting in spool.scan()}
    if "remove" in (first, second):
        assert not found
        return
    for waiting in found.values():
        order = next((one.event for one in reversed(spool.history(waiting.id)) if one.event != "attempt"), "")
        assert waiting.held == (order == HOLD), (waiting, order)
        assert waiting.returning == (order == BOUNCE), (waiting, order)


class Interrupted(OsFiles):
    """Calls somebody in the middle: the log has the order, the time of the file not yet."""

    def __init__(self, caller: Callable[[], object]) -> None:
        super().__init__()
        self._callers = [caller]

    def set_mtime(self, path: str, time: float) -> None:
        if self._callers:
            self._callers.pop()()
        super().set_mtime(path, time)


def test_two_commands_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The second one waits until the first is through."""
    fill(tmp_path)
    other = threading.Thread(target=give, args=(tmp_path, RELEASING))

    def call() -> None:
        other.start()
        other.join(0.5)

    give(tmp_path, BOUNCING, Interrupted(call))
    other.join(30)
    assert "another command gives orders here" in capfd.readouterr().err
    spool = MaildirSpool(tmp_path / "1")
    for waiting in spool.scan():
        order = next(one.event for one in reversed(spool.history(waiting.id)))
        assert (waiting.held, waiting.returning) == (order == HOLD, order == BOUNCE)


def test_a_log_that_cannot_be_written_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "1/log/fresh").mkdir()
    heard: list[str] = []
    with Queue(tmp_path, heard.append) as seen:
        entries = list(seen.find(["tried", "held"], 0.0))
        (tmp_path / "1/log/tried").unlink()
        (tmp_path / "1/log/tried").mkdir()
        batch = Batch(entries[0].bin, entries, "", heard.append)
        assert carry_out(BOUNCING, batch) == ["", "returns to its sender"]
    assert "tried: the order is not on the disk" in heard[0]
    assert not batch.full


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    fill(tmp_path)
    heard: list[str] = []
    disk = Disk()
    disk.broken["append_to"] = OSError(28, "No space left on device")
    with Queue(tmp_path, heard.append, files=disk) as seen:
        entries: list[Entry] = list(seen.find(IDS, 0.0))
        batch = Batch(entries[0].bin, entries, "", heard.append)
        assert list(carry_out(HOLDING, batch)) == ["", "", "was held already"]
    assert batch.full
    assert heard == [], "the command says it once, for all"


def test_a_message_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    heard: list[str] = []
    disk = Disk()
    disk.broken["unlink"] = OSError(30, "Read-only file system")
    with Queue(tmp_path, heard.append, files=disk) as seen:
        entries = list(seen.find(IDS, 0.0))
        assert list(carry_out(REMOVING, Batch(entries[0].bin, entries, "", heard.append))) == ["", "", ""]
    assert len(heard) == 3


class EndsMeanwhile(OsFiles):
    """An attempt that looked at the time before the order came sets its own behind it, once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if self._path.exists():
            super().set_mtime(str(self._path), DUE)


@pytest.mark.parametrize("name", ["hold", "bounce"])
def test_an_attempt_that_ends_in_the_very_same_moment(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    give(tmp_path, ORDERS[name], EndsMeanwhile(tmp_path / "1/cur/fresh"))
    found = {waiting.id: waiting for waiting in MaildirSpool(tmp_path / "1").scan()}["fresh"]
    assert (found.held, found.returning) == (name == "hold", name == "bounce")


def test_an_owner_that_cannot_be_told_is_no_reason_to_keep_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)

    def refuse(bin: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("qmtls.cli.orders.poke", refuse)
    heard: list[str] = []
    with Queue(tmp_path, heard.append) as seen:
        entries = list(seen.find(IDS, 0.0))
        said = carry_out(HOLDING, Batch(entries[0].bin, entries, "", heard.append))
        assert list(said) == ["held", "held", "was held already"]
        assert [line.partition("1/owner: ")[2][:17] for line in heard] == ["Permission denied"]
        heard.clear()
        assert carry_out(HOLDING, Batch(entries[2].bin, entries[2:], "", heard.append)) == ["was held already"]
        assert heard == [], "there is nothing to tell"


@pytest.mark.parametrize("name", ["retry", "hold"])
def test_a_time_that_cannot_be_set_is_named_and_the_others_are_done(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's file."""
    fill(tmp_path)
    spool = MaildirSpool(tmp_path / "1")
    store(spool, "theirs")
    assert spool.record([Filing("theirs", TRIED, DUE)]) == [None]
    set_time = os.utime

    def refuse(path: str, *args: Any, **more: Any) -> None:
        if str(path).endswith("theirs"):
            raise PermissionError(1, "Operation not permitted")
        set_time(path, *args, **more)

    monkeypatch.setattr(os, "utime", refuse)
    heard: list[str] = []
    with Queue(tmp_path, heard.append) as seen:
        entries = list(seen.find(["theirs", "tried"], 0.0))
        said = carry_out(ORDERS[name], Batch(entries[0].bin, entries, "", heard.append))
    assert list(said) == ["", "due now" if name == "retry" else "held"]
    assert len(heard) == 1
    assert "theirs" in heard[0]
    assert "Operation not permitted" in heard[0]


def test_a_bin_that_takes_no_orders_does_not_keep_the_others_from_theirs(tmp_path: Path) -> None:
    fill(tmp_path)
    heard: list[str] = []
    with Queue(tmp_path, heard.append) as seen:
        entries = list(seen.find(IDS, 0.0))
        (tmp_path / "1/log").rename(tmp_path / "1/elsewhere")
        assert list(carry_out(RETRY, Batch(entries[0].bin, entries, "", heard.append))) == [
            "was due already",
            "",
            "held",
        ]
    assert len(heard) == 1
