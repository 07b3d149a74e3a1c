"""A next hop that behaves at random, as a process of its own: what it takes is written down before it answers.

    python -m tests.system.outbound.randomsink SEED DIRECTORY DOMAIN...

It listens on a port for each domain; DIRECTORY/ports then names them, in their order. DIRECTORY/right.pem and
wrong.pem are certificates with keys. DIRECTORY/journal gets one JSON line for each thing that it is sure of:

    {"what":"taken","time":1.5,"to":["a@x"],"content":"SHA-256","tls":"right","answer":"250"}
    {"what":"refused","time":1.5,"to":["a@x"],"code":550}

"answer" is "250", or what is done instead of saying so: "close", "reset", "silence". Once DIRECTORY/calm is there it
does everything right, but for those who are never known here.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SILENCE = 20.0  # longer than the patience of whoever is tested
UNKNOWN = 0.08  # of the recipients: 550 whenever they are asked for


class Over(Exception):
    """The connection is done with."""


def is_unknown(seed: str, address: str) -> bool:
    return random.Random(f"{seed}:{address}").random() < UNKNOWN


class Place:
    """What all connections share."""

    def __init__(self, seed: str, directory: Path) -> None:
        self.seed = seed
        self.directory = directory
        self.contexts = {kind: self._context(kind) for kind in ("right", "wrong")}
        self._calm = False
        self._journal = os.open(directory / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _context(self, kind: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{kind}.pem")
        return context

    @property
    def calm(self) -> bool:
        self._calm = self._calm or (self.directory / "calm").exists()
        return self._calm

    def write(self, **entry: object) -> None:
        os.write(self._journal, json.dumps({"time": time.time(), **entry}).encode() + b"\n")


class Connection:
    def __init__(self, place: Place, connection: socket.socket, name: str) -> None:
        self._place = place
        self._socket = connection
        self._chance = random.Random(f"{place.seed}:{name}")
        self._buffer = b""
        self._tls = ""
        # What it offers, or shows, in the whole connection.
        self._shows = "right" if place.calm else self._chance.choice(["", "wrong", "right", "right"])
        self._open = False  # MAIL was taken
        self._recipients: list[str] = []

    def run(self) -> None:
        self._socket.settimeout(60)
        with suppress(OSError, Over):
            self._step("greeting", b"220 sink.test ESMTP\r\n", [b"421 4.3.2 busy\r\n", b"554 5.3.2 no\r\n"], 0.03)
            for line in self._lines():
                self._command(line.decode(), line[:4].upper())
        with suppress(OSError):
            self._socket.close()

    # ------------------------------------------------------------ chance

    def _happens(self, chance: float) -> bool:
        return not self._place.calm and self._chance.random() < chance

    def _step(self, step: str, good: bytes, bad: list[bytes], chance: float) -> bool:
        """Says `good`, or one of `bad`, or goes away. True if it was good."""
        if self._happens(0.1):
            time.sleep(self._chance.random() / 5)
        if not self._happens(chance):
            self._socket.sendall(good)
            return True
        if self._happens(0.4):
            self._leave(self._way())
        said = self._chance.choice(bad)
        self._socket.sendall(said)
        if said.startswith(b"421"):
            raise Over
        return False

    def _way(self) -> str:
        return self._chance.choice(["close"] * 5 + ["reset"] * 4 + ["silence"])

    def _leave(self, way: str) -> None:
        if way == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        elif way == "silence":
            self._socket.settimeout(SILENCE)
            while self._socket.recv(65536):
                pass
        raise Over

    # ------------------------------------------------------------ the dialogue

    def _lines(self) -> Iterator[bytes]:
        while True:
            while b"\r\n" not in self._buffer:
                self._buffer += self._receive()
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            yield line

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise Over
        return data

    def _command(self, line: str, verb: bytes) -> None:
        match verb:
            case b"EHLO":
                starttls = b"250-STARTTLS\r\n" if self._shows and not self._tls else b""
                offer = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n" + starttls + b"250 SIZE\r\n"
                self._step("EHLO", offer, [b"451 4.3.0 later\r\n", b"421 4.3.2 busy\r\n"], 0.02)
            case b"STAR":
                if self._step("STARTTLS", b"220 go\r\n", [b"454 4.7.0 no\r\n"], 0.05):
                    self._socket = self._place.contexts[self._shows].wrap_socket(self._socket, server_side=True)
                    self._tls = self._shows
            case b"MAIL":
                self._recipients = []
                self._open = self._step("MAIL", b"250 ok\r\n", [b"451 4.3.0 later\r\n", b"421 4.3.2 busy\r\n"], 0.03)
            case b"RCPT" if not self._open:
                self._socket.sendall(b"503 5.5.1 MAIL first\r\n")
            case b"RCPT":
                self._recipient(line[line.index("<") + 1 : line.index(">")])
            case b"DATA":
                self._data()
            case b"QUIT":
                self._socket.sendall(b"221 bye\r\n")
                raise Over
            case _:
                self._socket.sendall(b"250 ok\r\n")

    def _recipient(self, address: str) -> None:
        if is_unknown(self._place.seed, address) or self._happens(0.02):
            self._place.write(what="refused", to=[address], code=550)
            self._socket.sendall(b"550 5.1.1 nobody\r\n")
        elif self._step("RCPT", b"250 ok\r\n", [b"450 4.2.0 later\r\n", b"451 4.7.1 greylisted\r\n"], 0.12):
            self._recipients.append(address)

    def _data(self) -> None:
        if not self._recipients:
            self._socket.sendall(b"503 5.5.1 nobody\r\n")
            return
        if not self._step("DATA", b"354 go on\r\n", [b"451 4.3.0 later\r\n", b"421 4.3.2 busy\r\n"], 0.03):
            return
        content = self._content()
        recipients, self._recipients = self._recipients, []
        if self._happens(0.05):
            self._leave(self._way())  # before it has decided
        if self._happens(0.1):
            code = self._chance.choice([451, 452, 554])
            if code == 554:
                self._place.write(what="refused", to=recipients, code=code)
            self._socket.sendall(b"%d %d.3.0 no\r\n" % (code, code // 100))
            return
        answer = self._way() if self._happens(0.1) else "250"
        digest = hashlib.sha256(content).hexdigest()
        self._place.write(what="taken", to=recipients, content=digest, tls=self._tls, answer=answer)
        if answer != "250":
            self._leave(answer)
        self._socket.sendall(b"250 2.0.0 taken\r\n")

    def _content(self) -> bytes:
        """From its Subject on: the trace field above it differs."""
        if self._happens(0.03):
            self._receive()
            self._leave(self._way())  # in the middle
        content = b"\r\n" + self._buffer
        while b"\r\n.\r\n" not in content[-70_000:]:
            content += self._receive()
        stuffed, _, self._buffer = content.partition(b"\r\n.\r\n")
        return stuffed[stuffed.index(b"\r\nSubject:") + 2 :].replace(b"\r\n..", b"\r\n.")


def serve(place: Place, listener: socket.socket, domain: str) -> None:
    number = 0
    while True:
        connection, _ = listener.accept()
        number += 1
        talk = Connection(place, connection, f"{domain}:{number}")
        threading.Thread(target=talk.run, daemon=True).start()


def main() -> None:
    seed, directory, domains = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    place = Place(seed, directory)
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in domains]
    for domain, listener in zip(domains, listeners, strict=True):
        threading.Thread(target=serve, args=(place, listener, domain), daemon=True).start()
    ports = directory / "ports.new"
    ports.write_text(" ".join(str(listener.getsockname()[1]) for listener in listeners))
    ports.rename(directory / "ports")
    sys.stdin.read()  # until the test closes it


if __name__ == "__main__":
    main()
