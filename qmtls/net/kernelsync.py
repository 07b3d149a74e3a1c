"""Syncs that the kernel makes while the reactor goes on: Linux's asynchronous I/O (io_submit(2)).

A sync in a thread costs two hand-overs of the interpreter and a wake-up of the reactor, a sixth of all that an
accepted message costs. Here the reactor hands descriptors to the kernel, and a descriptor of its own (eventfd(2))
gets readable when they are on the disk. It means what fsync(2) means, on every file system, error for error.

Where there is no such thing (other systems, other processors, a sandbox that forbids it, all of the host's share taken)
`kernel_sync` gives None, and a thread syncs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

ROOM = 256  # syncs under way at once; /proc/sys/fs/aio-max-nr is for all processes of the host
# Numbers of io_setup, io_destroy, io_submit, io_getevents: glibc has no functions for them.
CALLS = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4), "riscv64": (0, 1, 2, 4)}
_FSYNC = 2  # IOCB_CMD_FSYNC
_TELL = 1  # IOCB_FLAG_RESFD: its end is told to an eventfd

Errors = list[OSError | None]

log = Logger()


class _Order(ctypes.Structure):
    """struct iocb of linux/aio_abi.h, on a little-endian processor."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("told", ctypes.c_int32),
    )


class _End(ctypes.Structure):
    """struct io_event: `data` is the order's own."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("order", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("more", ctypes.c_int64),
    )


class _Request:
    """Descriptors that were handed over together."""

    __slots__ = ("done", "errors", "left")

    def __init__(self, count: int, done: Callable[[Errors], object]) -> None:
        self.left = count
        self.errors: Errors = [None] * count
        self.done = done


@implementer(IReadDescriptor)
class KernelSync:
    """Belongs to one reactor and one process, which must not fork any more. OSError if the kernel does not let us."""

    def __init__(self, reactor: Any, calls: tuple[int, int, int, int]) -> None:
        setup, self._destroy, self._submit, self._ends = calls
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._context = ctypes.c_ulong(0)
        self._over = (_End * ROOM)()
        self._told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        if self._call(setup, ROOM, ctypes.byref(self._context)) != 0 or self._reap() != 0:
            problem = _error(ctypes.get_errno())
            self._give_back()
            raise problem
        self._orders = (_Order * ROOM)()
        for order in self._orders:
            order.opcode, order.flags, order.told = _FSYNC, _TELL, self._told
        self._pointers = (ctypes.c_void_p * ROOM)(*(ctypes.addressof(order) for order in self._orders))
        self._waiting: dict[int, list[Callable[[Errors], object]]] = {}  # for the next sync of one under way alone
        self._requests: dict[int, _Request] = {}
        self._numbers = 0
        self._under_way = 0
        self._reactor = reactor
        reactor.addReader(self)

    def sync(self, fds: Sequence[int], done: Callable[[Errors], object]) -> bool:
        """Calls `done`, in a later turn, with None or the error for each of `fds`, which may be closed only then.

        False: the kernel does not take them; sync them in another way.

        A descriptor that is handed over alone, as directories are, is never synced twice at once: without a journal a
        file system may find nothing to do for the second while the first still writes what both are about. Whoever
        comes meanwhile waits, and all who wait share the next sync.
        """
        if len(fds) == 1:
            waiting = self._waiting.get(fds[0])
            if waiting is not None:
                waiting.append(done)
                return True
            if self._hand_over(fds, partial(self._alone_over, fds[0], done)):
                self._waiting[fds[0]] = []
                return True
            return False
        return self._hand_over(fds, done)

    def _alone_over(self, fd: int, done: Callable[[Errors], object], errors: Errors) -> None:
        waiting = self._waiting.pop(fd)
        if waiting and not self.sync([fd], partial(_tell_all, waiting)):
            _tell_all(waiting, [_error(errno.EAGAIN)])
        done(errors)

    def _hand_over(self, fds: Sequence[int], done: Callable[[Errors], object]) -> bool:
        count = len(fds)
        if count > ROOM - self._under_way:
            return False
        number = self._numbers
        self._numbers = (number + 1) % (1 << 32)
        for n, fd in enumerate(fds):
            order = self._orders[n]
            order.fd = fd
            order.data = number << 32 | n
        taken = self._call(self._submit, self._context, count, self._pointers)
        if taken <= 0:
            return False
        self._requests[number] = request = _Request(count, done)
        self._under_way += taken
        if taken < count:  # the next one is refused, and with it the rest
            request.left = taken
            request.errors[taken:] = [_error(errno.EAGAIN)] * (count - taken)
        return True

    def doRead(self) -> None:
        """Some are over."""
        try:
            os.eventfd_read(self._told)
        except BlockingIOError:
            return
        # At most ROOM are under way, so this is all of them.
        for n in range(self._reap()):
            end = self._over[n]
            number, place = divmod(end.data, 1 << 32)
            request = self._requests[number]
            self._under_way -= 1
            request.left -= 1
            if end.result < 0:
                request.errors[place] = _error(-end.result)
            if not request.left:
                del self._requests[number]
                try:
                    request.done(request.errors)
                except Exception:  # a fault of ours; those who wait for the others get their answers
                    log.failure("behind a sync")

    def _reap(self) -> int:
        """How many ends stand in `_over` now; -1 if the kernel does not say."""
        over: int = self._call(self._ends, self._context, 0, ROOM, self._over, None)
        return over

    def close(self) -> None:
        """Gives everything back; what is under way is waited for, and told to nobody."""
        self._reactor.removeReader(self)
        self._give_back()

    def _give_back(self) -> None:
        self._call(self._destroy, self._context)
        os.close(self._told)

    def fileno(self) -> int:
        return self._told

    def logPrefix(self) -> str:
        return "syncs"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lets go of its readers at its end."""


def kernel_sync(reactor: Any) -> KernelSync | None:
    """For this process; None where threads must do."""
    calls = CALLS.get(platform.machine())
    if sys.platform != "linux" or calls is None or sys.maxsize < 1 << 32 or not IReactorFDSet.providedBy(reactor):
        return None
    try:
        return KernelSync(reactor, calls)
    except OSError:
        return None


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _tell_all(waiting: Sequence[Callable[[Errors], object]], errors: Errors) -> None:
    for done in waiting:
        try:
            done(list(errors))
        except Exception:  # as in `doRead`
            log.failure("behind a sync")
