"""A scripted mail server: a thread that answers each step as a test wants it, and records what it was told.

    with FakeMx({"RCPT": Do(b"450 4.2.0 later\\r\\n")}, tls=context) as mx:
        ... mx.port ... mx.messages ... mx.commands

Steps: "connect" (the greeting), "EHLO", "HELO", "STARTTLS", "handshake" (after the 220, before TLS), "MAIL", "RCPT",
"DATA", "content" (its end), "RSET", "NOOP", "QUIT". A step without an entry is answered as a good server would. A list
of Do is used up one by one, its last entry stays.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.system.waiting import wait_for

CRLF = b"\r\n"
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 10000000", "ENHANCEDSTATUSCODES")
GOOD = {
    "connect": b"220 fake.test ESMTP\r\n",
    "HELO": b"250 fake.test\r\n",
    "STARTTLS": b"220 2.0.0 go ahead\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go ahead\r\n",
    "content": b"250 2.0.0 taken\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "NOOP": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
}
NO_RECIPIENTS = b"503 5.5.1 no valid recipients\r\n"
UNKNOWN = b"500 5.5.1 unknown command\r\n"


@dataclass(frozen=True, slots=True)
class Do:
    """What happens at a step: after `delay` seconds `say` is sent (None: the good reply), in segments of `split` octets
    (0: whole), and `then` the session goes on, hangs, is closed, or is reset."""

    say: bytes | None = None
    then: Literal["go on", "hang", "close", "reset"] = "go on"
    delay: float = 0.0
    split: int = 0


Script = Mapping[str, Do | Sequence[Do]]


@dataclass(slots=True)
class Session:
    """One connection, as the server saw it."""

    number: int
    commands: list[str] = field(default_factory=list)  # as sent, "TLS " before those under TLS
    tls: str = ""  # protocol version
    sni: str = ""
    certificate: bytes | None = None  # the client's, DER
    handshake_error: str = ""
    open: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    sender: str  # as in MAIL FROM:<...>, with parameters
    recipients: tuple[str, ...]  # accepted ones
    content: bytes  # dots unstuffed, CRLF
    session: Session


class FakeMx:
    """`script` may be replaced while it runs; `extensions` and `tls` (a server context: STARTTLS is offered) too."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        extensions: Sequence[str] = EXTENSIONS,
        host: str = "127.0.0.1",
        port: int = 0,
        choose: Callable[[int], Script] | None = None,
    ) -> None:
        """`choose`: the script by the number of the connection (1, 2, ...), instead of `script`."""
        self.script: Script = script or {}
        self.tls = tls
        self.extensions = tuple(extensions)
        self.sessions: list[Session] = []
        self.messages: list[Message] = []
        self._choose = choose
        self._used: dict[str, int] = {}
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, port), backlog=128)
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> FakeMx:
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    @property
    def commands(self) -> list[str]:
        """Of all sessions, in their order."""
        return [command for session in self.sessions for command in session.commands]

    def wait_for_messages(self, count: int = 1) -> list[Message]:
        def enough() -> list[Message]:
            return list(self.messages) if len(self.messages) >= count else []

        return wait_for(enough, f"{count} messages at the scripted server")

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            session = Session(len(self.sessions) + 1)
            self.sessions.append(session)
            script = self._choose(session.number) if self._choose else None
            thread = threading.Thread(target=_Talk(self, session, connection, script).run, daemon=True)
            self._threads.append(thread)
            thread.start()

    def todo(self, script: Script, step: str) -> Do:
        """What to do at this step now."""
        found = script.get(step, Do())
        if isinstance(found, Do):
            return found
        with self._lock:
            used = self._used.get(step, 0)
            self._used[step] = used + 1
        return found[min(used, len(found) - 1)]

    @property
    def stopped(self) -> threading.Event:
        return self._stopped


class _Over(Exception):
    """The session has ended."""


class _Talk:
    """The server's side of one connection, in a thread of its own."""

    def __init__(self, mx: FakeMx, session: Session, connection: socket.socket, script: Script | None) -> None:
        self._mx = mx
        self._session = session
        self._socket = connection
        self._script = script
        self._rest = b""
        self._sender = ""
        self._recipients: list[str] = []

    def run(self) -> None:
        try:
            self._socket.settimeout(0.1)
            self._step("connect", GOOD["connect"])
            while True:
                self._command(self._line())
        except (_Over, OSError):
            pass
        finally:
            self._session.open = False
            self._socket.close()

    def _command(self, line: bytes) -> None:
        text = line.decode("latin-1")
        self._session.commands.append(("TLS " if self._session.tls else "") + text)
        verb = text.split(" ", 1)[0].upper()
        match verb:
            case "EHLO":
                self._step("EHLO", self._ehlo())
            case "STARTTLS":
                if self._step("STARTTLS", GOOD["STARTTLS"])[:1] == b"2":
                    self._handshake()
            case "MAIL":
                if self._step("MAIL", GOOD["MAIL"])[:1] == b"2":
                    self._sender, self._recipients = text[len("MAIL FROM:") :], []
            case "RCPT":
                if self._step("RCPT", GOOD["RCPT"])[:1] == b"2":
                    self._recipients.append(text[text.index("<") + 1 : text.rindex(">")])
            case "DATA":
                good = GOOD["DATA"] if self._recipients else NO_RECIPIENTS
                if self._step("DATA", good)[:1] == b"3":
                    self._content()
            case "QUIT":
                self._step("QUIT", GOOD["QUIT"])
                raise _Over
            case _:
                self._step(verb, GOOD.get(verb, UNKNOWN))

    def _ehlo(self) -> bytes:
        offers = [*self._mx.extensions]
        if self._mx.tls is not None and not self._session.tls:
            offers.append("STARTTLS")
        lines = ["fake.test", *offers]
        return b"".join(
            f"250{' ' if n == len(lines) else '-'}{line}".encode() + CRLF for n, line in enumerate(lines, 1)
        )

    def _content(self) -> None:
        lines = []
        while (line := self._line()) != b".":
            lines.append(line.removeprefix(b"."))
        content = CRLF.join([*lines, b""])
        message = Message(self._sender, tuple(self._recipients), content, self._session)

        def record(said: bytes) -> None:
            """Before the reply leaves: who reads it may look at once."""
            if said[:1] == b"2":
                self._mx.messages.append(message)

        self._step("content", GOOD["content"], record)

    def _handshake(self) -> None:
        self._step("handshake", b"")
        context = self._mx.tls
        if context is None:
            raise _Over
        self._socket.settimeout(10)
        session = self._session

        def named(_: object, name: str | None, __: object) -> None:
            session.sni = name or ""

        context.sni_callback = named
        try:
            secure = context.wrap_socket(self._socket, server_side=True)
        except (ssl.SSLError, OSError) as problem:
            session.handshake_error = str(problem) or type(problem).__name__
            raise _Over from None
        self._socket = secure
        session.tls = secure.version() or ""
        session.certificate = secure.getpeercert(binary_form=True)
        self._rest = b""
        self._socket.settimeout(0.1)

    def _step(self, name: str, good: bytes, before: Callable[[bytes], object] = lambda said: None) -> bytes:
        """Does what the script says; what was said."""
        do = self._mx.todo(self._mx.script if self._script is None else self._script, name)
        if do.delay and self._mx.stopped.wait(do.delay):
            raise _Over
        said = good if do.say is None and do.then == "go on" else do.say or b""
        before(said)
        for start in range(0, len(said), do.split or len(said) or 1):
            self._socket.sendall(said[start : start + (do.split or len(said))])
        match do.then:
            case "hang":
                self._hang()
            case "close":
                raise _Over
            case "reset":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                raise _Over
        return said

    def _hang(self) -> None:
        """Says nothing more; ends when the client does."""
        while not self._mx.stopped.is_set():
            with contextlib.suppress(TimeoutError):
                if not self._socket.recv(65536):
                    break
        raise _Over

    def _line(self) -> bytes:
        """Without its CRLF."""
        while CRLF not in self._rest:
            if self._mx.stopped.is_set():
                raise _Over
            with contextlib.suppress(TimeoutError):
                data = self._socket.recv(65536)
                if not data:
                    raise _Over
                self._rest += data
        line, _, self._rest = self._rest.partition(CRLF)
        return line
