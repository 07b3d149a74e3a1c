"""Subjects as rules name them: `openssl x509 -subject -nameopt RFC2253` (RFC 4514), compared by what they mean.

The text of a rule and the subject of a certificate are both turned into one key: attribute types as OIDs, values
decoded, in the order of the certificate. So it does not matter how a character was escaped, in which order the
attributes of one RDN stand, or which string type the CA used. Values are compared exactly, letter case included.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from cryptography import x509

from qmtls.tls.pin import element

# The short names under which OpenSSL prints attribute types; any other type it prints as OID. Compared without case.
_TYPES = {
    "cn": "2.5.4.3",
    "sn": "2.5.4.4",
    "serialnumber": "2.5.4.5",
    "c": "2.5.4.6",
    "l": "2.5.4.7",
    "st": "2.5.4.8",
    "street": "2.5.4.9",
    "o": "2.5.4.10",
    "ou": "2.5.4.11",
    "title": "2.5.4.12",
    "description": "2.5.4.13",
    "businesscategory": "2.5.4.15",
    "postaladdress": "2.5.4.16",
    "postalcode": "2.5.4.17",
    "postofficebox": "2.5.4.18",
    "telephonenumber": "2.5.4.20",
    "name": "2.5.4.41",
    "gn": "2.5.4.42",
    "initials": "2.5.4.43",
    "generationqualifier": "2.5.4.44",
    "x500uniqueidentifier": "2.5.4.45",
    "dnqualifier": "2.5.4.46",
    "pseudonym": "2.5.4.65",
    "role": "2.5.4.72",
    "organizationidentifier": "2.5.4.97",
    "uid": "0.9.2342.19200300.100.1.1",
    "mail": "0.9.2342.19200300.100.1.3",
    "dc": "0.9.2342.19200300.100.1.25",
    "emailaddress": "1.2.840.113549.1.9.1",
    "unstructuredname": "1.2.840.113549.1.9.2",
    "unstructuredaddress": "1.2.840.113549.1.9.8",
    "jurisdictionl": "1.3.6.1.4.1.311.60.2.1.1",
    "jurisdictionst": "1.3.6.1.4.1.311.60.2.1.2",
    "jurisdictionc": "1.3.6.1.4.1.311.60.2.1.3",
}
_OID = re.compile(r"(?:oid\.)?([0-2](?:\.(?:0|[1-9][0-9]*))+)\Z", re.IGNORECASE)

_ESCAPED = re.compile(rb"\\([0-9A-Fa-f]{2}|[ -~])")
_SPLIT = {mark: re.compile(rf"((?:[^\\{mark}]|\\.)*)({re.escape(mark)}|\Z)", re.DOTALL) for mark in (",", "+")}
_TRAILING = re.compile(r"((?:[^\\ ]|\\.| +(?=[^ ]))*) *\Z", re.DOTALL)
_MUST_BE_ESCAPED = re.compile(r'(?:[^\\"<>;]|\\.)*\Z', re.DOTALL)

# String types of ASN.1 that are not UTF-8 (or ASCII, which is that too): BMPString, UniversalString.
_ENCODINGS = {30: "utf-16-be", 28: "utf-32-be"}
_BIT_STRING = 3  # begins with the number of unused bits
_NO_DER = "has a # with something else behind it than one value in DER"


class DnError(ValueError):
    """A text that is no subject; str() is a sentence fragment."""


def subject_key(name: x509.Name) -> str:
    """The key of a certificate's subject; "" if it is empty."""
    return ",".join(
        "+".join(sorted(_pair(attribute.oid.dotted_string, attribute.value) for attribute in rdn)) for rdn in name.rdns
    )


def parse_subject(text: str) -> str:
    """The key of a subject as a rule writes it. DnError if it is none."""
    keys = ["+".join(sorted(_attribute(part) for part in _split(rdn, "+"))) for rdn in _split(text, ",")]
    return ",".join(reversed(keys))  # RFC 4514 section 2.1: the text begins with the last


def _pair(oid: str, value: str | bytes) -> str:
    return f"{oid}={'#' + value.hex() if isinstance(value, bytes) else quote(value, safe=' @')}"


def _split(text: str, separator: str) -> list[str]:
    parts, position = [], 0
    while True:
        found = _SPLIT[separator].match(text, position)
        if found is None:
            raise DnError("ends in a backslash")
        parts.append(found[1])
        position = found.end()
        if not found[2]:
            return parts


def _attribute(text: str) -> str:
    name, equals, value = text.partition("=")
    if not equals:
        raise DnError(f"{text.strip()[:40]!r} is no TYPE=VALUE")
    name = name.strip()
    oid = _OID.match(name)
    number = oid[1] if oid else _TYPES.get(name.lower())
    if number is None:
        raise DnError(f"{name[:40]!r} is no type of attribute")
    return _pair(number, _value(value.lstrip(" ")))


def _value(text: str) -> str | bytes:
    if text.startswith("#"):
        return _der_value(text[1:].rstrip(" "))
    if not _MUST_BE_ESCAPED.match(text):
        raise DnError('has one of "<>; without a backslash before it')
    bare = _TRAILING.match(text)
    octets = (bare[1] if bare else text).encode("utf-8")
    try:
        return _ESCAPED.sub(_unescape, octets).decode("utf-8")
    except UnicodeDecodeError:
        raise DnError("has escaped octets that are no UTF-8") from None


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode("ascii")) if len(found[1]) == 2 else found[1]


def _der_value(digits: str) -> str | bytes:
    """A value in DER, as OpenSSL prints it for types that it does not know."""
    try:
        der = bytes.fromhex(digits)
        tag, start, end = element(der, 0)
        if end != len(der):
            raise DnError(_NO_DER)
        content = der[start:]
        return content[1:] if tag == _BIT_STRING else content.decode(_ENCODINGS.get(tag, "utf-8"))
    except (ValueError, IndexError) as problem:
        raise DnError(_NO_DER) from problem
