"""The single values of control files: names, numbers, addresses, digests. Each raises BadValueError with its mend."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from ipaddress import ip_address, ip_network

from qmtls.control.lists import BadValueError, quote
from qmtls.networks import Network
from qmtls.tls.names import canonical, is_host_name, is_ip

DIGEST = 32  # octets of SHA-256
MAX_GREETING = 400  # a reply line is at most 512 octets (RFC 5321 section 4.5.3.1.5)

_NUMBER = re.compile(r"[0-9]{1,15}\Z")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}\Z")  # RFC 5321: a dot-string, 64 octets
_CIPHERS = re.compile(r"[A-Za-z0-9_+!@=:.,-]+\Z")
_HEX = re.compile(r"[0-9a-fA-F]{64}\Z")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?\Z")

SPKI_MEND = (
    "take it from: openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform DER"
    " | openssl dgst -sha256 -binary | base64"
)
SHA256_MEND = "take it from: openssl x509 -in CERT -noout -fingerprint -sha256"


def host(text: str) -> str:
    """A host or domain name in canonical form."""
    name = canonical(text)
    if not is_host_name(name):
        raise BadValueError(f"{quote(text)} is no host name", "write one name in letters, digits, hyphens and dots")
    return name


def domain_or_parent(text: str) -> str:
    """ "example.org" or ".example.org" (every name below)."""
    return "." + host(text[1:]) if text.startswith(".") else host(text)


def host_or_literal(text: str) -> str:
    """A host name, or an address literal "[192.0.2.1]" as HELO may carry."""
    found = _BRACKETED.match(text)
    if found and found[2] is None and is_ip(found[1].lower().removeprefix("ipv6:")):
        return text
    return host(text)


def host_or_address(text: str) -> str:
    """A host name or an IP address, brackets around it or not; without them in the result."""
    found = _BRACKETED.match(text)
    bare = found[1] if found and found[2] is None else text
    return str(ip_address(bare)) if is_ip(bare) else host(bare)


def host_and_port(text: str, default: int) -> tuple[str, int]:
    """HOST, HOST:PORT, [HOST]:PORT, an IPv6 address in brackets."""
    found = _BRACKETED.match(text)
    if found:
        name, number = found[1], found[2]
    elif is_ip(text):
        name, number = text, None
    else:
        name, colon, rest = text.partition(":")
        number = rest if colon else None
    return host_or_address(name), default if number is None else port(number)


def port(text: str) -> int:
    """A TCP port."""
    return number(text, 1, 65535)


def number(text: str, least: int, most: int) -> int:
    """A whole number in decimal digits, within bounds."""
    if not _NUMBER.match(text):
        raise BadValueError(
            f"{quote(text)} is no whole number", f"write a number from {least} to {most} and nothing else"
        )
    value = int(text)
    if not least <= value <= most:
        raise BadValueError(f"{value} is out of range", f"write a number from {least} to {most}")
    return value


def local_part(text: str) -> str:
    """The part of an address before the @, without quotes."""
    if not _LOCAL_PART.match(text):
        raise BadValueError(f"{quote(text)} cannot stand before the @ of an address", "write a name such as postmaster")
    return text


def bounce_style(text: str) -> str:
    """The form of failure reports."""
    style = text.lower()
    if style not in ("dsn", "qsbmf"):
        raise BadValueError(f"{quote(text)} is no form of failure reports", "write dsn (RFC 3464) or qsbmf (qmail's)")
    return style


def greeting(text: str) -> str:
    """The text of the 220."""
    if len(text) > MAX_GREETING or not (text.isascii() and text.isprintable()):
        raise BadValueError("cannot be sent as greeting", f"write at most {MAX_GREETING} characters of printable ASCII")
    return text


def cipher_list(text: str) -> str:
    """The characters of an OpenSSL cipher list; whether OpenSSL knows the words is seen when it gets them."""
    words = text.replace(" ", ":")
    if not _CIPHERS.match(words):
        raise BadValueError(f"{quote(text)} is no OpenSSL cipher list", "write one as `openssl ciphers` takes it")
    return words


def network(text: str) -> Network:
    """A CIDR block or a single address."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        mend = "write a CIDR block such as 192.0.2.0/24 or 2001:db8::/32"
        raise BadValueError(f"{quote(text)} is no network", mend) from None
    raise BadValueError(f"{text} has host bits set", f"write {meant} if the whole network is meant")


def sha256_digest(text: str) -> bytes:
    """64 hexadecimal digits, colons between them or not."""
    digits = text.replace(":", "")
    if not _HEX.match(digits):
        raise BadValueError(f"{quote(text)} is no SHA-256 digest (64 hexadecimal digits)", SHA256_MEND)
    return bytes.fromhex(digits)


def spki_digest(text: str) -> bytes:
    """Base64 of the SHA-256 of a SubjectPublicKeyInfo."""
    try:
        digest = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        digest = b""
    if len(digest) != DIGEST:
        raise BadValueError(f"{quote(text)} is no base64 of a SHA-256 digest (44 characters)", SPKI_MEND)
    return digest
