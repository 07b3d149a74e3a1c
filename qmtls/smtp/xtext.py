"""xtext and its relatives: how values travel in ESMTP parameters (RFC 3461 section 4, RFC 6533 section 3).

Strict, and stricter than the grammar where that lets control characters through: what is decoded here ends up in
reports and logs.
"""

from __future__ import annotations

import re

_PRINTABLE_XTEXT = r"(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))+"
# \x{HEXPOINT}; no controls, no surrogates, nothing beyond Unicode.
_POINT = (
    r"\\x\{(?:20|2B|3D|5C|[A-F][0-9A-F]|[1-9A-F][0-9A-F]{2}"
    r"|(?:[1-9A-CEF][0-9A-F]|D[0-7])[0-9A-F]{2}|(?:[1-9A-F]|10)[0-9A-F]{4})\}"
)
_UTF8_XTEXT = rf"(?:[!-*,-<>-\[\]-~]|{_POINT})+"
_UTF8_UNITEXT = rf"(?:[!-*,-<>-\[\]-~]|[^\x00-\x9f]|{_POINT})+"

_XTEXT = re.compile(_PRINTABLE_XTEXT)
# addr-type is an atom; what is behind "utf-8;" has a form of its own.
_ADDRESS = re.compile(rf"(?i:utf-8);{_UTF8_XTEXT}|(?!(?i:utf-8);)[!#-'*+/-9=?A-Z^-~-]+;{_PRINTABLE_XTEXT}")
_UTF8_ADDRESS = re.compile(rf"{_ADDRESS.pattern}|(?i:utf-8);{_UTF8_UNITEXT}")

_HEX_PAIR = re.compile(r"\+([0-9A-F]{2})")
_HEX_POINT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")


def decode_xtext(text: str) -> str:
    """The value in printable ASCII; ValueError if it is none."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    return _HEX_PAIR.sub(lambda match: chr(int(match[1], 16)), text)


def encode_xtext(value: str) -> str:
    """The xtext of an ASCII value; ValueError beyond ASCII."""
    if not value.isascii():
        raise ValueError("xtext is for ASCII")
    return _NOT_XTEXT.sub(lambda match: f"+{ord(match[0]):02X}", value)


def decode_address(parameter: str, *, smtputf8: bool = False) -> tuple[str, str]:
    """The address type and the address of an ORCPT value, in characters that can be seen; ValueError if it is none.

    Only with `smtputf8` may what is behind "utf-8;" have characters beyond ASCII as they are.
    """
    kind, _, address = parameter.partition(";")
    if not (_UTF8_ADDRESS if smtputf8 else _ADDRESS).fullmatch(parameter):
        raise ValueError("not an original recipient")
    if kind.lower() != "utf-8":
        return kind, decode_xtext(address)
    address = _HEX_POINT.sub(lambda match: chr(int(match[1], 16)), address)
    if not address.isprintable():
        raise ValueError("an original recipient that cannot be seen")
    return kind, address
