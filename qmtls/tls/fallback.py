"""What follows when TLS with a host does not come about: the one table of it, level by level.

Plaintext is for those levels only that permit it, and follows from this attempt alone: no failure is remembered, so the
next attempt asks for TLS again. A stall counts as a failure of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qmtls.tls.demand import Level


class Trouble(Enum):
    """How far it got."""

    NOT_OFFERED = "STARTTLS is not offered"
    REFUSED = "STARTTLS was answered with an error"
    CUT = "STARTTLS got no answer, or one that something was injected behind"
    HANDSHAKE = "the handshake failed, or stalled"
    AFTERWARDS = "the session ended right after the handshake"
    UNMET = "the handshake showed what the demand does not accept"


class Then(Enum):
    """What is done about it."""

    PLAIN = "plaintext on this connection"
    PLAIN_AGAIN = "plaintext on a new connection, once"
    NEXT_HOST = "the next host; after the last one mail waits"


_NEVER = dict.fromkeys(Trouble, Then.NEXT_HOST)
FALLBACK: dict[Level, dict[Trouble, Then]] = {
    **dict.fromkeys(Level, _NEVER),
    Level.NONE: dict.fromkeys(Trouble, Then.PLAIN),  # nobody asked for TLS
    Level.MAY: {
        Trouble.NOT_OFFERED: Then.PLAIN,
        Trouble.REFUSED: Then.PLAIN,
        Trouble.CUT: Then.PLAIN_AGAIN,
        Trouble.HANDSHAKE: Then.PLAIN_AGAIN,
        Trouble.AFTERWARDS: Then.PLAIN_AGAIN,
        Trouble.UNMET: Then.NEXT_HOST,
    },
}

# RFC 3463 section 3.8: a host that offers TLS and then breaks it is another finding than one that has none.
_STATUS = {
    Trouble.NOT_OFFERED: "4.7.4",
    Trouble.REFUSED: "4.7.4",
    Trouble.CUT: "4.7.4",
    Trouble.HANDSHAKE: "4.7.5",
    Trouble.AFTERWARDS: "4.7.5",
    Trouble.UNMET: "4.7.5",
}


@dataclass(frozen=True, slots=True)
class NoTls:
    """A connection without TLS: how that came, in words for a sentence, and what may help ("" = nothing special)."""

    trouble: Trouble
    words: str
    mend: str = ""

    def __str__(self) -> str:
        return self.words

    @property
    def status(self) -> str:
        """RFC 3463's, where TLS is demanded."""
        return _STATUS[self.trouble]


NOT_OFFERED = NoTls(Trouble.NOT_OFFERED, Trouble.NOT_OFFERED.value)


def then(level: Level, trouble: Trouble) -> Then:
    """What to do at `level` about `trouble`."""
    return FALLBACK[level][trouble]


def hung_up(name: str) -> NoTls:
    """The peer answered our hello by closing the connection: `name` is what a tlspolicy line for it begins with.

    Some do so at a hello that fills more than one segment, others at TLS 1.3.
    """
    mend = (
        f"some hosts choke on a part of the hello: a line `{name} LEVEL groups=X25519:P-256` in control/tlspolicy "
        "makes it shorter, protocols=TLSv1.2 makes it older"
    )
    return NoTls(Trouble.HANDSHAKE, "the TLS handshake failed: it hung up after our hello", mend)


def left_after(why: str, name: str, *, certificate_shown: bool) -> NoTls:
    """The session ended when the handshake was done, as it does with TLS 1.3 where our certificate is refused."""
    mend = f"if it does not like our certificate, write none into control/clientcerts/{name}.pem"
    words = f"the host ended the session right after the TLS handshake: {why}"
    return NoTls(Trouble.AFTERWARDS, words, mend if certificate_shown else "")
