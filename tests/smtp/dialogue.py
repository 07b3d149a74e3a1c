"""Talks to a server session: by hand (`Talk`), or from a dialogue file, with the client's octets cut in a chosen way.

Lines of a file: `C:` the client sends this line, `C=` these octets (Python escapes, no line end added); `S:` the
server sends this line; `E:` the next event, in the words of `describe`; `A: EVENT REPLY` from here on that event is
answered so; `T:` the handshake is over, and these SASL mechanisms are on offer; `O: NAME=VALUE` a field of the
server's configuration. `#` and empty lines are for people.

The replies and events of a file must be complete. Pieces of content that follow each other count as one, and those in
front of a refusal as none, because how many there are does depend on the cut.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from qmtls.smtp.events import (
    Authenticate,
    Closed,
    Content,
    ContentEnd,
    ContentRefused,
    DataStart,
    MailFrom,
    RcptTo,
    Reset,
    ServerEvent,
    Signal,
    StartTls,
)
from qmtls.smtp.reply import Reply, reply
from qmtls.smtp.server import GO_AHEAD, ServerConfig, ServerSession

FILES = sorted((Path(__file__).parent / "dialogues" / "server").glob("*.txt"))
CONFIG = ServerConfig(host="mx.example", greeting="mx.example ESMTP")
ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@mx.example>\r\n"

Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def by_line(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def by_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


def at(*places: int) -> Cut:
    """Cuts before the octets with these numbers."""

    def cut(data: bytes) -> list[bytes]:
        ends = [0, *sorted(place for place in set(places) if 0 < place < len(data)), len(data)]
        return [data[begin:end] for begin, end in pairwise(ends)]

    return cut


CUTS = (whole, by_line, by_byte)


class Talk:
    """A session and its adapter: takes every event, answers what asks, remembers everything."""

    def __init__(self, config: ServerConfig = CONFIG) -> None:
        self.session = ServerSession(config)
        self.answers: dict[str, Reply] = {"DataStart": GO_AHEAD}
        self.happened: list[ServerEvent] = []
        self.sent = b""
        self.pump()

    def send(self, *pieces: bytes) -> list[str]:
        """Gives the session these segments; what it said to them, by line."""
        before = len(self.sent)
        for piece in pieces:
            self.session.receive_data(piece)
            self.pump()
        return self.sent[before:].decode("ascii").splitlines()

    def codes(self, *pieces: bytes) -> list[int]:
        """As `send`, but only the codes, one for a reply."""
        return [int(line[:3]) for line in self.send(*pieces) if line[3] == " "]

    def pump(self) -> None:
        while not isinstance(event := self.session.next_event(), Signal):
            self.happened.append(event)
            if isinstance(event, MailFrom | RcptTo | Authenticate | DataStart | ContentEnd):
                self.session.answer(self.answers.get(type(event).__name__, OK))
        self.sent += self.session.data_to_send()

    @property
    def closed(self) -> bool:
        return any(isinstance(event, Closed) for event in self.happened)

    @property
    def contents(self) -> list[bytes]:
        """The messages that were taken."""
        taken, now = [], b""
        for event in self.happened:
            match event:
                case DataStart():
                    now = b""
                case Content(data):
                    now += data
                case ContentEnd(size):
                    assert size == len(now)
                    taken.append(now)
        return taken

    def story(self) -> list[str]:
        """What happened, whatever the cut."""
        told: list[ServerEvent] = []
        for event in self.happened:
            if isinstance(event, Content) and told and isinstance(told[-1], Content):
                told[-1] = Content(told[-1].data + event.data)
                continue
            if isinstance(event, ContentRefused) and told and isinstance(told[-1], Content):
                told.pop()
            told.append(event)
        return [describe(event) for event in told]


OK = reply(250, "2.0.0", "ok")


def under_tls(*mechanisms: str, config: ServerConfig = CONFIG) -> Talk:
    """After EHLO under TLS; these SASL mechanisms are on offer."""
    talk = Talk(replace(config, tls_first=True))
    talk.session.tls_established(mechanisms)
    talk.pump()
    talk.send(b"EHLO c.example\r\n")
    return talk


def describe(event: ServerEvent) -> str:
    match event:
        case MailFrom(transaction):
            size = f" SIZE={transaction.size}" if transaction.size is not None else ""
            body = f" BODY={transaction.body}" if transaction.body != "7BIT" else ""
            flags = " SMTPUTF8" * transaction.smtputf8 + " REQUIRETLS" * transaction.requiretls
            others = "".join(f" {key}={value}" for key, value in transaction.parameters)
            return f"MailFrom <{transaction.reverse_path or ''}>{size}{body}{flags}{others}"
        case RcptTo(address, parameters):
            return f"RcptTo <{address}>" + "".join(f" {key}={value}" for key, value in parameters)
        case Authenticate(mechanism, identity, user, password):
            return f"Authenticate {mechanism} {identity!r} {user!r} {password!r}"
        case DataStart(chunking):
            return "DataStart chunking" if chunking else "DataStart"
        case Content(data):
            return f"Content {data!r}"
        case ContentEnd(size):
            return f"ContentEnd {size}"
        case ContentRefused(refusal):
            return f"ContentRefused {refusal.code}"
        case Closed(why):
            return f"Closed {why}"
        case Reset() | StartTls():
            return type(event).__name__


class Line(NamedTuple):
    number: int
    side: str
    octets: bytes  # for C and S with the line end
    text: str


def parse(path: Path) -> list[Line]:
    lines = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        side, kind, text = line[0], line[1], line[3:]
        assert side in "CSEATO" and kind in ":=", f"{path.name}:{number}: {line}"
        octets = text.encode().decode("unicode_escape").encode("latin-1") if kind == "=" else text.encode() + b"\r\n"
        lines.append(Line(number, side, octets, text))
    return lines


def run(path: Path, cut: Cut) -> None:
    """AssertionError tells which replies or events of the file did not come true."""
    lines = parse(path)
    talk = Talk(_config(lines))
    waiting = b""
    for line in [*lines, Line(0, "T", b"", "end")]:
        if line.side == "C":
            waiting += line.octets
        elif line.side in "AT":
            talk.send(*cut(waiting))
            waiting = b""
            _act(talk, line)
    assert talk.sent.decode("ascii") == b"".join(line.octets for line in lines if line.side == "S").decode()
    assert talk.story() == [line.text for line in lines if line.side == "E"]


def run_in_turns(path: Path) -> None:
    """By line as `run`, and each reply is there before the client's next line of the file."""
    lines = parse(path)
    talk = Talk(_config(lines))
    due = b""
    for line in lines:
        if line.side == "C":
            assert talk.sent.startswith(due), f"{path.name}:{line.number}: {talk.sent[-200:]!r}"
            talk.send(line.octets)
        elif line.side == "S":
            due += line.octets
        else:
            _act(talk, line)
    assert talk.sent == due, path.name


def _act(talk: Talk, line: Line) -> None:
    if line.side == "A":
        event, code, status, words = line.text.split(" ", 3)
        talk.answers[event] = reply(int(code), status, words)
    elif line.side == "T" and line.text != "end":
        talk.session.tls_established(tuple(line.text.split()))
        talk.pump()


def _config(lines: list[Line]) -> ServerConfig:
    config = CONFIG
    for line in lines:
        if line.side == "O":
            name, _, value = line.text.partition("=")
            config = replace(config, **{name: ast.literal_eval(value)})
    return config
