"""A next hop of our own that takes everything, fast: for foreign servers to relay to, for load, and for big messages.

One thread per connection, in the test process. Content is kept octet for octet. What should misbehave is a FakeMx.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.system.waiting import PATIENCE

SILENCE = 120.0  # seconds until a connection that says nothing is closed by us
_END = b"\r\n.\r\n"
_TRACE = re.compile(rb"(?:Received|Return-Path|Delivered-To|X-Original-To|Envelope-To|Delivery-Date):[^\n]*\n", re.I)


class _Over(Exception):
    """The client has gone."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One message as it came: MAIL's and RCPT's arguments, content without dot-stuffing, "TLSv1.3" or ""."""

    mail: str
    recipients: tuple[str, ...]
    content: bytes
    tls: str
    connection: int


def without_trace(content: bytes) -> bytes:
    """`content` without the trace fields at its head, folded lines included."""
    while found := _TRACE.match(content):
        end = found.end()
        while content[end : end + 1] in (b" ", b"\t"):
            end = content.index(b"\n", end) + 1
        content = content[end:]
    return content


@dataclass
class Sink:
    """A context manager. `keep` False: only `take` sees the messages."""

    context: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    take: Callable[[Taken], object] = lambda taken: None
    keep: bool = True
    messages: list[Taken] = field(default_factory=list)
    count: int = 0
    connections: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    closed: set[int] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()

    @property
    def open_connections(self) -> int:
        return self.connections - len(self.closed)

    def wait_for(self, count: int, seconds: float = PATIENCE) -> list[Taken]:
        """The messages, once `count` of them were taken."""
        end = time.monotonic() + seconds
        with self._changed:
            while self.count < count:
                left = end - time.monotonic()
                assert left > 0, f"{self.count} of {count} messages by {self.connections} connections in {seconds:g} s"
                self._changed.wait(left)
        return self.messages

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        session = _Session(self, connection, number)
        with suppress(OSError, _Over):
            session.run()
        session.close()
        self.closed.add(number)

    def took(self, taken: Taken) -> None:
        """Before the 250: who reads that may look at once."""
        self.take(taken)
        with self._changed:
            self.count += 1
            if self.keep:
                self.messages.append(taken)
            self._changed.notify_all()


class _Session:
    def __init__(self, sink: Sink, connection: socket.socket, number: int) -> None:
        self._sink = sink
        self._plain = connection
        self._socket = connection
        self._number = number
        self._buffer = b""
        self._mail = ""
        self._recipients: list[str] = []

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()
        self._plain.close()

    def run(self) -> None:
        self._plain.settimeout(SILENCE)
        self._plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(b"220 sink.test ESMTP\r\n")
        while True:
            line = self._line()
            if answer := self._answer(line, line[:4].upper()):
                self._socket.sendall(answer)

    def _answer(self, line: bytes, verb: bytes) -> bytes:
        match verb:
            case b"EHLO":
                starttls = self._sink.context is not None and self._socket is self._plain
                offer = b"250-STARTTLS\r\n" if starttls else b""
                return b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n" + offer + b"250 SIZE 104857600\r\n"
            case b"STAR":
                self._start_tls()
                return b""
            case b"MAIL":
                self._mail, self._recipients = line[10:].decode(), []
            case b"RCPT":
                self._recipients.append(line[8:].decode())
            case b"DATA":
                self._socket.sendall(b"354 go on\r\n")
                self._content()
            case b"QUIT":
                self._socket.sendall(b"221 bye\r\n")
                raise _Over
        return b"250 ok\r\n"

    def _receive(self) -> bytes:
        data = self._socket.recv(262_144)
        if not data:
            raise _Over
        return data

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._buffer += self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _start_tls(self) -> None:
        assert self._sink.context is not None
        self._socket.sendall(b"220 go ahead\r\n")
        self._socket = self._sink.context.wrap_socket(self._plain, server_side=True)

    def _content(self) -> None:
        pieces = [b"\r\n" + self._buffer]
        tail = pieces[0]
        while _END not in tail:
            data = self._receive()
            pieces.append(data)
            tail = tail[-4:] + data
        stuffed, _, self._buffer = b"".join(pieces).partition(_END)
        content = (stuffed + b"\r\n").replace(b"\r\n..", b"\r\n.")[2:]
        tls = self._socket.version() if isinstance(self._socket, ssl.SSLSocket) else ""
        self._sink.took(Taken(self._mail, tuple(self._recipients), content, tls or "", self._number))
