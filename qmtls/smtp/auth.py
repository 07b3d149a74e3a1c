"""SASL as SMTP carries it: what the client says to who it claims to be (RFC 4954, RFC 4422, RFC 4616).

    exchange = Exchange(mechanism)
    step = exchange.step(line)      a challenge as a Reply (334), or `Authenticate`: the claim, to be judged elsewhere

Nothing is decided here, and no secret is kept: an exchange is thrown away with its claim. What is malformed raises
`CommandError`, and the exchange is over.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Generator, Mapping

from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import Authenticate
from qmtls.smtp.reply import Reply, reply

MAX_RESPONSE = 12288 - 2  # octets without CRLF; RFC 4954 section 4.4

# RFC 4616 section 2 wants names and passwords of 255 octets; more than this is no password, but work for a hash.
MAX_CREDENTIAL = 1024  # octets each

CANCELLED = reply(501, "5.7.0", "authentication cancelled")
TOO_LONG = reply(500, "5.5.6", "that line is too long for an authentication")
_NOT_BASE64 = reply(501, "5.5.2", "that is no base64")
_MALFORMED = reply(501, "5.5.2", "malformed credentials")
_UNKNOWN = reply(504, "5.5.4", "that mechanism is not offered here")

Steps = Generator[bytes, bytes, Authenticate]  # yields challenges, is sent responses, returns the claim


def _external() -> Steps:
    """RFC 4422 appendix A: the credential is outside, the response whom to act for."""
    identity = yield b""
    return Authenticate("EXTERNAL", _text(identity))


def _plain() -> Steps:
    """RFC 4616: [authzid] NUL authcid NUL passwd."""
    message = yield b""
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise CommandError(_MALFORMED)
    identity, user, password = (_text(part) for part in parts)
    return Authenticate("PLAIN", identity, _given(user), _given(password))


def _login() -> Steps:
    """Written down nowhere; as all clients do it, the name also as an initial response."""
    user = _given(_text((yield b"Username:")))
    password = _given(_text((yield b"Password:")))
    return Authenticate("LOGIN", "", user, password)


MECHANISMS: Mapping[str, Callable[[], Steps]] = {"EXTERNAL": _external, "PLAIN": _plain, "LOGIN": _login}


class Exchange:
    """One authentication under way."""

    __slots__ = ("_challenge", "_steps")

    def __init__(self, mechanism: str, offered: tuple[str, ...]) -> None:
        """CommandError if the mechanism is not one of the offered ones."""
        name = mechanism.upper()
        if name not in offered or name not in MECHANISMS:
            raise CommandError(_UNKNOWN)
        self._steps = MECHANISMS[name]()
        self._challenge = next(self._steps)

    def start(self, initial: bytes) -> Reply | Authenticate:
        """What is behind the mechanism's name: b"" = nothing, b"=" = an empty response (RFC 4954 section 4)."""
        if not initial:
            return _challenge(self._challenge)
        return self._take(b"" if initial == b"=" else _decode(initial))

    def step(self, line: bytes) -> Reply | Authenticate:
        """The client's answer to the last challenge."""
        if line == b"*":
            raise CommandError(CANCELLED)
        return self._take(_decode(line))

    def _take(self, response: bytes) -> Reply | Authenticate:
        try:
            return _challenge(self._steps.send(response))
        except StopIteration as over:
            claim: Authenticate = over.value
            return claim


def _challenge(octets: bytes) -> Reply:
    return reply(334, "", base64.b64encode(octets).decode("ascii"))


def _decode(line: bytes) -> bytes:
    """Strict: one octet string has one base64 text, with all its padding and nothing else."""
    try:
        octets = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise CommandError(_NOT_BASE64) from None
    if base64.b64encode(octets) != line:
        raise CommandError(_NOT_BASE64)
    return octets


def _text(octets: bytes) -> str:
    """UTF-8 without NUL."""
    if len(octets) > MAX_CREDENTIAL or b"\0" in octets:
        raise CommandError(_MALFORMED)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(_MALFORMED) from None


def _given(text: str) -> str:
    if not text:
        raise CommandError(_MALFORMED)
    return text
