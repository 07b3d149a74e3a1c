"""IP addresses of clients, and what the networks that hold them stand for.

Every rule about clients by network goes by these: who may relay (`access`), how much one may do (`limits`), which mail
is held (`delivery.holds`). An IPv4 address in IPv6 clothes is that IPv4 address, so a rule cannot be evaded, or
missed, by the kind of socket. What is no address is in no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Generic, TypeVar

Network = IPv4Network | IPv6Network
IpAddress = IPv4Address | IPv6Address

T = TypeVar("T")


@lru_cache(maxsize=4096)
def read_address(text: str) -> IpAddress | None:
    """The address, undressed (::ffff:192.0.2.1 is 192.0.2.1); None if it is none, as that of a unix socket."""
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return (isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip


class NetworkTable(Generic[T]):
    """What each network stands for; the most specific one that holds an address counts.

    A look-up costs one for each prefix length that is in use, however many networks there are.
    """

    __slots__ = ("_by_length",)

    def __init__(self, networks: Mapping[Network, T]) -> None:
        # By IP version and prefix length, longest first: what the first bits of an address stand for.
        self._by_length: dict[tuple[int, int], dict[int, T]] = {}
        for network in sorted(networks, key=lambda network: -network.prefixlen):
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            self._by_length.setdefault((network.version, network.prefixlen), {})[bits] = networks[network]

    def find(self, ip: IpAddress) -> T | None:
        """What the address is under, None if no network holds it."""
        version, width, number = ip.version, ip.max_prefixlen, int(ip)
        for (its_version, length), networks in self._by_length.items():
            if its_version == version and (found := networks.get(number >> (width - length))) is not None:
                return found
        return None
