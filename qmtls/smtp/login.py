"""How a client proves who it is (RFC 4954): a mechanism that the server offers, and what is said in it.

    exchange = Exchange(login, extensions)
    exchange.first()                    the AUTH command
    exchange.answer()                   to each 334

EXTERNAL where there is no password: our certificate is the login (RFC 4422 appendix A). Else PLAIN (RFC 4616), else
LOGIN, which old servers know alone. What proves nothing without the password (CRAM-MD5 and its like) is not needed: it
is only said over verified TLS.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_INITIAL = 512 - len("AUTH PLAIN \r\n")  # octets of a command line; RFC 4954 section 4


class NoMechanism(Exception):
    """The server offers none that would do; str() is a fragment: "it offers no AUTH"."""


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password. `password` None: the certificate that we show is the proof, `user` whom to be ("" = whom
    it names). `origin` for people: the line that says so."""

    user: str
    password: str | None = field(repr=False)
    origin: str = ""


Logins = Mapping[tuple[str, int], Login]  # by relay and port; port 0 = every other


def login_for(logins: Logins, relay: str, port: int) -> Login | None:
    """What to say to `relay`, if anything."""
    return logins.get((relay, port)) or logins.get((relay, 0))


class Exchange:
    """One login under way."""

    __slots__ = ("_responses",)

    def __init__(self, login: Login, extensions: Mapping[str, str]) -> None:
        """NoMechanism if the server offers nothing for it."""
        offered = extensions.get("AUTH", "").upper().split()
        wanted = ("EXTERNAL",) if login.password is None else ("PLAIN", "LOGIN")
        mechanism = next((name for name in wanted if name in offered), "")
        if not mechanism:
            raise NoMechanism(f"it offers {_shown(offered)}, and not {' or '.join(wanted)}")
        self._responses = _responses(login, mechanism)

    def first(self) -> bytes:
        """The AUTH command, without its line end."""
        return self._responses.pop(0)

    def answer(self) -> bytes:
        """What to say to a 334, without its line end: "*" once there is nothing left to say."""
        return self._responses.pop(0) if self._responses else b"*"


def _responses(login: Login, mechanism: str) -> list[bytes]:
    user = login.user.encode("utf-8")
    password = (login.password or "").encode("utf-8")
    match mechanism:
        case "EXTERNAL":
            return _with_initial(b"AUTH EXTERNAL", user)
        case "PLAIN":
            return _with_initial(b"AUTH PLAIN", b"\0%s\0%s" % (user, password))
        case _:
            return [b"AUTH LOGIN", b64encode(user), b64encode(password)]


def _with_initial(command: bytes, response: bytes) -> list[bytes]:
    """In one line, if it fits; an empty response is "=" (RFC 4954 section 4)."""
    encoded = b64encode(response)
    if len(encoded) > MAX_INITIAL:
        return [command, encoded]
    return [b"%s %s" % (command, encoded or b"=")]


def _shown(offered: Sequence[str]) -> str:
    words = " ".join(word for word in offered[:10] if word.isascii() and word.isprintable())
    return f"AUTH {words}" if words else "no AUTH"
