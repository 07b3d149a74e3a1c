"""A message as people and programs hand it in, made fit for the queue: CRLF line ends, the fields that it must have.

The header is read whole (bounded); the body goes through a temporary file in pieces, so that a large message costs no
memory. What the sender wrote is kept octet by octet, apart from line ends: any CR, LF or CRLF is one line end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.errors import InvalidHeaderDefect
from email.header import Header
from email.headerregistry import AddressHeader, HeaderRegistry
from email.utils import formataddr, formatdate
from tempfile import SpooledTemporaryFile
from typing import BinaryIO

CHUNK = 64 * 1024
MAX_HEADER = 1 << 20  # far above any real header; beyond it the input is something else
IN_MEMORY = 1 << 20  # bodies below this size touch no temporary file

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:.*\r\n(?:[ \t].*\r\n)*")
_MBOX = re.compile(rb"From .*\r\n")
_END_OF_HEADER = b"\r\n\r\n"
_LONE_DOT = b"\r\n.\r\n"
_FOLD = re.compile(r"\r\n(?=[ \t])")
_REGISTRY = HeaderRegistry()


class DraftError(Exception):
    """The message cannot be queued as it is; str() says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: its name in lower case, and all of it with its CRLF."""

    name: str
    raw: bytes

    @property
    def text(self) -> str:
        """Its value in one line."""
        return _FOLD.sub("", self.raw.partition(b":")[2].decode("utf-8", "replace")).strip()


@dataclass(slots=True)
class Draft:
    """A message in two parts. `body` is read from its start; `eight_bit` says whether any octet is above 127."""

    fields: list[Field]
    body: SpooledTemporaryFile[bytes]
    eight_bit: bool = False

    def has(self, name: str) -> bool:
        return any(entry.name == name for entry in self.fields)

    def add(self, name: str, value: str) -> None:
        self.fields.append(Field(name.lower(), f"{name}: {value}\r\n".encode()))

    def chunks(self) -> Iterator[bytes]:
        """The whole message: header, empty line, body."""
        yield b"".join(entry.raw for entry in self.fields) + b"\r\n"
        self.body.seek(0)
        while chunk := self.body.read(CHUNK):
            yield chunk


@dataclass(frozen=True, slots=True)
class Defaults:
    """What completes a header: the author's address and name, our host name, the queue id, the time."""

    author: str
    me: str
    id: str
    now: float
    full_name: str = ""
    subject: str | None = None
    to: Sequence[str] = field(default=())


def read_draft(stream: BinaryIO, dot_ends: bool = False) -> Draft:
    """Reads a message to the end of the stream, or to a line with only a dot if `dot_ends`."""
    chunks = line_ends(iter(lambda: stream.read(CHUNK), b""))
    if dot_ends:
        chunks = until_dot(chunks)
    head = b""
    for chunk in chunks:
        head += chunk
        if _END_OF_HEADER in head or head.startswith(b"\r\n") or len(head) > MAX_HEADER:
            break
    if head and not head.endswith(b"\r\n") and _END_OF_HEADER not in head:
        head += b"\r\n"  # a last line without an end
    if len(head) > MAX_HEADER and _END_OF_HEADER not in head and _FIELD.match(head):
        raise DraftError(f"its header is longer than {MAX_HEADER} octets")
    fields, rest = _split(head)
    draft = Draft(fields, SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115  # it outlives this function
    last = b""
    for chunk in _chain(rest, chunks):
        draft.body.write(chunk)
        draft.eight_bit = draft.eight_bit or not chunk.isascii()
        last = chunk or last
    if last and not last.endswith(b"\n"):
        draft.body.write(b"\r\n")
    draft.eight_bit = draft.eight_bit or not all(entry.raw.isascii() for entry in fields)
    return draft


def line_ends(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Every CR, LF and CRLF of a stream as CRLF, also where a chunk ends inside one."""
    after_cr = False
    for chunk in chunks:
        if after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            after_cr = False
        if chunk:
            after_cr = chunk.endswith(b"\r")
            yield chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def until_dot(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A CRLF stream up to the first line that is only a dot, which is left out."""
    held = b"\r\n"  # as if a line had ended before the first one; cut off again below
    skip = len(held)
    for chunk in chunks:
        held += chunk
        end = held.find(_LONE_DOT)
        if end >= 0:
            if held[skip : end + 2]:
                yield held[skip : end + 2]
            return
        keep = len(held) - len(_LONE_DOT) + 1
        if keep > skip:
            yield held[skip:keep]
            held = held[keep:]
            skip = 0
    if held[skip:]:
        yield held[skip:]


def complete(draft: Draft, defaults: Defaults) -> None:
    """Adds From, Date, Message-ID, Subject and To where they are missing and known."""
    if not draft.has("from"):
        draft.add("From", formataddr((defaults.full_name, defaults.author)))
    if defaults.to and not draft.has("to"):
        draft.add("To", ", ".join(defaults.to))
    if defaults.subject is not None and not draft.has("subject"):
        draft.add("Subject", subject_value(defaults.subject))
    if not draft.has("date"):
        draft.add("Date", formatdate(defaults.now, localtime=True))
    if not draft.has("message-id"):
        draft.add("Message-ID", f"<{defaults.id}@{defaults.me}>")


def take_recipients(draft: Draft) -> list[str]:
    """The addresses of To, Cc and Bcc (of their Resent- forms if there are any); Bcc fields are taken out.

    DraftError if any of the fields cannot be read with certainty: rather no mail than mail to some of them.
    """
    names = {"to", "cc", "bcc"}
    if any(entry.name in {"resent-to", "resent-cc", "resent-bcc"} for entry in draft.fields):
        names = {"resent-to", "resent-cc", "resent-bcc"}
    found = [address for entry in draft.fields if entry.name in names for address in _addresses(entry)]
    draft.fields = [entry for entry in draft.fields if entry.name not in {"bcc", "resent-bcc"}]
    return list(dict.fromkeys(found))


def subject_value(text: str) -> str:
    """`text` as a field may hold it: one line (nobody adds fields through it), in RFC 2047 words if not ASCII."""
    line = " ".join(text.split())
    return line if line.isascii() else Header(line, "utf-8").encode(linesep="\r\n")


def _addresses(entry: Field) -> list[str]:
    try:
        header = _REGISTRY("To", entry.text)
        assert isinstance(header, AddressHeader)
        addresses, defects = header.addresses, header.defects
    except Exception as problem:  # the library raises its own kinds for the worst of them
        raise DraftError(f"the addresses of its field {entry.name} cannot be read ({problem})") from None
    # A bare local name is our own user's; the library counts each as a defect.
    bare = sum(1 for address in addresses if not address.domain)
    doubts = sum(isinstance(defect, InvalidHeaderDefect) for defect in defects)
    if doubts > bare or any(address.addr_spec in ("", "<>") for address in addresses):
        raise DraftError(f"the addresses of its field {entry.name} cannot be read: {entry.text[:200]!r}")
    return [address.addr_spec for address in addresses]


def _split(head: bytes) -> tuple[list[Field], bytes]:
    """Header fields, and what comes behind them: the first line that is none begins the body, as everywhere."""
    fields = []
    mbox = _MBOX.match(head)
    position = mbox.end() if mbox else 0
    while match := _FIELD.match(head, position):
        fields.append(Field(match.group(1).decode("ascii").lower(), match.group()))
        position = match.end()
    rest = head[position:]
    return fields, rest.removeprefix(b"\r\n")


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
