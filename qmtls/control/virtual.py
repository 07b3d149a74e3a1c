"""`virtualdomains`, as in qmail: user@domain:prepend, domain:prepend, .domain:prepend, :prepend.

The last of two lines with one key counts, as there; it is told. A line without a colon, which qmail passes over, is a
problem here, and so is a prepend that can be no mailbox: its mail would be refused without anybody knowing why.
"""

from __future__ import annotations

from qmtls.control.lists import BadValueError, ControlFiles, quote
from qmtls.control.values import domain_or_parent, host
from qmtls.recipients import VirtualDomains, is_user
from qmtls.smtp.address import folded
from qmtls.tls.policy import Origin

FILE = "virtualdomains"


def read_virtual(files: ControlFiles, locals: frozenset[str]) -> VirtualDomains:
    """A line for a domain of `locals` never counts; that is told too."""
    prepends: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    for line in files.lines(FILE) or ():
        with files.collecting(line.origin):
            key, prepend = _entry(line.text)
            if key in origins:
                what = f"has the same name as {origins[key]}, whose line is not used"
                files.warn(line.origin, what, "remove one of the two")
            elif key.rpartition("@")[2] in locals:
                domain = key.rpartition("@")[2]
                files.warn(line.origin, f"is not used: {domain} is in locals, which go first", "remove it from one")
            prepends[key], origins[key] = prepend, line.origin
    return VirtualDomains(prepends, origins)


def _entry(text: str) -> tuple[str, str]:
    key, colon, prepend = text.partition(":")
    if not colon:
        raise BadValueError(f"{quote(text)} has no colon", "write domain:prepend, or user@domain:prepend")
    user, at, domain = key.rpartition("@")
    if at and not user:
        raise BadValueError(f"{quote(key)} has no user before the @", "write the domain without @ for all its users")
    prepend = folded(prepend)
    if prepend and not is_user(prepend):
        mend = "write letters, digits and . _ + - after the colon, or nothing for a domain that is not ours"
        raise BadValueError(f"{quote(prepend)} can be the beginning of no mailbox's name", mend)
    if at:
        return f"{folded(user)}@{host(domain)}", prepend
    return domain_or_parent(key) if key else "", prepend
