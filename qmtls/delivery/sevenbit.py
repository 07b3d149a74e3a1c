"""Messages with 8-bit text for servers that take ASCII only (RFC 6152 section 3): MIME parts become quoted-printable.

A message is walked as a stream, part by part, twice: `survey` finds out which parts have 8-bit octets and whether
anything stands in the way, `to_seven_bit` writes the message anew. Text between CRLFs comes out as it went in once it
is decoded; headers are touched only where Content-Transfer-Encoding has to say so. Signatures over the encoded form
(DKIM, S/MIME of an 8-bit part) do not survive that.

Memory is bounded by a chunk, a line and MAX_HEADER. What cannot be converted without guessing is Unconvertible: a
header beyond ASCII, a part whose encoding does not hold what it promises, a structure that nobody can read.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from enum import Enum

MAX_HEADER = 1024 * 1024  # octets of one header section
MAX_DEPTH = 100  # multiparts within each other

_CRLF = b"\r\n"
_HEADER_END = re.compile(rb"(?:\A|\r\n)\r\n")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_ENCODING = re.compile(rb"content-transfer-encoding[ \t]*:", re.IGNORECASE)
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})  # RFC 2045 section 6.2: encodings that encode nothing
_NO_8BIT = bytes(n if n < 128 else ord("?") for n in range(256))


class Unconvertible(Exception):
    """This message cannot be made ASCII; str() says why."""


class Kind(Enum):
    HEADER = "header section, with its empty line"
    BODY = "text of a part"
    FRAME = "boundary line"
    JUNK = "text around the parts of a multipart, which nobody sees"


@dataclass(frozen=True, slots=True)
class _Part:
    """What a header section says of the text behind it."""

    encoding: str  # lower case; "" = none given
    may_be_encoded: bool
    is_mime: bool
    has_type: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """What is beyond ASCII in a message: a header section (its own or one inside), and parts by number."""

    header: bool
    parts: frozenset[int]
    obstacle: str  # why it cannot be made ASCII, "" if it can


def survey(chunks: Iterable[bytes]) -> Survey:
    """Looks at the whole message; raises only what `chunks` raises."""
    walk = _Walk()
    header, obstacle = False, ""
    found: set[int] = set()
    try:
        for kind, data in walk.pieces(chunks):
            if data.isascii():
                continue
            if kind is Kind.HEADER:
                header = True
            elif kind is Kind.BODY:
                found.add(walk.number)
                if not walk.part.may_be_encoded:
                    obstacle = "a part holds 8-bit text against its own type or encoding"
    except Unconvertible as problem:
        # Nobody knows what lies behind: perhaps a header that needs SMTPUTF8.
        header, obstacle = True, str(problem)
    if header and not obstacle:
        obstacle = "a header field holds 8-bit text"
    return Survey(header, frozenset(found), obstacle)


def to_seven_bit(chunks: Iterable[bytes], found: Survey) -> Iterator[bytes]:
    """The message in ASCII, `found` being its survey. Unconvertible."""
    if found.obstacle:
        raise Unconvertible(found.obstacle)
    walk = _Walk()
    for kind, data in walk.pieces(chunks):
        match kind:
            case Kind.HEADER:
                yield _relabelled(data, walk.part, walk.number in found.parts, first=walk.number == 0)
            case Kind.BODY if walk.number in found.parts:
                encoded = quoted_printable(data)
                if walk.frame is not None and walk.frame.search(encoded):
                    raise Unconvertible("a line of a part, once it is folded, would be a boundary")
                yield encoded
            case Kind.JUNK:
                yield data.translate(_NO_8BIT)
            case _:
                yield data


class _Walk:
    """Cuts a message into header sections, text and frames. `number` and `part` are those of the piece just given."""

    def __init__(self) -> None:
        self.number = -1
        self.part = _Part("", True, False, False)
        self.frame: re.Pattern[bytes] | None = None  # any boundary line of the multiparts that we are in
        self._boundaries: list[tuple[bytes, bool]] = []  # innermost last; True: parts are messages (multipart/digest)
        self._mode = Kind.HEADER
        self._digested = False  # the next header section is that of a part of a multipart/digest
        self._rest = b""

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[tuple[Kind, bytes]]:
        for block in _whole_lines(chunks):
            self._rest += block
            yield from self._take(final=False)
        yield from self._take(final=True)

    def _take(self, final: bool) -> Iterator[tuple[Kind, bytes]]:
        while self._rest:
            crossing = self.frame.search(self._rest) if self.frame is not None else None
            if crossing is not None and crossing.start() == 0:
                self._cross(crossing)
                yield Kind.FRAME, self._cut(crossing.end())
                continue
            end = len(self._rest) if crossing is None else crossing.start()
            if self._mode is not Kind.HEADER:
                yield self._mode, self._cut(end)
                continue
            stop = _HEADER_END.search(self._rest)
            if stop is not None and stop.end() <= end:
                end = stop.end()
            elif crossing is None and not final:
                if end > MAX_HEADER:
                    raise Unconvertible("a header section without an end")
                return
            head = self._cut(end)
            self._enter(head)
            yield Kind.HEADER, head

    def _cut(self, end: int) -> bytes:
        piece, self._rest = self._rest[:end], self._rest[end:]
        return piece

    def _cross(self, crossing: re.Match[bytes]) -> None:
        """A boundary line ends all multiparts inside its own, and its own too if it has the two dashes behind it."""
        while self._boundaries[-1][0] != crossing[1]:
            self._boundaries.pop()
        if crossing[2]:
            self._boundaries.pop()
        self._mode = Kind.JUNK if crossing[2] else Kind.HEADER
        self._digested = self._mode is Kind.HEADER and self._boundaries[-1][1]
        self._compile()

    def _compile(self) -> None:
        words = b"|".join(re.escape(boundary) for boundary, _ in reversed(self._boundaries))
        self.frame = re.compile(rb"^--(" + words + rb")(--)?[ \t]*(?:\r\n|\Z)", re.MULTILINE) if words else None

    def _enter(self, head: bytes) -> None:
        message = _parsed(head)
        type_ = message.get_content_type() if "content-type" in message else "message/rfc822" if self._digested else ""
        self._digested = False
        boundary = _boundary(message) if type_.startswith("multipart/") else b""
        encoding = str(message.get("content-transfer-encoding", "")).strip().lower()
        container = bool(boundary) or type_ == "message/rfc822"
        # RFC 2045 section 6.4, RFC 2046 section 5.2, RFC 6532 section 3.7: what may be encoded at all.
        encodable = not type_.startswith(("multipart/", "message/")) or type_.startswith("message/global")
        self.number += 1
        self.part = _Part(
            encoding=encoding,
            # Lines that are no fields end the header for some readers: they would not see what is put behind them.
            may_be_encoded=encodable and encoding in _IDENTITY and not message.defects,
            is_mime="mime-version" in message,
            has_type="content-type" in message,
        )
        if container and encoding not in _IDENTITY:
            raise Unconvertible(f"a {type_} in {encoding[:40]!a}")
        if boundary:
            if len(self._boundaries) >= MAX_DEPTH:
                raise Unconvertible("too many parts within each other")
            self._boundaries.append((boundary, type_ == "multipart/digest"))
            self._compile()
        self._mode = Kind.JUNK if boundary else Kind.HEADER if container else Kind.BODY


def _parsed(head: bytes) -> Message:
    try:
        return BytesParser(policy=compat32).parsebytes(head, headersonly=True)
    except Exception as problem:  # whatever the parser stumbles over
        raise Unconvertible("a header section that cannot be read") from problem


def _boundary(message: Message) -> bytes:
    try:
        return (message.get_boundary() or "").encode("ascii")
    except Exception as problem:
        raise Unconvertible("a multipart without a readable boundary") from problem


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets, each block but the last one ended by CRLF."""
    kept: list[bytes] = []
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            kept.append(chunk[:end])
            yield b"".join(kept)
            kept = [chunk[end:]]
        else:
            kept.append(chunk)
    if any(kept):
        yield b"".join(kept)


def quoted_printable(text: bytes) -> bytes:
    """Whole lines as quoted-printable, line ends as they are (RFC 2045 section 6.7)."""
    if text.endswith(_CRLF):
        return binascii.b2a_qp(text, istext=True)
    return binascii.b2a_qp(text + _CRLF, istext=True)[: -len(_CRLF)]


def _relabelled(head: bytes, part: _Part, encoded: bool, first: bool) -> bytes:
    """The header section of a part in its new encoding."""
    if not encoded and part.encoding not in ("8bit", "binary"):
        return head
    fields = [field for field in _FIELD_END.split(head) if field and not _ENCODING.match(field)]
    if first and encoded and not part.is_mime:
        fields.append(b"MIME-Version: 1.0")
    if first and encoded and not part.has_type:
        fields.append(b"Content-Type: text/plain; charset=unknown-8bit")  # RFC 1428 section 3
    if encoded:
        fields.append(b"Content-Transfer-Encoding: quoted-printable")
    ending = _CRLF if head.endswith(b"\r\n\r\n") or head == _CRLF else b""
    return b"".join(field + _CRLF for field in fields) + ending
