"""One command line, without its CRLF, to a verb and its arguments (RFC 5321 section 4.1.1).

The two steps are apart because a session first asks whether a verb may come now, and only then whether it is well
formed. Nothing here has an effect. What is malformed raises `CommandError`, which carries the reply.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from qmtls.smtp import parameters
from qmtls.smtp.address import Address, AddressError, NeedsSmtpUtf8, is_domain, parse_address
from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import RcptTo, Transaction
from qmtls.smtp.reply import reply

MAX_HELO = 255  # octets of the name in EHLO or HELO; RFC 5321 section 4.5.3.1.2


class Verb(Enum):
    """What a line begins with."""

    EHLO = b"EHLO"
    HELO = b"HELO"
    STARTTLS = b"STARTTLS"
    MAIL = b"MAIL"
    RCPT = b"RCPT"
    DATA = b"DATA"
    BDAT = b"BDAT"
    AUTH = b"AUTH"
    RSET = b"RSET"
    NOOP = b"NOOP"
    VRFY = b"VRFY"
    HELP = b"HELP"
    QUIT = b"QUIT"
    UNIMPLEMENTED = b""  # an SMTP command that this server does not have
    HTTP = b" "  # a web client, or one made to speak to us (ALPACA)
    UNKNOWN = b"  "

    __hash__ = object.__hash__  # members are single, and Enum's own hash is a slow one for a key of each command


_VERBS: dict[bytes, Verb] = {verb.value: verb for verb in Verb if verb.value.isalpha()}
_VERBS |= dict.fromkeys(b"EXPN ETRN TURN ATRN SEND SOML SAML BURL".split(), Verb.UNIMPLEMENTED)
_VERBS |= dict.fromkeys(b"GET HEAD POST PUT DELETE OPTIONS CONNECT TRACE PATCH PRI".split(), Verb.HTTP)


class Command(NamedTuple):
    """`argument` is what stands behind the verb, without the blanks around it."""

    verb: Verb
    argument: bytes


class Chunk(NamedTuple):
    """The arguments of BDAT (RFC 3030 section 2)."""

    size: int
    last: bool


# A quoted local part may hold ">". Possessive, so that a hostile line costs one pass.
_PATH = rb'[ \t]*<((?:[^">]|"(?:[^"\\]|\\.)*+")*+)>(?:[ \t]+(.*))?'
_FROM = re.compile(rb"(?i:FROM):" + _PATH)
_TO = re.compile(rb"(?i:TO):" + _PATH)
_ROUTE = re.compile(r"(@[^@,:]+(?:,@[^@,:]+)*):")
_CHUNK = re.compile(rb"([0-9]{1,20})(?:[ \t]+((?i:LAST)))?")
_VISIBLE = re.compile(rb"[ -~]+")

_RELAYED = frozenset({"RET", "ENVID", "NOTIFY", "ORCPT"})

_NOT_ASCII = reply(553, "5.6.7", "8-bit addresses need SMTPUTF8")


def parse(line: bytes) -> Command:
    """Never fails: what is no command has the verb UNKNOWN."""
    word, _, argument = line.partition(b" ")
    verb = _VERBS.get(word.upper())
    if verb is None:
        # A tab behind the verb, or blanks behind the whole line, are tolerated (RFC 5321 section 4.1.1).
        word, _, argument = line.replace(b"\t", b" ").partition(b" ")
        verb = _VERBS.get(word.upper(), Verb.UNKNOWN)
    return Command(verb, argument.strip(b" \t"))


def hello(argument: bytes) -> str:
    """The name behind EHLO or HELO. It is shown to people, never believed, so any visible text will do."""
    if not argument:
        raise CommandError(reply(501, "5.5.4", "your host name, please"))
    if len(argument) > MAX_HELO or not _VISIBLE.fullmatch(argument):
        raise CommandError(reply(501, "5.5.4", "that is no host name"))
    return argument.decode("ascii")


def mail(argument: bytes, known: parameters.Known) -> Transaction:
    """MAIL FROM:<reverse-path> [parameters]. `known` are those that this state offers."""
    path, rest = _matched(_FROM.fullmatch(argument), "MAIL FROM:<address>")
    if not rest:
        return Transaction(_mailbox(path, "5.1.7") if path else None)
    values = parameters.parse(rest, known)
    smtputf8 = "SMTPUTF8" in values
    return Transaction(
        _mailbox(path, "5.1.7", smtputf8) if path else None,
        body=values.get("BODY", "7BIT").upper(),
        size=int(values["SIZE"]) if "SIZE" in values else None,
        smtputf8=smtputf8,
        requiretls="REQUIRETLS" in values,
        parameters=_to_relay(values),
    )


def recipient(argument: bytes, known: parameters.Known, *, smtputf8: bool = False) -> RcptTo:
    """RCPT TO:<forward-path> [parameters]. `smtputf8` as the transaction has it."""
    path, rest = _matched(_TO.fullmatch(argument), "RCPT TO:<address>")
    values = _to_relay(parameters.parse(rest, known, smtputf8=smtputf8)) if rest else ()
    if path.lower() == b"postmaster":  # the one name that needs no domain (RFC 5321 section 4.5.1)
        return RcptTo(Address("postmaster", ""), values)
    return RcptTo(_mailbox(path, "5.1.3", smtputf8), values)


def chunk(argument: bytes) -> Chunk:
    """BDAT size [LAST]. After a CommandError nobody knows how many octets of content follow."""
    match = _CHUNK.fullmatch(argument)
    if match is None:
        raise CommandError(reply(501, "5.5.4", "BDAT wants a number of octets, and LAST or nothing"))
    return Chunk(int(match[1]), match[2] is not None)


def text(argument: bytes) -> None:
    """For commands whose argument is not looked at: visible ASCII, or nothing."""
    if argument and not _VISIBLE.fullmatch(argument):
        raise CommandError(reply(501, "5.5.4", "parameter with 8-bit or control characters"))


def verify(argument: bytes) -> None:
    """VRFY string [SMTPUTF8]: only with that word may the string be UTF-8 (RFC 6531 section 3.7.4.2)."""
    if argument.isascii():
        text(argument)
        return
    if not argument.upper().endswith(b" SMTPUTF8"):
        raise CommandError(_NOT_ASCII)
    try:
        visible = argument.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        visible = False
    if not visible:
        raise CommandError(reply(501, "5.5.4", "malformed UTF-8, or characters that cannot be seen"))


def nothing(argument: bytes) -> None:
    """For commands without arguments."""
    if argument:
        raise CommandError(reply(501, "5.5.4", "no parameters allowed"))


def _matched(match: re.Match[bytes] | None, wanted: str) -> tuple[bytes, bytes]:
    """Path and parameters."""
    if match is None:
        raise CommandError(reply(501, "5.5.4", f"the syntax is {wanted}"))
    return match[1], match[2] or b""


def _to_relay(values: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What the next hop is to get of them, in its canonical form.

    AUTH= is not among them: it is another server's claim about the author, which we may not make ours
    (RFC 4954 section 5).
    """
    if _RELAYED.isdisjoint(values):
        return ()
    return tuple(
        (keyword, value.upper() if keyword in ("RET", "NOTIFY") else value)
        for keyword, value in values.items()
        if keyword in _RELAYED
    )


def _mailbox(path: bytes, status: str, smtputf8: bool = False) -> Address:
    try:
        text = path.decode("utf-8")
        if text.startswith("@"):
            text = _without_route(text)
        return parse_address(text, smtputf8=smtputf8)
    except NeedsSmtpUtf8:
        raise CommandError(_NOT_ASCII) from None
    except UnicodeDecodeError:
        raise CommandError(reply(501, status, "malformed UTF-8") if smtputf8 else _NOT_ASCII) from None
    except AddressError as error:
        raise CommandError(reply(501, status, str(error))) from error


def _without_route(text: str) -> str:
    """<@a,@b:user@c> is for user@c: source routes are obsolete, and dropped (RFC 5321 appendix C)."""
    match = _ROUTE.match(text)
    if match is None or not all(is_domain(hop[1:]) for hop in match[1].split(",")):
        raise AddressError("malformed source route")
    return text[match.end() :]
