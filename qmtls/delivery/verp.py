"""Variable envelope return paths, as qmail has them: `owner-@host-@[]` is another reverse-path for each recipient.

    owner-@lists.example-@[]    to joe@a.example: owner-joe=a.example@lists.example
                                reports of our own: owner-@lists.example

So a list sees by the address of a report whose mail failed. Such a path comes only from this host (`sendmail -f`):
as a path in SMTP it is a syntax error.
"""

from __future__ import annotations

import re

from qmtls.smtp.address import Address, is_dot_string

# In qmail the mark is the end of the whole address; here "[]" is its domain.
_DOMAIN = "[]"

_PAIR = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r'(["\\])')


def verp_path(text: str) -> Address | None:
    """The path that `text` ("owner-@host-@[]") stands for; None if it is none of these."""
    local, _, domain = text.rpartition("@")
    path = Address(local, domain)
    return path if is_verp(path) else None


def is_verp(path: Address | None) -> bool:
    """True for what has to be made another path for each recipient."""
    return path is not None and path.domain == _DOMAIN and _split(path) is not None


def expanded(path: Address | None, recipient: Address) -> Address | None:
    """The reverse-path of the copy for `recipient`; `path` itself if it is not of this kind."""
    parts = _split(path) if path is not None and path.domain == _DOMAIN else None
    if parts is None:
        return path
    before, host = parts
    name = recipient.local_part
    if name.startswith('"'):
        name = _PAIR.sub(r"\1", name[1:-1])
    local = f"{before}{name}={recipient.domain}" if recipient.domain else f"{before}{name}"
    return Address(local if is_dot_string(local) else _quoted(local), host)


def owner(path: Address) -> Address:
    """Who is told of failures: the owner, without a recipient; `path` itself if it is not of this kind."""
    parts = _split(path) if path.domain == _DOMAIN else None
    return path if parts is None else Address(*parts)


def _split(path: Address) -> tuple[str, str] | None:
    """Local part and host of "owner-@host-"."""
    local = path.local_part
    before, at, host = local.removesuffix("-").rpartition("@")
    if not (local.endswith("-") and at and host):
        return None
    return before, host


def _quoted(local: str) -> str:
    return '"' + _TO_ESCAPE.sub(r"\\\1", local) + '"'
