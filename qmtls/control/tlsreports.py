"""`tlsrpt`: whether TLS reports (RFC 8460) are sent, and in whose name.

    from=ADDRESS  org="NAME"  contact=TEXT

on one line or several. `from` is needed; without `org` it is `me`, without `contact` the address of `from`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.delivery.tlsreport import Reporting
from qmtls.smtp.address import Address, AddressError, parse_address
from qmtls.tls.names import canonical, is_host_name

FILE = "tlsrpt"
MAX_TEXT = 200  # characters of a name

_WORD = re.compile(r"""([a-z]+)=("[^"]+"|[^\s"]+)(?:\s+|\Z)""")
_NAMES = ("from", "org", "contact")
_MEND = 'write from=ADDRESS, and if wanted org="NAME" and contact=ADDRESS'


def read_reporting(files: ControlFiles, me: str, keys: Mapping[str, object]) -> Reporting | None:
    """None = there is no such file. `keys` are the DKIM keys by domain: receivers pass over reports without them."""
    lines = files.lines(FILE)
    if lines is None:
        return None
    origin = files.origin(FILE)
    before = len(files.problems)
    said: dict[str, str] = {}
    for line in lines:
        with files.collecting(line.origin):
            _read_words(line, said)
    if len(files.problems) > before:
        return None
    with files.collecting(origin):
        if "from" not in said:
            raise BadValueError("names no sender", _MEND)
        sender = _address(said["from"])
        if not _has_key(sender.domain, keys):
            what = f"reports of {sender.domain} are not signed, and most receivers pass over those"
            files.warn(origin, what, f"make a key: qmtls dkim make {sender.domain} SELECTOR")
        return Reporting(sender, said.get("org", me), said.get("contact", str(sender)))
    return None


def _read_words(line: Line, said: dict[str, str]) -> None:
    position = 0
    while position < len(line.text):
        found = _WORD.match(line.text, position)
        if found is None:
            raise BadValueError(f"{quote(line.text[position:])} is not understood", _MEND)
        name, value = found[1], found[2].strip('"')
        if name not in _NAMES:
            raise BadValueError(f"{quote(name)} is not known here", _MEND)
        if name in said:
            raise BadValueError(f"{name}= is there already", "keep one of the two")
        if len(value) > MAX_TEXT:
            raise BadValueError(f"the value of {name}= is too long", f"write at most {MAX_TEXT} characters")
        said[name] = value
        position = found.end()


def _address(text: str) -> Address:
    try:
        found = parse_address(text)
    except AddressError:
        raise BadValueError(f"{quote(text)} is no address", "write one such as from=tlsrpt@example.org") from None
    domain = canonical(found.domain)
    if not str(found).isascii() or not is_host_name(domain):
        raise BadValueError(f"{quote(text)} is no address", "write one in ASCII, such as from=tlsrpt@example.org")
    return Address(found.local_part, domain)


def _has_key(domain: str, keys: Mapping[str, object]) -> bool:
    while domain and domain not in keys:
        domain = domain.partition(".")[2]
    return bool(domain)
