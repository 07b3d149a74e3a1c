"""Messages for the spool's tests, and a disk that stops or fails at a chosen operation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import Incoming, Spool
from qmtls.spool.files import OsFiles

ENVELOPE = Envelope(
    reverse_path=Address("alice", "a.example"),
    recipients=(
        Recipient(Address("bob", "b.example")),
        Recipient(Address("carol", "c.example"), (("NOTIFY", "NEVER"),)),
        Recipient(Address("dave", "d.example")),
    ),
    arrival=Arrival(1_795_000_000.25, "192.0.2.1", "client.example", "ESMTPS", "TLSv1.3", "alice@a.example"),
)
BODY = b"Subject: one\r\n\r\n.\r\nbody\r\n"


def receive(spool: Spool, id: str, content: bytes = BODY, envelope: Envelope = ENVELOPE) -> Incoming:
    incoming = spool.begin(id, envelope)
    incoming.write(content)
    return incoming


def store(spool: Spool, id: str, content: bytes = BODY, envelope: Envelope = ENVELOPE) -> None:
    assert spool.commit([receive(spool, id, content, envelope)]) == [None]


def octets(spool: Spool, id: str) -> bytes:
    return b"".join(spool.content(id).chunks())


class Stopped(BaseException):
    """The process is gone. Not an Exception: nothing in the program may handle it."""


# What changes the disk, or confirms a change. Reading is not counted, nor is start_writing, which is only a hint.
CHANGES = (
    *("create", "reuse", "append_to", "write", "patch", "cut", "sync", "close", "rename", "unlink"),
    *("set_mtime", "make_directory"),
)


class Disk(OsFiles):
    """The real operations, counted. At number `at` comes `fault`: before the operation, or after it if `after`.

    A Stopped disk stays stopped. An OSError comes once, or at every operation named in `broken`.
    """

    def __init__(self, at: int = 0, fault: BaseException | None = None, after: bool = False) -> None:
        super().__init__()
        self.at, self.fault, self.after = at, fault, after
        self.broken: dict[str, OSError] = {}
        self.done: list[str] = []
        self.stopped = False
        self.fds: set[int] = set()

    def __getattribute__(self, name: str) -> Any:
        real = super().__getattribute__(name)
        if name in CHANGES:
            return lambda *args: self._change(name, real, *args)
        return real

    def _change(self, name: str, real: Callable[..., Any], *args: Any) -> Any:
        if self.stopped:
            raise Stopped
        if name in self.broken:
            raise self.broken[name]
        self.done.append(name)
        now = self.fault is not None and len(self.done) == self.at
        self.stopped = now and isinstance(self.fault, Stopped)
        if now and not self.after:
            self._raise()
        try:
            result = real(*args)
        except OSError:
            if now:
                self._raise()
            raise
        if name in ("create", "append_to"):
            self.fds.add(result)
        elif name == "reuse":
            self.fds.add(result[0])
        elif name == "close":
            self.fds.discard(args[0])
        if now:
            self._raise()
        return result

    def _raise(self) -> None:
        assert self.fault is not None
        raise self.fault

    def let_go(self) -> None:
        """Closes what the stopped program left open."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


def cuts(text: bytes, step: int) -> Iterator[bytes]:
    for n in range(0, len(text), step):
        yield text[n : n + step]


def ids(spool: Spool) -> Sequence[str]:
    return sorted(waiting.id for waiting in spool.scan())
