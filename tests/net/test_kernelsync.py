"""The kernel's own syncs, with real files and a reactor that the test turns by hand."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IReactorFDSet
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from qmtls.net import kernelsync
from qmtls.net.commit import Committer
from qmtls.net.kernelsync import ROOM, Errors, KernelSync, kernel_sync
from qmtls.spool.files import OsFiles
from qmtls.spool.maildir import MaildirSpool
from tests.spool.mail import BODY, ids, octets, receive

PATIENCE = 20.0  # seconds until a test that hangs fails


class Reactor:
    """As much of one as looks at descriptors."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def turn(self) -> None:
        poll = select.poll()
        for reader in self.readers:
            poll.register(reader, select.POLLIN)
        readable = {fd for fd, _ in poll.poll(PATIENCE * 1000)}
        assert readable, "nothing came"
        for reader in self.readers:
            if reader.fileno() in readable:
                reader.doRead()


@pytest.fixture
def reactor() -> Reactor:
    made = Reactor()
    directlyProvides(made, IReactorFDSet)
    return made


@pytest.fixture
def kernel(reactor: Reactor) -> Iterator[KernelSync]:
    made = kernel_sync(reactor)
    if made is None:
        pytest.skip("this kernel, or what we run in, has no asynchronous I/O")
    yield made
    if reactor.readers:
        made.close()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    fds = [os.open(tmp_path / f"{n}", os.O_CREAT | os.O_WRONLY) for n in range(5)]
    for fd in fds:
        os.write(fd, b"x" * 5000)
    yield fds
    for fd in fds:
        os.close(fd)


def test_files_and_directories(reactor: Reactor, kernel: KernelSync, files: list[int], tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    told: list[Errors] = []
    assert kernel.sync([*files, directory], told.append)
    assert told == []  # never in the turn that asks
    while not told:
        reactor.turn()
    assert told == [[None] * 6]
    os.close(directory)


def test_many_at_once_each_get_their_own_answer(reactor: Reactor, kernel: KernelSync, files: list[int]) -> None:
    told: list[tuple[int, Errors]] = []
    for n, fd in enumerate(files):
        assert kernel.sync([fd] * (n + 1), lambda errors, n=n: told.append((n, errors)))  # type: ignore[misc]
    while len(told) < len(files):
        reactor.turn()
    assert sorted(told) == [(n, [None] * (n + 1)) for n in range(len(files))]


def test_what_cannot_be_synced_is_refused(kernel: KernelSync) -> None:
    read, write = os.pipe()
    assert not kernel.sync([write], lambda errors: pytest.fail("told of it"))
    os.close(read)
    os.close(write)
    assert not kernel.sync([write], lambda errors: pytest.fail("told of it"))


def test_behind_one_that_cannot_the_rest_has_errors(reactor: Reactor, kernel: KernelSync, files: list[int]) -> None:
    read, write = os.pipe()
    told: list[Errors] = []
    assert kernel.sync([files[0], write, files[1]], told.append)
    while not told:
        reactor.turn()
    assert [error and error.errno for error in told[0]] == [None, errno.EAGAIN, errno.EAGAIN]
    os.close(read)
    os.close(write)


def test_one_descriptor_is_never_synced_twice_at_once(
    reactor: Reactor, kernel: KernelSync, files: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who come while it is under way share the next sync, which begins behind it."""
    log: list[str] = []
    hand_over = kernel._hand_over

    def noted(fds: Sequence[int], done: Callable[[Errors], object]) -> bool:
        log.append("begins")
        return hand_over(fds, done)

    monkeypatch.setattr(kernel, "_hand_over", noted)
    for n in range(4):
        assert kernel.sync(files[:1], lambda errors, n=n: log.append(f"{n} {errors}"))  # type: ignore[misc]
    assert log == ["begins"]
    while len(log) < 6:
        reactor.turn()
    assert log == ["begins", "begins", "0 [None]", "1 [None]", "2 [None]", "3 [None]"]
    assert kernel.sync(files[:1], lambda errors: log.append("4"))  # and nothing is left of it
    while log[-1] != "4":
        reactor.turn()


def test_who_waits_hears_of_a_refusal(
    reactor: Reactor, kernel: KernelSync, files: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Errors] = []
    assert kernel.sync(files[:1], told.append)
    assert kernel.sync(files[:1], told.append)
    monkeypatch.setattr(kernel, "_hand_over", lambda fds, done: False)
    while len(told) < 2:
        reactor.turn()
    assert sorted(str(error and error.errno) for (error,) in told) == sorted(["None", str(int(errno.EAGAIN))])


def fail(kernel: KernelSync, monkeypatch: pytest.MonkeyPatch, which: Callable[[int], bool]) -> None:
    """Those whose `data` is such fail with EIO."""
    call = kernel._call

    def failing(number: int, *arguments: Any) -> int:
        result: int = call(number, *arguments)
        for n in range(result if number == kernel._ends else 0):
            if which(kernel._over[n].data):
                kernel._over[n].result = -errno.EIO
        return result

    monkeypatch.setattr(kernel, "_call", failing)


def test_the_errors_of_the_disk_are_told(
    reactor: Reactor, kernel: KernelSync, files: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(kernel, monkeypatch, lambda data: data % (1 << 32) == 1)
    told: list[Errors] = []
    assert kernel.sync(files[:3], told.append)
    while not told:
        reactor.turn()
    assert [error and error.errno for error in told[0]] == [None, errno.EIO, None]


def test_only_so_many_at_once(reactor: Reactor, kernel: KernelSync, files: list[int]) -> None:
    told: list[Errors] = []
    assert kernel.sync(files[:1] * ROOM, told.append)
    assert not kernel.sync(files[:1], told.append)
    while not told:
        reactor.turn()
    assert kernel.sync(files[:1], told.append)
    while len(told) < 2:
        reactor.turn()


def test_a_fault_behind_one_hinders_no_other(
    reactor: Reactor, kernel: KernelSync, files: list[int], failures: list[Any]
) -> None:
    def fault(errors: Errors) -> None:
        raise RuntimeError("a fault")

    told: list[Errors] = []
    assert kernel.sync(files[:1], fault)
    assert kernel.sync(files[1:2], told.append)
    while not (told and failures):  # in any order
        reactor.turn()
    assert [event["log_failure"].type for event in failures] == [RuntimeError]
    failures.clear()


def test_readable_without_anything_over(kernel: KernelSync) -> None:
    kernel.doRead()


def test_closing_gives_the_descriptor_back(reactor: Reactor, kernel: KernelSync) -> None:
    fd = kernel.fileno()
    kernel.close()
    assert reactor.readers == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_elsewhere_there_is_none(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernelsync, "CALLS", dict.fromkeys(kernelsync.CALLS, (100_000,) * 4))
    assert kernel_sync(reactor) is None  # the call is unknown here, or forbidden
    monkeypatch.setattr(kernelsync, "CALLS", {})
    assert kernel_sync(reactor) is None
    monkeypatch.undo()
    assert kernel_sync(object()) is None  # looks at no descriptors
    assert reactor.readers == []


def _note(done: list[str], id: str, _: None) -> None:
    done.append(id)


def test_commits_go_by_the_kernel_and_not_by_the_thread(reactor: Reactor, kernel: KernelSync, tmp_path: Path) -> None:
    class NoSyncs(OsFiles):
        def sync(self, fd: int) -> None:
            pytest.fail("synced here")

    spool = MaildirSpool(tmp_path / "queue" / "1")
    spool._files = NoSyncs()
    committer = Committer(lambda f, *args: pytest.fail("went by the thread"), kernel)
    done: list[str] = []
    for id in ("one", "two", "three"):
        committer.commit(spool, receive(spool, id)).addCallback(partial(_note, done, id))
    while len(done) < 3:
        reactor.turn()
    assert done == ["one", "two", "three"]  # the second and third as one batch
    assert sorted(ids(spool)) == sorted(done)
    assert octets(spool, "two") == BODY
    spool.close()


@pytest.mark.parametrize(("step", "what"), [(0, "store one"), (1, "sync new")], ids=["file", "directory"])
def test_nothing_is_accepted_that_is_not_on_the_disk(
    reactor: Reactor, kernel: KernelSync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, what: str
) -> None:
    fail(kernel, monkeypatch, lambda data: data >> 32 == step)
    spool = MaildirSpool(tmp_path / "queue" / "1")
    failures: list[Failure] = []
    Committer(lambda f, *args: None, kernel).commit(spool, receive(spool, "one")).addErrback(failures.append)
    while not failures:
        reactor.turn()
    assert str(failures[0].value) == f"{what}: Input/output error"
    assert ids(spool) == []
    assert [path for path in (tmp_path / "queue").rglob("*") if path.is_file()] == []
    spool.close()


def test_what_the_kernel_refuses_the_thread_syncs(
    reactor: Reactor, kernel: KernelSync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "sync", lambda fds, done: False)
    spool = MaildirSpool(tmp_path / "queue" / "1")
    calls: list[Any] = []
    read, write = os.pipe()

    def back(f: Any, *args: Any) -> None:
        calls.append(lambda: f(*args))
        os.write(write, b"x")

    committer = Committer(back, kernel)
    done: list[None] = []
    committer.commit(spool, receive(spool, "one")).addCallback(done.append)
    while not done:
        os.read(read, 1)
        calls.pop(0)()
    assert ids(spool) == ["one"]
    spool.close()
    os.close(read)
    os.close(write)
