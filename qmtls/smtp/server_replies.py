"""What the server session says of its own accord. Tools match some of these texts: change none lightly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from qmtls.smtp.reply import Reply, reply

GO_AHEAD = reply(354, "", "go ahead, end with a dot on a line of its own")
READY_FOR_TLS = reply(220, "", "ready for tls")

OK = reply(250, "2.0.0", "ok")
FLUSHED = reply(250, "2.0.0", "flushed")
VRFY = reply(252, "2.0.0", "send some mail, I'll try my best")
HELP = reply(214, "2.0.0", "EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT; see RFC 5321")

NO_TLS = reply(454, "4.7.0", "TLS not available")
TLS_TWICE = reply(503, "5.5.1", "this is TLS already")
STARTTLS_FIRST = reply(530, "5.7.0", "issue STARTTLS first: nobody can be known here without TLS")  # RFC 3207 section 4
BEHIND_STARTTLS = reply(501, "5.5.4", "nothing may follow STARTTLS before its reply")

NO_AUTH = reply(502, "5.5.1", "unimplemented")
AUTH_NEEDS_TLS = reply(538, "5.7.11", "encryption is required first: STARTTLS")
AUTH_NEEDS_EHLO = reply(503, "5.5.1", "EHLO first")
AUTH_TWICE = reply(503, "5.5.1", "authenticated already")

LINE_TOO_LONG = reply(500, "5.5.2", "line too long")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "too many recipients")
RECIPIENTS_LATER = reply(452, "4.5.3", "too many refused recipients in this session, try these in another one")

# These end the session.
ENDLESS_LINE = reply(421, "4.7.0", "that line was far too long")
TOO_MANY_ERRORS = reply(421, "4.7.0", "too many errors")
TOO_MANY_COMMANDS = reply(421, "4.7.0", "too many commands without a message")
TOO_MANY_REFUSALS = reply(421, "4.7.0", "too many refused recipients")
TOO_MUCH = reply(421, "4.7.0", "too much at once")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a session needs to know of the server."""

    host: str  # our name: EHLO reply, 221
    greeting: str  # text of the 220
    max_size: int = 0  # octets of content; 0 = no limit
    starttls: bool = False  # a server certificate exists
    tls_first: bool = False  # TLS from the first octet: the greeting waits for `tls_established`
    submission: bool = False  # RFC 6409: for users of ours, not for other servers; MAIL wants TLS first
    max_recipients: int = 1000  # of one transaction; RFC 5321 section 4.5.3.1.8 wants 100 at least
    max_errors: int = 10  # of one session, see smtp/budget.py; 0 = no limit
    max_commands: int = 100  # in a row that bring no message; 0 = no limit


def greeting(config: ServerConfig) -> Reply:
    """The first reply of a session."""
    return reply(220, "", config.greeting)


def goodbye(config: ServerConfig) -> Reply:
    """The reply to QUIT."""
    return reply(221, "2.0.0", config.host)


@lru_cache(maxsize=64)
def hello(config: ServerConfig, esmtp: bool, tls: bool, mechanisms: tuple[str, ...]) -> bytes:
    """The reply to EHLO or HELO on the wire: exactly the extensions that work in that state.

    SIZE 0 says that there is no limit (RFC 1870 section 3). `mechanisms` are those that AUTH takes now.
    """
    if not esmtp:
        return reply(250, "", config.host).encode()
    offered = [config.host, "PIPELINING", f"SIZE {config.max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
    offered += ["DSN", "CHUNKING", f"LIMITS RCPTMAX={config.max_recipients}"]
    if tls:
        offered.append("REQUIRETLS")
    elif config.starttls:
        offered.append("STARTTLS")
    if mechanisms:
        offered.append(f"AUTH {' '.join(mechanisms)}")
    return reply(250, "", *offered).encode()


def chunk_taken(octets: int) -> Reply:
    """The reply to a BDAT that is not the last."""
    return reply(250, "2.0.0", f"{octets} octets received")
