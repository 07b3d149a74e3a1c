"""How much one client address may do: which line of `limits` is about it, and what is answered beyond it.

Pure: who counts is `net/buckets`. The most specific line whose network holds the address decides. Without such a line
our own hosts (loopback, unix sockets, `relaynetworks`) are not limited, and everyone else has the default. Addresses
are counted as one customer has them: an IPv4 address by itself, IPv6 by /64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from math import ceil

from qmtls.smtp.reply import Reply, reply
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Rate

Network = IPv4Network | IPv6Network

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


# By IP version and prefix length, longest first, what the first bits of an address mean.
_Table = Mapping[tuple[int, int], Mapping[int, Limits]]


@dataclass(frozen=True, slots=True)
class LimitRules:
    """The lines of `limits`. A network stands in `lines` once."""

    default: Limits = DEFAULT
    lines: Mapping[Network, Limits] = field(default_factory=dict)
    free: tuple[Network, ...] = ()  # `relaynetworks`
    _lines: _Table = field(init=False, repr=False, compare=False)
    _free: _Table = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lines", _table(self.lines))
        object.__setattr__(self, "_free", _table(dict.fromkeys(self.free, UNLIMITED)))

    def of(self, address: str) -> Limits:
        """What the client at this IP address may do; "" is one without an address, on a unix socket."""
        ip = _parse(address)
        if ip is None:
            return UNLIMITED
        found = _look_up(self._lines, ip)
        if found is None:
            found = UNLIMITED if ip.is_loopback else _look_up(self._free, ip)
        return self.default if found is None else found


def counted_as(address: str) -> bytes:
    """The name under which an address is counted: its octets, the first eight of an IPv6 address."""
    ip = _parse(address)
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
    return reply(421, "4.7.0", f"too many connections from your address, {limits.connections} at a time; try later")


def too_fast(what: str, rate: Rate, seconds: float) -> Reply:
    """`what` in words, one of REPLIES. A 421 ends the session."""
    text = f"too many {what} from your address, {rate.text} at most; try again in {max(1, ceil(seconds))} seconds"
    return reply(*REPLIES[what], text)


def _table(limits: Mapping[Network, Limits]) -> _Table:
    table: dict[tuple[int, int], dict[int, Limits]] = {}
    for network in sorted(limits, key=lambda network: -network.prefixlen):
        bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        table.setdefault((network.version, network.prefixlen), {})[bits] = limits[network]
    return table


def _look_up(table: _Table, ip: IPv4Address | IPv6Address) -> Limits | None:
    number, width = int(ip), ip.max_prefixlen
    for (version, length), networks in table.items():
        if version == ip.version and (found := networks.get(number >> (width - length))) is not None:
            return found
    return None


@lru_cache(maxsize=4096)
def _parse(address: str) -> IPv4Address | IPv6Address | None:
    """The address, an IPv4 one in IPv6 clothes (::ffff:192.0.2.1) undressed; None if it is none."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return (isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip
