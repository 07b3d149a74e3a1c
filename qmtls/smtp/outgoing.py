"""One transaction for the client session to make, as values and as commands on the wire.

Promises: nothing that could end a path, a parameter or a command line gets on the wire, and nothing that the server
did not offer to take. Otherwise `Unsendable`, before an octet is queued.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import idna

from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient

# Looser than RFC 5321 section 4.1.2 about what is a name, strict about what could end the path or the line.
_PATH = re.compile(r'(?:[!#-;=?A-\[\]-~]+|"(?:[ !#-\[\]-~]|\\[ -~])*")(?:@[!#-;=?A-\[\]-~]+)?')
# RFC 5321 section 4.1.2, esmtp-value; "=" in it does no harm.
_VALUE = re.compile(r"[!-~]+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")

# Of RFC 3461; any other parameter that a client once gave was for us.
_OF_MAIL = frozenset({"RET", "ENVID"})
_OF_RCPT = frozenset({"NOTIFY", "ORCPT"})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One transaction to make.

    `size` counts the octets of the content as it will be sent, before dots are doubled, for SIZE= (RFC 1870).
    `smtputf8`: the content needs it (RFC 6531); an address that does is seen by itself. `requiretls`: RFC 8689.
    `parameters` are those of MAIL, keys upper case. Those of RFC 3461 go to a server that offers DSN, to no other.
    """

    reverse_path: Address | None
    recipients: tuple[Recipient, ...]
    size: int
    body: str = "7BIT"
    smtputf8: bool = False
    requiretls: bool = False
    parameters: tuple[tuple[str, str], ...] = ()


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
    utf8, dsn = "SMTPUTF8" in extensions, "DSN" in extensions
    mail = _mail(transaction, extensions)
    lines = [mail]
    for index, recipient in enumerate(transaction.recipients):
        line = b"RCPT TO:<%s>" % _path(recipient.address, utf8, "5.1.3", index)
        if dsn and recipient.parameters:
            line += _parameters(recipient.parameters, _OF_RCPT, utf8, index)
        lines.append(line + b"\r\n")
    if utf8 and (transaction.smtputf8 or not b"".join(lines).isascii()):
        mail += b" SMTPUTF8"
    lines[0] = mail + b"\r\n"
    return lines


def _mail(transaction: Outgoing, extensions: Mapping[str, str]) -> bytes:
    """MAIL without its line end, and without SMTPUTF8, which may depend on the recipients."""
    if transaction.requiretls and "REQUIRETLS" not in extensions:
        raise Unsendable("the message says REQUIRETLS, the server does not offer that", "5.7.30")
    utf8 = "SMTPUTF8" in extensions
    if transaction.smtputf8 and not utf8:
        raise Unsendable("the message has a header beyond ASCII, the server does not offer SMTPUTF8", "5.6.7")
    path = b"" if transaction.reverse_path is None else _path(transaction.reverse_path, utf8, "5.1.7")
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
    if transaction.requiretls:
        line += b" REQUIRETLS"
    if transaction.parameters and "DSN" in extensions:
        line += _parameters(transaction.parameters, _OF_MAIL, utf8)
    return line


def _path(address: Address, utf8: bool, status: str, recipient: int | None = None) -> bytes:
    path = str(address)
    if _PATH.fullmatch(path):
        return path.encode("ascii")
    if path.isascii() or not path.isprintable() or not _PATH.fullmatch(_NOT_ASCII.sub("x", path)):
        raise Unsendable(f"not an address: {path!a}", status, recipient)
    if utf8:
        return path.encode("utf-8")
    return _with_a_labels(address, recipient)


def _with_a_labels(address: Address, recipient: int | None) -> bytes:
    """A domain beyond ASCII has a form for servers of old, a local part has none (RFC 6531 section 3.2)."""
    try:
        if address.local_part.isascii():
            return b"%s@%s" % (address.local_part.encode("ascii"), idna.encode(address.domain, uts46=True))
    except (idna.IDNAError, UnicodeError):
        pass
    raise Unsendable("an address beyond ASCII needs SMTPUTF8, which the server does not offer", "5.6.7", recipient)


def _parameters(
    parameters: tuple[tuple[str, str], ...], known: frozenset[str], utf8: bool, recipient: int | None = None
) -> bytes:
    words = []
    for key, value in parameters:
        if key not in known:
            continue
        if not utf8 and not value.isascii():
            value = _in_ascii(value)
        if not (_VALUE.fullmatch(_NOT_ASCII.sub("x", value)) and value.isprintable()):
            raise Unsendable(f"not a value of {key}: {value!a}", "5.5.4", recipient)
        words.append(f" {key}={value}")
    return "".join(words).encode("utf-8")


def _in_ascii(value: str) -> str:
    """An ORCPT of type utf-8 as RFC 6533 section 3 writes it where only ASCII may stand."""
    return _NOT_ASCII.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", value)
