"""What the sessions tell their adapters. Events marked "asks" want exactly one `answer` before the next event comes.

Server: the session owns the replies, the adapter owns the decisions and the disk.
Client: the session owns the dialogue, the adapter owns the connection, the handshake and the content.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from qmtls.smtp.address import Address
from qmtls.smtp.reply import Reply


class Signal(Enum):
    """`next_event` has nothing to say."""

    NEED_DATA = "need data"  # give it more octets
    PAUSED = "paused"  # an answer (or the handshake) is outstanding: octets are only stored


NEED_DATA = Signal.NEED_DATA
PAUSED = Signal.PAUSED

# ---------------------------------------------------------------- server


@dataclass(frozen=True, slots=True)
class Transaction:
    """A mail transaction under way (RFC 5321 section 3.3): made by MAIL, dropped by one function."""

    reverse_path: Address | None
    body: str = "7BIT"
    size: int | None = None  # SIZE= as the client declared it, octets
    smtputf8: bool = False
    requiretls: bool = False
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MailFrom:
    """asks. 2xx opens the transaction."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class RcptTo:
    """asks. 2xx adds the recipient; `address.domain` is "" only for <postmaster>."""

    address: Address
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Authenticate:
    """asks. A client says who it is (RFC 4954): 235 2.7.0 takes its word, 535 5.7.8 does not, 454 4.7.0 cannot tell.

    EXTERNAL: the credential is the certificate shown, `user` and `password` are "". PLAIN, LOGIN: `user` and
    `password` are never "". `identity` is whom the client wants to act for, "" for itself (RFC 4422 section 3.4.1).
    """

    mechanism: str
    identity: str = ""
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DataStart:
    """asks. DATA, or the first BDAT. Answer GO_AHEAD (354; sent for DATA only) or a refusal."""

    chunking: bool


@dataclass(frozen=True, slots=True)
class Content:
    """Octets of the message as it will be stored: CRLF line ends, dots unstuffed."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ContentEnd:
    """asks. The content is complete: answer 250 only when it is safe on disk."""

    size: int  # octets of content given in Content events


@dataclass(frozen=True, slots=True)
class ContentRefused:
    """The session refused the content (bare CR or LF, too large, looping); throw away what was stored."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Reset:
    """The transaction is gone (RSET, EHLO, an aborted BDAT); throw away what was stored."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """220 is in `data_to_send`: send it, do the handshake, then call `tls_established`."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over: send what is left, then close. Nothing received afterwards is looked at."""

    why: str


ServerEvent = (
    MailFrom | RcptTo | Authenticate | DataStart | Content | ContentEnd | ContentRefused | Reset | StartTls | Closed
)

# ---------------------------------------------------------------- client


class Stage(Enum):
    """Where in the dialogue something happened; the words appear in reasons shown to people."""

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    CONNECT = "connecting"
    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "TLS handshake"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    SENDING = "sending content"  # its end was not sent: nothing can have been accepted
    CONTENT = "content"  # all of it was sent
    QUIT = "QUIT"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one recipient in one transaction, judged by the first digit of `reply`.

    `reply` is None where the connection ended first: then it is temporary, and with
    stage CONTENT a possible duplicate (RFC 1047).
    """

    stage: Stage
    reply: Reply | None
    why: str = ""  # where reply is None: "connection lost", "timed out", "not sent: ..."


@dataclass(frozen=True, slots=True)
class Greeted:
    """EHLO (or HELO) was accepted: upper-case keyword to its parameters. Comes again after STARTTLS.

    `name` is what the server calls itself, "" if that is neither a host name nor an address literal."""

    extensions: dict[str, str]
    tls: bool
    name: str = ""


@dataclass(frozen=True, slots=True)
class TlsGo:
    """220 to STARTTLS with nothing behind it: do the handshake, then call `tls_established`."""


@dataclass(frozen=True, slots=True)
class TlsRefused:
    """STARTTLS was answered 4xx or 5xx; the session can go on in plaintext if the policy lets it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a line of `ask`: 3xx wants another line, after any other the session is as it was."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class SendContent:
    """354 was received: give the content by `send_content` and `end_content`."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The transaction ended; one result per recipient, in the order given. The session can take the next one."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over (refusal, 421, malformed reply, injection, lost, timed out, or after QUIT): close.

    `results` are those of the transaction under way, () if there was none.
    `reply` is the peer's own words if they ended it.
    """

    stage: Stage
    why: str
    reply: Reply | None = None
    results: tuple[Result, ...] = ()
    injected: bool = False  # octets came behind the 220 of STARTTLS


ClientEvent = Greeted | TlsGo | TlsRefused | Answered | SendContent | Sent | Ended
