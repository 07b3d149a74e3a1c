"""How much one client address may do: which line of `limits` is about it, and what is answered beyond it.

Pure: who counts is `net/buckets`. The most specific line whose network holds the address decides. Without such a line
our own hosts (loopback, unix sockets, `relaynetworks`) are not limited, and everyone else has the default. Addresses
are counted as one customer has them: an IPv4 address by itself, IPv6 by /64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from qmtls.networks import Network, NetworkTable, read_address
from qmtls.smtp.reply import Reply, reply
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Rate

CUSTOMER_BITS = 64  # of an IPv6 address: the smallest network that is given to a customer (RFC 6177)
BUILT_IN = Origin("built in")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one address may do; 0 or None = there is no limit."""

    connections: int = 0  # at a time
    rate: Rate | None = None  # of new connections
    messages: Rate | None = None
    commands: Rate | None = None
    logins: Rate | None = None  # that failed
    recipients: int = 1000  # of one message; RFC 5321 section 4.5.3.1.8 wants 100 at least
    errors: int = 10  # of one session, until it is closed
    origin: Origin = BUILT_IN


UNLIMITED = Limits(errors=1000)  # a gateway of ours may meet many recipients that are not there
# As many connections as Postfix gives one client. The rates of connections and mail are left to the administrator: only
# he knows his partners. A password costs some 20 ms to look at, so guessing costs us a hundredth of a core at most.
DEFAULT = Limits(connections=50, logins=Rate(30, 60.0, "30/m"))


@dataclass(frozen=True, slots=True)
class LimitRules:
    """The lines of `limits`. A network stands in `lines` once."""

    default: Limits = DEFAULT
    lines: Mapping[Network, Limits] = field(default_factory=dict)
    free: tuple[Network, ...] = ()  # `relaynetworks`
    _lines: NetworkTable[Limits] = field(init=False, repr=False, compare=False)
    _free: NetworkTable[Limits] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lines", NetworkTable(self.lines))
        object.__setattr__(self, "_free", NetworkTable(dict.fromkeys(self.free, UNLIMITED)))

    def of(self, address: str) -> Limits:
        """What the client at this IP address may do; "" is one without an address, on a unix socket."""
        ip = read_address(address)
        if ip is None:
            return UNLIMITED
        found = self._lines.find(ip)
        if found is None:
            found = UNLIMITED if ip.is_loopback else self._free.find(ip)
        return self.default if found is None else found


def counted_as(address: str) -> bytes:
    """The name under which an address is counted: its octets, the first eight of an IPv6 address."""
    ip = read_address(address)
    if ip is None:
        return address.encode()
    return ip.packed if ip.version == 4 else ip.packed[: CUSTOMER_BITS // 8]


REPLIES = {
    "connections": (421, "4.7.0"),
    "commands": (421, "4.7.0"),
    "messages": (450, "4.7.1"),
    "failed logins": (454, "4.7.0"),  # RFC 4954 section 6
}


def too_many_connections(limits: Limits) -> Reply:
    """What a client hears that has as many connections as it may."""
    return reply(421, "4.7.0", f"too many connections from your address, {limits.connections} at a time; try later")


def too_fast(what: str, rate: Rate, seconds: float) -> Reply:
    """`what` in words, one of REPLIES. A 421 ends the session."""
    text = f"too many {what} from your address, {rate.text} at most; try again in {max(1, ceil(seconds))} seconds"
    return reply(*REPLIES[what], text)
