"""Every kind of thing that a server can say where one reply is due (RFC 5321 section 4.2, and beyond it)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a client must take it for."""

    YES = "2xx"
    MORE = "3xx"
    LATER = "4xx"
    NEVER = "5xx"
    CLOSING = "421"
    NONSENSE = "no reply that can be meant"
    GONE = "the connection ends"
    SILENT = "nothing more comes"
    TOO_MUCH = "more than one reply"


class Then(Enum):
    """What the server does afterwards."""

    GO_ON = "go on"
    CLOSE = "close"
    RESET = "reset"
    HALF = "close its half, and read on"
    HANG = "say nothing more"


@dataclass(frozen=True, slots=True)
class Said:
    kind: Kind
    octets: bytes
    then: Then = Then.GO_ON


LONG_LINE = b"x" * 3000
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x28"

SAID: dict[str, Said] = {
    # 2xx
    "250": Said(Kind.YES, b"250 ok\r\n"),
    "another 2xx": Said(Kind.YES, b"299 2.9.9 fine\r\n"),
    "three digits only": Said(Kind.YES, b"250\r\n"),
    "lone LF": Said(Kind.YES, b"250 ok\n"),
    "several lines": Said(Kind.YES, b"250-one\r\n250-\r\n250 three\r\n"),
    "NUL in the text": Said(Kind.YES, b"250 a\0b\r\n"),
    "8-bit and escapes in the text": Said(Kind.YES, b"250 \xff\x1b[2J\r x\r\n"),
    "the status of another class": Said(Kind.YES, b"250 5.1.1 ok\r\n"),
    # 3xx
    "354": Said(Kind.MORE, b"354 go on\r\n"),
    "334": Said(Kind.MORE, b"334 \r\n"),
    "399 in several lines": Said(Kind.MORE, b"399-x\r\n399\r\n"),
    # 4xx
    "451": Said(Kind.LATER, b"451 4.3.0 later\r\n"),
    "400 without text": Said(Kind.LATER, b"400\r\n"),
    "450 with a status for ever": Said(Kind.LATER, b"450 5.1.1 later\r\n"),
    "499 in several lines": Said(Kind.LATER, b"499-a\r\n499-b\r\n499 c\r\n"),
    # 5xx
    "550": Said(Kind.NEVER, b"550 5.1.1 no\r\n"),
    "500 without text": Said(Kind.NEVER, b"500\r\n"),
    "554 with a status for now": Said(Kind.NEVER, b"554 4.2.0 never\r\n"),
    "599 in several lines": Said(Kind.NEVER, b"599-a\r\n599 b\r\n"),
    # 421
    "421": Said(Kind.CLOSING, b"421 4.3.2 closing\r\n", Then.CLOSE),
    "421 without text, and it stays": Said(Kind.CLOSING, b"421\r\n"),
    "421 in several lines, then silence": Said(Kind.CLOSING, b"421-bye\r\n421 bye\r\n", Then.HANG),
    # no reply
    "000": Said(Kind.NONSENSE, b"000 x\r\n"),
    "1xx": Said(Kind.NONSENSE, b"150 wait\r\n"),
    "600": Said(Kind.NONSENSE, b"600 x\r\n"),
    "999": Said(Kind.NONSENSE, b"999 x\r\n"),
    "two digits": Said(Kind.NONSENSE, b"25\r\n"),
    "four digits": Said(Kind.NONSENSE, b"2500 ok\r\n"),
    "no blank": Said(Kind.NONSENSE, b"250ok\r\n"),
    "a tab": Said(Kind.NONSENSE, b"250\tok\r\n"),
    "a leading blank": Said(Kind.NONSENSE, b" 250 ok\r\n"),
    "a leading NUL": Said(Kind.NONSENSE, b"\0250 ok\r\n"),
    "an empty line": Said(Kind.NONSENSE, b"\r\n"),
    "words": Said(Kind.NONSENSE, b"ok\r\n"),
    "digits of another script": Said(Kind.NONSENSE, "٢٥٠ ok\r\n".encode()),
    "a web server": Said(Kind.NONSENSE, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "TLS": Said(Kind.NONSENSE, TLS_ALERT + b"\n"),
    "another code on the next line": Said(Kind.NONSENSE, b"250-a\r\n251 b\r\n"),
    "a refusal on the next line": Said(Kind.NONSENSE, b"250-a\r\n550 b\r\n"),
    "5xx that becomes 2xx": Said(Kind.NONSENSE, b"550-a\r\n250 b\r\n"),
    "421 that becomes 2xx": Said(Kind.NONSENSE, b"421-a\r\n250 b\r\n"),
    "a next line without a code": Said(Kind.NONSENSE, b"250-a\r\nb\r\n250 c\r\n"),
    "endless lines": Said(Kind.NONSENSE, b"250-a\r\n" * 300),
    "long lines without end": Said(Kind.NONSENSE, (b"250-" + b"x" * 1900 + b"\r\n") * 20),
    "a huge line": Said(Kind.NONSENSE, b"250 " + LONG_LINE + b"\r\n"),
    "a huge line without end": Said(Kind.NONSENSE, b"250 " + LONG_LINE),
    # the end
    "closes": Said(Kind.GONE, b"", Then.CLOSE),
    "resets": Said(Kind.GONE, b"", Then.RESET),
    "closes its half": Said(Kind.GONE, b"", Then.HALF),
    "closes within the code": Said(Kind.GONE, b"25", Then.CLOSE),
    "closes before the line's end": Said(Kind.GONE, b"250 ok", Then.CLOSE),
    "closes within the line's end": Said(Kind.GONE, b"250 ok\r", Then.CLOSE),
    "closes before the last line": Said(Kind.GONE, b"250-ok\r\n", Then.CLOSE),
    "closes within a refusal": Said(Kind.GONE, b"550-5.1.1 no\r\n", Then.CLOSE),
    # silence
    "says nothing": Said(Kind.SILENT, b"", Then.HANG),
    "says half a reply": Said(Kind.SILENT, b"250-ok\r\n25", Then.HANG),
    # too much
    "says it twice": Said(Kind.TOO_MUCH, b"250 ok\r\n250 ok\r\n"),
    "goes on at once and takes it": Said(Kind.TOO_MUCH, b"354 go on\r\n250 2.0.0 taken\r\n"),
    "takes all that can come": Said(Kind.TOO_MUCH, b"250 ok\r\n" * 20),
}

# Where one reply of a dialogue with three recipients goes wrong; at RCPT, and with LMTP behind the content, it is the
# second one's. RSET: a transaction that all were refused in comes before.
STAGES = ("greeting", "EHLO", "RSET", "MAIL", "RCPT", "DATA", "content", "QUIT")

_FATES: dict[str, dict[Kind, str]] = {
    "greeting": {Kind.YES: "DDD"},  # refused for ever: of us, or of this host, not of the message
    "EHLO": {Kind.YES: "DDD", Kind.NEVER: "DDD"},  # HELO is said instead
    "RSET": {Kind.YES: "DDD"},
    "MAIL": {Kind.YES: "DDD", Kind.NEVER: "FFF"},
    "RCPT": {Kind.YES: "DDD", Kind.NEVER: "DFD", Kind.LATER: "DWD"},
    "DATA": {Kind.MORE: "DDD", Kind.NEVER: "FFF"},
    "content": {Kind.YES: "DDD", Kind.NEVER: "FFF"},
    "QUIT": dict.fromkeys(Kind, "DDD"),
}
_EACH = {Kind.YES: "DDD", Kind.NEVER: "DFD", Kind.LATER: "DWD"}  # LMTP's answers behind the content


def fates(stage: str, said: Said, *, lmtp: bool = False) -> str:
    """What becomes of the three: Delivered, Waiting or Failed. Whatever is not listed is doubt, and waits."""
    kind = said.kind
    if kind is Kind.TOO_MUCH and stage == "content" and said.octets.startswith(b"250"):
        return "DDD"  # the first one is the answer; what is behind it ends the session
    if lmtp and stage == "content":
        return _EACH.get(kind, "DWW")
    if lmtp and stage == "EHLO" and kind is Kind.NEVER:
        return "WWW"  # LMTP has no older greeting
    return _FATES[stage].get(kind, "WWW")


def perhaps_taken(stage: str, said: Said, who: int = 0, *, lmtp: bool = False) -> bool:
    """Nobody can tell whether the server has the message for recipient `who`: if he waits, he may get it twice."""
    if lmtp and stage == "content" and said.kind is Kind.CLOSING:
        return who > 1  # the second one was told; what was done for the third is not known
    return stage == "content" and said.kind not in (Kind.YES, Kind.LATER, Kind.NEVER, Kind.CLOSING)
