"""The envelope as text: the leading header field of a queue file, and back.

    X-Qmtls-Envelope: {"version":1,"size":            4096,
     "from":["alice","a.example"],"body":"7BIT",...
     "to":[["bob","b.example",[]],
     ["carol","c.example",[["NOTIFY","NEVER"]]]]}

JSON in ASCII, folded between its parts, ended by the first `}` before a CRLF (the folds inside stand behind `,`
or `[`, and JSON strings hold no raw line end). `size` counts the octets behind the field; it has a fixed
place and width, so that a message whose size is known last can be written from first to last and the number
put in then. A file that holds more or fewer octets was cut or changed, and is never sent.

Reading is strict, because a part that is not understood may be a demand (REQUIRETLS was one, once): unknown
versions, unknown or missing keys, other types and line ends inside values are all `Malformed`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, NoReturn

from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import Malformed

FIELD = b"X-Qmtls-Envelope: "
VERSION = 1
SIZE_WIDTH = 16  # digits: more octets than any file system holds
_START = f'{{"version":{VERSION},"size":'
SIZE_OFFSET = len(FIELD) + len(_START)
UNFINISHED = -1  # in place of the size until it is known
HEAD_LIMIT = 8 * 1024 * 1024  # octets: 10,000 recipients with 800 octets of address and DSN parameters each
_END = b"}\r\n"
_KEYS = frozenset({"version", "size", "from", "body", "smtputf8", "requiretls", "parameters", "arrival", "to"})
_TLS_OPTIONAL = "tlsoptional"  # written only where it is true
_ARRIVAL_KEYS = frozenset({"time", "client", "helo", "protocol", "tls", "identity"})
_ID = re.compile(r"[0-9a-z]{1,64}", re.ASCII)
_FORBIDDEN = re.compile(r"[\r\n\0]")

_FLAGS = ("false", "true")
_FOLD = ",\r\n "
_OPTIONAL = f'"{_TLS_OPTIONAL}":true,'


@dataclass(frozen=True, slots=True)
class Head:
    """What the leading field of a queue file says. The content starts at octet `length` and has `size` octets."""

    envelope: Envelope
    size: int
    length: int


def is_id(text: str) -> bool:
    """True if `text` can be a queue id, and so a file name of ours: short, lower case, no path."""
    return _ID.fullmatch(text) is not None


def encode_size(size: int) -> bytes:
    """What stands at SIZE_OFFSET for a content of `size` octets."""
    return b"%*d" % (SIZE_WIDTH, size)


def encode_envelope(envelope: Envelope, size: int = 0) -> bytes:
    """The whole field with its CRLF. Malformed if a value holds CR, LF or NUL, or if it gets longer than HEAD_LIMIT."""
    sender, came = envelope.reverse_path, envelope.arrival
    if not math.isfinite(came.time):
        raise Malformed("arrival: the time is no number")
    # Put together by hand: a general encoder costs five times as much, for every message that is received.
    text = (
        f"{_START}{size:{SIZE_WIDTH}d},\r\n"
        f' "from":{"null" if sender is None else f"[{_quote(sender.local_part)},{_quote(sender.domain)}]"},'
        f'"body":{_quote(envelope.body)},'
        f'"smtputf8":{_FLAGS[envelope.smtputf8]},'
        f'"requiretls":{_FLAGS[envelope.requiretls]},'
        f"{_OPTIONAL if envelope.tls_optional else ''}"
        f'"parameters":{_pairs(envelope.parameters)},\r\n'
        f' "arrival":{{"time":{came.time!r},"client":{_quote(came.client)},"helo":{_quote(came.helo)},'
        f'"protocol":{_quote(came.protocol)},"tls":{_quote(came.tls)},"identity":{_quote(came.identity)}}},\r\n'
        f' "to":[{_FOLD.join([_forward_path(recipient) for recipient in envelope.recipients])}]}}\r\n'
    )
    head = FIELD + text.encode("ascii")
    if len(head) > HEAD_LIMIT:
        raise Malformed(f"envelope of {len(head)} octets; the limit is {HEAD_LIMIT}")
    if "\\r" in text or "\\n" in text or "\\u0000" in text:  # perhaps only a backslash before the letter
        _no_line_ends(json.loads(text))
    return head


def _forward_path(recipient: Recipient) -> str:
    address = recipient.address
    return f"[{_quote(address.local_part)},{_quote(address.domain)},{_pairs(recipient.parameters)}]"


def _pairs(parameters: tuple[tuple[str, str], ...]) -> str:
    return f"[{','.join([f'[{_quote(key)},{_quote(value)}]' for key, value in parameters])}]" if parameters else "[]"


def ends(head: bytes) -> bool:
    """True if `head`, read from the start of a file, holds the whole field (or what can never become one)."""
    return _END in head or len(head) >= HEAD_LIMIT or not head.startswith(FIELD)


def decode_envelope(head: bytes) -> Envelope:
    """The envelope at the start of `head`; what follows the field is not looked at. Malformed."""
    return decode_head(head).envelope


def decode_head(head: bytes) -> Head:
    """Envelope, size and length of the field at the start of `head`. Malformed says what is wrong with it."""
    if not head.startswith(FIELD):
        _bad("does not start with X-Qmtls-Envelope")
    end = head.find(_END, 0, HEAD_LIMIT)
    if end < 0:
        _bad("the envelope has no end")
    try:
        text = head[len(FIELD) : end + 1].decode("ascii")
        parts = decode_json(text)
    except (ValueError, RecursionError):  # ValueError: no JSON, not ASCII, or a number of thousands of digits
        _bad("the envelope is not JSON")
    if not isinstance(parts, dict):
        _bad("the envelope is not a JSON object")
    if type(parts.get("version")) is not int or parts["version"] != VERSION:
        _bad(f"the envelope's version is not {VERSION}")
    if parts.keys() != _KEYS and parts.keys() - {_TLS_OPTIONAL} != _KEYS:
        _bad(f"keys missing or unknown: {', '.join(sorted((parts.keys() - {_TLS_OPTIONAL}) ^ _KEYS))[:200]}")
    size = parts["size"]
    if type(size) is not int or not 0 <= size < 10**SIZE_WIDTH:
        _bad("the size is missing: the file was never finished" if size == UNFINISHED else "the size is no number")
    if "\\" in text:  # JSON has line ends and NUL inside a value as escapes only
        _no_line_ends(parts)
    return Head(_envelope(parts), size, end + len(_END))


def _no_line_ends(value: object) -> None:
    if isinstance(value, str):
        if _FORBIDDEN.search(value):
            _bad("CR, LF or NUL inside a value")
    elif isinstance(value, list):
        for item in value:
            _no_line_ends(item)
    elif isinstance(value, dict):
        for item in value.values():
            _no_line_ends(item)


def _envelope(parts: dict[str, object]) -> Envelope:
    sender = parts["from"]
    return Envelope(
        reverse_path=None if sender is None else _address(_items(sender, 2, "from")),
        recipients=tuple([_recipient(item) for item in _items(parts["to"], None, "to")]),
        arrival=_arrival(parts["arrival"]),
        body=_text(parts["body"], "body"),
        smtputf8=_flag(parts["smtputf8"], "smtputf8"),
        requiretls=_flag(parts["requiretls"], "requiretls"),
        tls_optional=_flag(parts.get(_TLS_OPTIONAL, False), _TLS_OPTIONAL),
        parameters=_parameters(parts["parameters"]),
    )


def _arrival(value: object) -> Arrival:
    if not isinstance(value, dict) or value.keys() != _ARRIVAL_KEYS:
        _bad("arrival: keys missing or unknown")
    time = value["time"]
    if type(time) not in (int, float) or not math.isfinite(time):
        _bad("arrival: the time is no number")
    return Arrival(time, *[_text(value[key], key) for key in ("client", "helo", "protocol", "tls", "identity")])


def _recipient(value: object) -> Recipient:
    local_part, domain, parameters = _items(value, 3, "to")
    return Recipient(_address([local_part, domain]), _parameters(parameters))


def _address(value: list[object]) -> Address:
    return Address(_text(value[0], "local part"), _text(value[1], "domain"))


def _parameters(value: object) -> tuple[tuple[str, str], ...]:
    if value == []:
        return ()
    pairs = [_items(pair, 2, "parameters") for pair in _items(value, None, "parameters")]
    return tuple([(_text(key, "parameter"), _text(what, "parameter")) for key, what in pairs])


def _items(value: object, count: int | None, what: str) -> list[object]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        _bad(f"{what}: not a list" + (f" of {count}" if count else ""))
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        _bad(f"{what}: not text")
    return value


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        _bad(f"{what}: neither true nor false")
    return value


def _bad(why: str) -> NoReturn:
    raise Malformed(why)


_decoder: Any = json.JSONDecoder(parse_constant=_bad)
_scan: Callable[[str, int], tuple[object, int]] = _decoder.scan_once


def decode_json(text: str) -> object:
    """One JSON value, nothing behind it. ValueError, RecursionError, or Malformed for what is no number in JSON.

    The decoder's own way looks for blanks around it first, which takes as long as a short value.
    """
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    return value if end == len(text) else _decoder.decode(text)
