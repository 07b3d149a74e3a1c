"""Mail addresses as SMTP paths carry them (RFC 5321 section 4.1.2).

`parse_address` takes a mailbox and gives its one canonical form, so that two ways to write one local part
compare equal. What does not match the grammar is an `AddressError`, whose text may go into a reply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from qmtls.lookup import folded as folded

MAX_LOCAL_PART = 64  # octets; RFC 5321 section 4.5.3.1.1
MAX_DOMAIN = 255  # octets; section 4.5.3.1.2
MAX_PATH = 256  # octets with the two angle brackets; section 4.5.3.1.3

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
# Underscores are no part of RFC 5321's domains, but of many hosts' names; every large MTA takes them.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"

_MAILBOX = re.compile(rf"({_DOT_STRING})@({_DOMAIN})")
_IS_DOT_STRING = re.compile(_DOT_STRING)
_IS_QUOTED = re.compile(_QUOTED)
_IS_DOMAIN = re.compile(_DOMAIN)
_QUOTED_PAIR = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r'(["\\])')
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class AddressError(ValueError):
    """Not an address. str() is a short text for the reply: it repeats nothing that the peer wrote."""


class NeedsSmtpUtf8(AddressError):
    """The address has characters outside ASCII, and the transaction did not declare SMTPUTF8."""

    def __init__(self) -> None:
        super().__init__("address needs SMTPUTF8")


@dataclass(frozen=True, slots=True)
class Address:
    """`local_part` as written (quotes kept where they are needed); `domain` as written, "" only for <postmaster>.

    The null reverse-path is None wherever a reverse-path is expected, never an Address.
    """

    local_part: str
    domain: str

    @property
    def host(self) -> str:
        """The domain for comparisons: lower case, A-labels, without a final dot."""
        domain = self.domain
        return (domain if domain.isascii() else _a_labels(domain)).lower().rstrip(".")

    def __str__(self) -> str:
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part


@lru_cache(maxsize=1024)
def _a_labels(domain: str) -> str:
    """As DNS and rules have it (RFC 5890); one that has no such form is left as it is and equals no rule's."""
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:  # what idna raises is one of these
        return domain


def parse_address(text: str, *, smtputf8: bool = False) -> Address:
    """A mailbox `local@domain`, without angle brackets. AddressError if it is none.

    Quotes that the local part does not need are dropped (RFC 5321 section 4.1.2 asks for it). The domain
    may be a literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]`. Characters outside ASCII only with `smtputf8`
    (RFC 6531 section 3.3).
    """
    simple = _MAILBOX.fullmatch(text)
    local_part, domain = simple.groups() if simple else _split(text, smtputf8)
    octets = len(local_part.encode("utf-8"))
    if octets > MAX_LOCAL_PART:
        raise AddressError(f"local part longer than {MAX_LOCAL_PART} octets")
    if octets + 1 + len(domain.encode("utf-8")) > MAX_PATH - 2:  # which leaves the domain less than MAX_DOMAIN
        raise AddressError("address too long")
    if simple is None:
        _check_domain(domain)
        local_part = _canonical(local_part)
    return Address(local_part, domain)


def is_domain(text: str) -> bool:
    """True for a host name in ASCII as mailboxes and source routes have it."""
    return len(text) <= MAX_DOMAIN and _IS_DOMAIN.fullmatch(text) is not None


def is_dot_string(text: str) -> bool:
    """True for what can be a local part without quotes."""
    return _IS_DOT_STRING.fullmatch(_NOT_ASCII.sub("x", text)) is not None


def _split(text: str, smtputf8: bool) -> tuple[str, str]:
    # The domain has no "@", so the last one divides, whatever a quoted local part holds.
    local_part, at, domain = text.rpartition("@")
    if not at:
        raise AddressError("address without domain")
    if _NOT_ASCII.search(text):
        if not smtputf8:
            raise NeedsSmtpUtf8
        # Refuses controls, line separators, direction marks, and surrogates, which no file could hold.
        if not text.isprintable():
            raise AddressError("address with characters that cannot be seen")
    return local_part, domain


def _canonical(local_part: str) -> str:
    # Above ASCII any character is an atom's (RFC 6531 section 3.3), so the grammar is asked about a stand-in.
    shape = _NOT_ASCII.sub("x", local_part)
    if _IS_DOT_STRING.fullmatch(shape):
        return local_part
    if not _IS_QUOTED.fullmatch(shape):
        raise AddressError("malformed local part")
    bare = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    if _IS_DOT_STRING.fullmatch(_NOT_ASCII.sub("x", bare)):
        return bare
    return '"' + _TO_ESCAPE.sub(r"\\\1", bare) + '"'


def _check_domain(domain: str) -> None:
    if domain.startswith("[") and domain.endswith("]"):
        _check_literal(domain[1:-1])
    elif _NOT_ASCII.search(domain):
        try:
            idna.encode(domain, strict=True)
        except UnicodeError as error:  # what idna raises is one of these
            raise AddressError("malformed domain") from error
    elif not _IS_DOMAIN.fullmatch(domain):
        raise AddressError("malformed domain")


def _check_literal(literal: str) -> None:
    try:
        if literal[:5].lower() == "ipv6:":
            if "%" in literal:  # a scope names an interface of the writer's host, not of ours
                raise AddressError("malformed address literal")
            IPv6Address(literal[5:])
        else:
            IPv4Address(literal)
    except AddressValueError as error:
        raise AddressError("malformed address literal") from error
