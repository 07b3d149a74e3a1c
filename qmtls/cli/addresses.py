"""Addresses as people type them at the command line: with or without brackets, a bare user meaning one of ours."""

from __future__ import annotations

from qmtls.delivery.verp import owner, verp_path
from qmtls.smtp.address import Address, parse_address


class BadAddress(Exception):
    """What was typed is no mail address; str() says which."""


def read_path(text: str, me: str) -> Address:
    """A recipient. "joe" is joe at this host."""
    bare = text.strip().removeprefix("<").removesuffix(">")
    if "@" not in bare:
        bare = f"{bare}@{me}"
    try:
        return parse_address(bare)
    except ValueError as problem:
        raise BadAddress(f"{text!r} is no mail address ({problem})") from None


def read_sender(text: str, me: str) -> Address | None:
    """A reverse-path: "" and "<>" are the null one, "owner-@host-@[]" is another one for each recipient."""
    bare = text.strip().removeprefix("<").removesuffix(">")
    if not bare:
        return None
    path = verp_path(bare)
    if path is None:
        return read_path(text, me)
    read_path(str(owner(path)), me)
    return path
