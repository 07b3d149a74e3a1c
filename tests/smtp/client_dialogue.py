"""Runs a dialogue file against the client session, with the server's octets cut in a chosen way.

Lines of a file: `S:` the server sends this line; `S=` the server sends these octets (Python escapes, no line end
added); `A:` the adapter calls; `E:` the next event; `C:` the client sends this line, `C=` these octets. What
happened must be named completely before the next `S` or `A`, what was sent before the next `S`. `#` and empty
lines are for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from qmtls.smtp.address import Address
from qmtls.smtp.client import ClientSession, Outgoing
from qmtls.smtp.client_lmtp import LmtpSession
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import (
    Answered,
    ClientEvent,
    Ended,
    Greeted,
    Result,
    SendContent,
    Sent,
    Signal,
    TlsGo,
    TlsRefused,
)

HERE = Path(__file__).parent / "dialogues" / "client"
FILES = sorted(HERE.glob("*.txt"))

Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def by_line(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def by_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


def run(path: Path, cut: Cut) -> None:
    """AssertionError names the line of the file that did not come true."""
    stage = _Stage(LmtpSession if path.stem.startswith("lmtp") else ClientSession)
    for (side, _), lines in groupby(_parse(path), key=lambda line: (line[0], line[0] in "AE" and line[2])):
        block = list(lines)
        where = f"{path.name}:{block[0][2]}"
        match side:
            case "S":
                stage.must_be_quiet(where)
                for piece in cut(b"".join(octets for _, octets, _ in block)):
                    stage.receive(piece)
            case "A":
                stage.must_have_no_event(where)
                stage.act(block[0][1].decode())
            case "E":
                stage.expect_event(block[0][1].decode(), where)
            case "C":
                stage.expect_output(b"".join(octets for _, octets, _ in block), where)
    stage.must_be_quiet(f"{path.name}: end")


def _parse(path: Path) -> Iterator[tuple[str, bytes, int]]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        side, kind, text = line[0], line[1], line[3:]
        assert side in "SCAE" and kind in ":=", f"{path.name}:{number}: {line}"
        if kind == "=":
            yield side, text.encode().decode("unicode_escape").encode("latin-1"), number
        else:
            yield side, text.encode() + (b"\r\n" if side in "SC" else b""), number


class _Stage:
    """A session with everything that it said and did so far and that no line of the file has named yet."""

    def __init__(self, kind: type[ClientSession]) -> None:
        self.session = kind("client.example")
        self.events: list[str] = []
        self.output = b""

    def receive(self, data: bytes) -> None:
        self.session.receive_data(data)
        self._drain()

    def _drain(self) -> None:
        while not isinstance(event := self.session.next_event(), Signal):
            self.events.append(describe(event))
        self.output += self.session.data_to_send()

    def act(self, text: str) -> None:
        verb, _, rest = text.partition(" ")
        session = self.session
        match verb:
            case "begin":
                session.begin(_outgoing(rest))
            case "content":
                session.send_content(rest.encode().decode("unicode_escape").encode("latin-1"))
            case "end":
                session.end_content()
            case "starttls":
                session.start_tls()
            case "tls":
                session.tls_established()
            case "eof":
                session.receive_eof()
            case "give-up":
                session.give_up(rest)
            case "quit":
                session.quit()
            case "ask":
                session.ask(rest.encode("ascii"))
            case _:
                raise AssertionError(f"no such action: {text}")
        self._drain()

    def must_have_no_event(self, where: str) -> None:
        assert not self.events, f"{where}: unnamed event {self.events[0]!r}"

    def must_be_quiet(self, where: str) -> None:
        self.must_have_no_event(where)
        assert not self.output, f"{where}: unnamed output {self.output!r}"

    def expect_event(self, text: str, where: str) -> None:
        assert self.events, f"{where}: nothing happened instead of {text!r}"
        assert self.events.pop(0) == text, where

    def expect_output(self, octets: bytes, where: str) -> None:
        assert self.output[: len(octets)] == octets, where
        self.output = self.output[len(octets) :]


def _outgoing(text: str) -> Outgoing:
    """`FROM > TO TO [size=N] [8bit] [smtputf8] [requiretls] [/NAME=VALUE]`; FROM `<>` is the null path, and
    `TO/NAME=VALUE` a recipient with a parameter."""
    reverse_path, _, rest = text.partition(" > ")
    words = rest.split()
    size = next((int(word[5:]) for word in words if word.startswith("size=")), 1000)
    return Outgoing(
        None if reverse_path == "<>" else _address(reverse_path),
        tuple(_recipient(word) for word in words if "@" in word),
        size,
        "8BITMIME" if "8bit" in words else "7BIT",
        smtputf8="smtputf8" in words,
        requiretls="requiretls" in words,
        parameters=tuple(_parameter(word[1:]) for word in words if word.startswith("/")),
    )


def _recipient(word: str) -> Recipient:
    address, *parameters = word.split("/")
    return Recipient(_address(address), tuple(map(_parameter, parameters)))


def _parameter(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def _address(text: str) -> Address:
    local_part, _, domain = text.rpartition("@")
    return Address(local_part, domain)


def describe(event: ClientEvent) -> str:
    """One line per event, as dialogue files write it."""
    match event:
        case Greeted(extensions, tls):
            words = [f"{key}={value}" if value else key for key, value in extensions.items()]
            return " ".join(["greeted", *(["over TLS"] if tls else []), *words])
        case TlsGo():
            return "tls go"
        case TlsRefused(reply):
            return f"tls refused: {reply}"
        case Answered(reply):
            return f"answered: {reply}"
        case SendContent():
            return "send content"
        case Sent(results):
            return "sent: " + "; ".join(map(_result, results))
        case Ended(stage, why, reply, results, injected):
            said = f" [{reply}]" if reply else ""
            outcome = f" => {'; '.join(map(_result, results))}" if results else ""
            return f"ended at {stage.value}{' (injected)' if injected else ''}: {why}{said}{outcome}"


def _result(result: Result) -> str:
    return f"{result.stage.value} {result.reply or result.why}"
