"""One transaction for the client session to make, as values and as commands on the wire.

Promises: nothing that could end a path or a command line gets on the wire, and nothing that the server did not
offer to take. Otherwise `Unsendable`, before an octet is queued.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qmtls.smtp.address import Address

# Looser than RFC 5321 section 4.1.2 about what is a name, strict about what could end the path or the line.
_PATH = re.compile(r'(?:[!#-;=?A-\[\]-~]+|"(?:[ !#-\[\]-~]|\\[ -~])*")(?:@[!#-;=?A-\[\]-~]+)?')


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One transaction to make. `size` counts the octets of the content as stored, for SIZE= (RFC 1870)."""

    reverse_path: Address | None
    recipients: tuple[Address, ...]
    size: int
    body: str = "7BIT"


class Unsendable(ValueError):
    """This transaction cannot be put to this server; nothing was sent, and the session is as it was.

    `status` is the enhanced status for the report; `recipient` the index of the recipient at fault, None if
    the fault lies in the message as a whole.
    """

    def __init__(self, why: str, status: str, recipient: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.recipient = recipient


def commands(transaction: Outgoing, extensions: Mapping[str, str]) -> list[bytes]:
    """MAIL, then one RCPT per recipient. Unsendable if this server cannot take them or nobody may say them."""
    if not transaction.recipients:
        raise Unsendable("no recipients", "5.5.4")
    lines = [_mail(transaction, extensions)]
    for index, address in enumerate(transaction.recipients):
        lines.append(b"RCPT TO:<%s>\r\n" % _path(address, "5.1.3", index))
    return lines


def _mail(transaction: Outgoing, extensions: Mapping[str, str]) -> bytes:
    path = b"" if transaction.reverse_path is None else _path(transaction.reverse_path, "5.1.7")
    line = b"MAIL FROM:<%s>" % path
    if (limit := extensions.get("SIZE")) is not None:
        # RFC 1870 section 4: "SIZE" alone or "SIZE 0" tells no limit.
        if limit.isdecimal() and 0 < int(limit[:20]) < transaction.size:
            raise Unsendable(f"the message has {transaction.size} octets, the server takes {limit[:20]}", "5.3.4")
        line += b" SIZE=%d" % transaction.size
    if transaction.body == "8BITMIME":
        if "8BITMIME" not in extensions:
            raise Unsendable("the message holds 8-bit text, the server takes 7-bit text only", "5.6.3")
        line += b" BODY=8BITMIME"
    return line + b"\r\n"


def _path(address: Address, status: str, recipient: int | None = None) -> bytes:
    path = str(address)
    if _PATH.fullmatch(path):
        return path.encode("ascii")
    if path.isprintable() and not path.isascii():
        raise Unsendable("an address beyond ASCII needs SMTPUTF8", "5.6.7", recipient)
    raise Unsendable(f"not an address: {path!r}", status, recipient)
