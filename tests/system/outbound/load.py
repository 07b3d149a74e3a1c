"""Clients that send as fast as they are answered, and remember what was acknowledged, through kills and restarts."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.system.outbound.sink import Taken

PATIENCE = 30.0
MARK = re.compile(rb"X-Number: (\d+)\r\n")
BODY = b"\r\n" + b"0123456789abcdef" * 4 + b"\r\n.not the end\r\n"


def message(number: int) -> bytes:
    return b"Subject: load\r\nX-Number: %d\r\n" % number + BODY


@dataclass
class Arrivals:
    """Counts what a sink took, by number; wrong content is remembered."""

    counts: Counter[int] = field(default_factory=Counter)
    damaged: list[bytes] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, taken: Taken) -> None:
        found = MARK.search(taken.content)
        number = int(found[1]) if found else -1
        with self._lock:
            self.counts[number] += 1
            if not taken.content.endswith(message(number)):
                self.damaged.append(taken.content)

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in self.counts.values())


@dataclass
class Load:
    """`connections` clients in threads. One that is cut off connects anew; what was not answered does not count."""

    port: int
    connections: int = 10
    recipient: bytes = b"bob@dest.test"
    acknowledged: set[int] = field(default_factory=set)
    refused: list[bytes] = field(default_factory=list)
    broken: int = 0
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.connections)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wait_for(self, more: int, seconds: float = PATIENCE) -> None:
        """Until `more` messages were acknowledged from now on."""
        goal, end = len(self.acknowledged) + more, time.monotonic() + seconds
        while len(self.acknowledged) < goal:
            assert time.monotonic() < end, f"{goal - len(self.acknowledged)} of {more} missing; {self.refused[:3]}"
            self._stop.wait(0.01)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
                    self._talk(connection)
            except OSError:
                self.broken += 1
                self._stop.wait(0.02)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = connection.makefile("rb")
        _reply(replies)
        connection.sendall(b"EHLO load.test\r\n")
        _reply(replies)
        head = b"MAIL FROM:<ann@a.test>\r\nRCPT TO:<" + self.recipient + b">\r\nDATA\r\n"
        while not self._stop.is_set():
            number = next(self.numbers)
            connection.sendall(head)
            answers = [_reply(replies) for _ in range(3)]
            if not answers[2].startswith(b"354"):
                self.refused.extend(answers)
                return
            connection.sendall(message(number).replace(b"\r\n.", b"\r\n..") + b".\r\n")
            answer = _reply(replies)
            if answer.startswith(b"250"):
                self.acknowledged.add(number)
            else:
                self.refused.append(answer)
        with suppress(OSError):
            connection.sendall(b"QUIT\r\n")
            _reply(replies)


def _reply(replies: object) -> bytes:
    """The last line of one reply; ConnectionError at the end."""
    while True:
        line: bytes = replies.readline()  # type: ignore[attr-defined]
        if not line.endswith(b"\n"):
            raise ConnectionError
        if line[3:4] != b"-":
            return line
