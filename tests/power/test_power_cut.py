"""What a power cut leaves of acknowledged mail: the order of writes on a real ext4, replayed after each 250.

The same run with a spool that leaves out the syncs of directories must lose mail, or the test would not notice a
loss. Needs root, FUSE and loop devices; skipped with the reason where they are missing.
"""

from __future__ import annotations

import importlib.util
import os
import random
import select
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from twisted.internet.interfaces import IReactorFDSet
from zope.interface import directlyProvides

from qmtls.net.kernelsync import Errors, KernelSync, kernel_sync
from qmtls.net.sharedsync import SharedSync
from qmtls.spool.api import Attempt, Filing, Malformed, SpoolError
from qmtls.spool.files import OsFiles
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.spares import Spares
from tests.power.logdisk import replay
from tests.spool.mail import BODY, ids, octets, receive

SIZE = 24 * 1024 * 1024  # octets: the least that mkfs gives a journal, and some room
MESSAGES = 20
CUTS = 60  # moments at which the power is cut, where any may matter
ROOT = Path(__file__).parents[2]


def _missing() -> str:
    if os.geteuid() != 0:
        return "not root: cannot mount"
    if not Path("/dev/fuse").exists():
        return "no /dev/fuse"
    for command in ("losetup", "mkfs.ext4", "mount", "umount", "fusermount3"):
        if shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"no {command}"
    if importlib.util.find_spec("mfusepy") is None:
        return "no mfusepy (the dev extra has it)"
    if subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode != 0:
        return "no loop device"
    return ""


pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def skip_without_devices() -> None:
    if reason := _missing():
        pytest.skip(reason)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def undo(stack: ExitStack, *command: str | Path) -> None:
    """Runs at the end, whatever happened; its own failure hinders nothing else."""
    stack.callback(subprocess.run, command, capture_output=True, check=False)


@contextmanager
def recorded_disk(place: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 on a logging disk: (where it is mounted, its log)."""
    fuse, mounted, image, log = place / "fuse", place / "mounted", place / "image", place / "log"
    for directory in (fuse, mounted):
        directory.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    with ExitStack() as stack:
        command: list[str | Path] = [sys.executable, "-m", "tests.power.logdisk", fuse, image, log]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        stack.callback(child.wait, 10)
        stack.callback(child.terminate)
        undo(stack, "fusermount3", "-u", "-z", fuse)
        assert child.stdout is not None
        stack.callback(child.stdout.close)
        assert child.stdout.readline() == b"ready\n", "the logging disk did not start"
        loop = run("losetup", "-f", "--show", fuse / "disk")
        undo(stack, "losetup", "-d", loop)
        run("mkfs.ext4", "-q", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", loop)
        run("mount", "-t", "ext4", loop, mounted)
        undo(stack, "umount", "-l", mounted)
        yield mounted, log


@contextmanager
def after_the_cut(place: Path, image: bytearray) -> Iterator[MaildirSpool]:
    """The queue as the next start finds it."""
    file, mounted = place / "cut", place / "after"
    mounted.mkdir(exist_ok=True)
    file.write_bytes(image)
    with ExitStack() as stack:
        run("mount", "-t", "ext4", "-o", "loop", file, mounted)
        undo(stack, "umount", mounted)
        spool = MaildirSpool(mounted / "queue" / "1")
        stack.callback(spool.close)
        spool.prepare()
        yield spool


class NoDirectorySync(OsFiles):
    """What qmail does: only files are synced."""

    def sync(self, fd: int) -> None:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            super().sync(fd)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How long the log was when something was confirmed, and what must be true from then on."""

    at: int
    id: str
    held: bool = False
    attempts: tuple[Attempt, ...] = ()


def work(mounted: Path, log: Path, files: OsFiles, batch: int) -> list[Confirmation]:
    """20 messages, acknowledged in batches; then one is tried and one held."""
    confirmed: list[Confirmation] = []
    spool = MaildirSpool(mounted / "queue" / "1", files)
    try:
        for first in range(0, MESSAGES, batch):
            names = [f"id{n:02}" for n in range(first, first + batch)]
            assert spool.commit([receive(spool, name) for name in names]) == [None] * batch
            confirmed.extend(Confirmation(log.stat().st_size, name) for name in names)
        tried, hold = Attempt(1.0, done=(0,)), Attempt(2.0, event="hold")
        assert spool.record([Filing("id00", tried, due=1.8e9)]) == [None]
        confirmed.append(Confirmation(log.stat().st_size, "id00", attempts=(tried,)))
        assert spool.record([Filing("id01", hold, due=0.0, held=True)]) == [None]
        confirmed.append(Confirmation(log.stat().st_size, "id01", held=True, attempts=(hold,)))
    finally:
        spool.close()
    return confirmed


def kept(spool: MaildirSpool, what: Confirmation) -> bool:
    if what.id not in ids(spool) or octets(spool, what.id) != BODY:
        return False
    held = next(waiting.held for waiting in spool.scan() if waiting.id == what.id)
    return spool.history(what.id)[: len(what.attempts)] == what.attempts and held >= what.held


def losses(place: Path, files: OsFiles, chance: random.Random | None = None, batch: int = 1) -> list[str]:
    """Everything confirmed that is missing after a power cut right behind some confirmation."""
    with recorded_disk(place) as (mounted, log):
        confirmed = work(mounted, log, files, batch)
    lost = []
    for n, last in enumerate(confirmed):
        with after_the_cut(place, replay(log, last.at, SIZE, chance)) as spool:
            lost += [f"{what.id} after confirmation {n}" for what in confirmed[: n + 1] if not kept(spool, what)]
    return lost


def test_nothing_confirmed_is_lost(tmp_path: Path) -> None:
    assert losses(tmp_path, OsFiles()) == []


def test_nothing_confirmed_is_lost_when_some_unflushed_writes_came_through(tmp_path: Path) -> None:
    assert losses(tmp_path, OsFiles(), random.Random(1)) == []


@pytest.mark.parametrize("chance", [None, random.Random(1)])
def test_one_sync_for_a_batch_is_as_good(tmp_path: Path, chance: random.Random | None) -> None:
    shared = SharedSync()
    used = []

    def counted(fd: int) -> bool:
        used.append(shared(fd))
        return used[-1]

    assert losses(tmp_path, OsFiles(counted), chance, batch=5) == []
    assert used == [True] * (MESSAGES // 5)


class KernelFiles(OsFiles):
    """Each sync is the kernel's own, waited for here."""

    def __init__(self) -> None:
        super().__init__()
        directlyProvides(self, IReactorFDSet)
        kernel = kernel_sync(self)
        if kernel is None:
            pytest.skip("this kernel, or what we run in, has no asynchronous I/O")
        self.kernel = kernel
        self.made = 0

    def addReader(self, reader: KernelSync) -> None: ...

    def removeReader(self, reader: KernelSync) -> None: ...

    def sync(self, fd: int) -> None:
        over: list[Errors] = []
        assert self.kernel.sync([fd], over.append)
        poll = select.poll()
        poll.register(self.kernel, select.POLLIN)
        while not over:
            poll.poll(10_000)
            self.kernel.doRead()
        assert over == [[None]]
        self.made += 1


@pytest.mark.parametrize("chance", [None, random.Random(1)])
def test_syncs_that_the_kernel_makes_are_as_good(tmp_path: Path, chance: random.Random | None) -> None:
    files = KernelFiles()
    assert losses(tmp_path, files, chance) == []
    assert files.made >= 2 * MESSAGES
    files.kernel.close()


def test_without_the_directory_sync_each_message_would_be_lost(tmp_path: Path) -> None:
    lost = losses(tmp_path, NoDirectorySync())
    assert len({line.split()[0] for line in lost}) == MESSAGES


def written_over(mounted: Path, log: Path) -> list[tuple[int, int]]:
    """Messages that come and go, three at a time in the queue; (how long the log was, number of the message)."""
    confirmed: list[tuple[int, int]] = []
    spool = MaildirSpool(mounted / "queue" / "1", OsFiles(), spares=4)
    for n in range(MESSAGES):
        assert spool.commit([receive(spool, f"id{n:02}", body_of(n))]) == [None]
        confirmed.append((log.stat().st_size, n))
        if n >= 2:
            spool.remove([f"id{n - 2:02}"])
    spool.close()
    return confirmed


def body_of(n: int) -> bytes:
    """Of one length for all, so that only the octets themselves tell a message from another, or from a mixture."""
    return b"%02d\r\n" % n * 2000


def wrong_after_cuts(place: Path, chance: random.Random) -> list[str]:
    """What is lost, or not as it was, after power cuts at many moments; what was removed may be there again."""
    with recorded_disk(place) as (mounted, log):
        confirmed = written_over(mounted, log)
    wrong = []
    first, last = confirmed[2][0], confirmed[-1][0]
    for cut in sorted(chance.sample(range(first, last), CUTS)):
        arrived = [n for at, n in confirmed if at <= cut]
        with after_the_cut(place, replay(log, cut, SIZE, chance)) as spool:
            found = set(ids(spool))
            wrong += [f"id{n:02} lost at {cut}" for n in arrived[-2:] if f"id{n:02}" not in found]
            for id in found:
                try:
                    good = octets(spool, id) == body_of(int(id[2:]))
                except (Malformed, SpoolError):
                    good = False
                if not good:
                    wrong.append(f"{id} changed at {cut}")
    return wrong


def test_files_written_over_hold_what_their_names_say(tmp_path: Path) -> None:
    assert wrong_after_cuts(tmp_path, random.Random(2)) == []


def test_written_over_at_once_they_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(spares: Spares, message: str, spare: str) -> bool:
        spares._files.rename(message, spare)
        spares._ready.append(spare)
        return True

    monkeypatch.setattr(Spares, "keep", keep)
    assert wrong_after_cuts(tmp_path, random.Random(2)) != []
