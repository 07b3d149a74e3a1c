"""Where mail for a domain goes: our own mailboxes, a route of `smtproutes`, or the MX hosts that DNS names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from qmtls.lookup import folded, nearest
from qmtls.recipients import VirtualDomains
from qmtls.smtp.address import Address
from qmtls.tls.policy import Origin


class Scheme(Enum):
    """How a relay is spoken to."""

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    SMTP = "smtp"
    SMTPS = "smtps"  # TLS from the first octet (RFC 8314)
    LMTP = "lmtp"  # RFC 2033


@dataclass(frozen=True, slots=True)
class Route:
    """One line of `smtproutes`. `relay` "" = the MX hosts as usual; no brackets around an IP address. One that begins
    with "/" is the path of a socket of this host; it has no port (0)."""

    relay: str
    port: int
    origin: Origin
    scheme: Scheme = Scheme.SMTP


@dataclass(frozen=True, slots=True)
class Routing:
    """`locals` in lower case; `routes` by lower-case domain, ".suffix", or "" for all the rest."""

    locals: frozenset[str] = frozenset()
    routes: Mapping[str, Route] = field(default_factory=dict)
    virtual: VirtualDomains = field(default_factory=VirtualDomains)

    def is_local(self, address: Address) -> bool:
        """True if a mailbox here takes it. Mail without a domain is the postmaster's (RFC 5321 section 4.5.1)."""
        host = address.host
        return not host or host in self.locals or bool(self.virtual.prepend(folded(address.local_part), host))

    def route_for(self, domain: str) -> Route | None:
        """The line that holds for `domain` (lower case), searched as qmail-remote does: the whole name, then
        each suffix that begins with a dot, then the line for all the rest. None: no line does."""
        routes = self.routes
        return (nearest(routes, domain) or routes.get("")) if routes else None
