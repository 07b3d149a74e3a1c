"""An SMTP client that does as it is told: raw octets, cut as a test wants them, in plaintext or under TLS."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.system.waiting import PATIENCE

_LINE = re.compile(rb"(\d\d\d)([ -])(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class SmtpClient:
    """One connection. `answer()` reads one reply; `dialogue()` sends commands and gives their replies."""

    def __init__(self, port: int, *, greeting: bool = True, host: str = "127.0.0.1", source: str = "") -> None:
        self.socket: socket.socket = socket.create_connection((host, port), PATIENCE, (source, 0) if source else None)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        if greeting:
            self.expect(220)

    def __enter__(self) -> SmtpClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Ends the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    # ------------------------------------------------------------ octets

    def send(self, data: bytes, size: int = 0) -> None:
        """All at once, or in segments of `size` octets (a segment is one write; the kernel may still join two)."""
        for start in range(0, len(data), size or len(data) or 1):
            self.socket.sendall(data[start : start + (size or len(data))])

    def send_parts(self, *parts: bytes) -> None:
        """Each part in a segment of its own."""
        for part in parts:
            self.socket.sendall(part)

    def read_line(self) -> bytes:
        """Without its CRLF; b"" at the end of the connection."""
        while b"\n" not in self._rest:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                line, self._rest = self._rest, b""
                return line
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.removesuffix(b"\r")

    def read_to_end(self) -> bytes:
        """Everything until the server closes."""
        pieces = [self._rest]
        self._rest = b""
        while True:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                return b"".join(pieces)
            pieces.append(data)

    # ------------------------------------------------------------ SMTP

    def answer(self) -> Answer:
        """One reply, of one or more lines. AssertionError if that is not what comes."""
        lines: list[str] = []
        while True:
            line = self.read_line()
            found = _LINE.match(line)
            assert found is not None, f"no reply line: {line!r} after {lines}"
            lines.append(found[3].decode("ascii"))
            if found[2] == b" ":
                return Answer(int(found[1]), tuple(lines))

    def answers_to_end(self) -> list[Answer]:
        """All replies until the server closes."""
        answers, lines = [], []
        for line in self.read_to_end().decode("ascii").splitlines():
            lines.append(line[4:])
            if line[3:4] != "-":
                answers.append(Answer(int(line[:3]), tuple(lines)))
                lines = []
        return answers

    def expect(self, code: int) -> Answer:
        answer = self.answer()
        assert answer.code == code, f"{code} was expected, not {answer}"
        return answer

    def command(self, line: str | bytes, code: int | None = None) -> Answer:
        """Sends one line, CRLF added; its reply, which must have `code`."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.answer() if code is None else self.expect(code)

    def starttls(self, context: ssl.SSLContext, name: str = "mx.test") -> None:
        """EHLO, STARTTLS, the handshake, EHLO again."""
        self.command("EHLO client.test", 250)
        self.command("STARTTLS", 220)
        self.handshake(context, name)
        self.command("EHLO client.test", 250)

    def handshake(self, context: ssl.SSLContext, name: str = "mx.test") -> None:
        assert not self._rest, f"octets before the handshake: {self._rest!r}"
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def mail(self, sender: str, *recipients: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> Answer:
        """A whole transaction; the answer to its content. Every step before must be accepted."""
        self.command(f"MAIL FROM:<{sender}>", 250)
        for recipient in recipients:
            self.command(f"RCPT TO:<{recipient}>", 250)
        self.command("DATA", 354)
        self.send(content + b".\r\n")
        return self.answer()


def client_context(authority: Path | None, certificate: Path | None = None) -> ssl.SSLContext:
    """Verifies the server up to `authority` (None: not at all) and shows `certificate` (a bundle) if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(authority)
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context
