"""Which name servers are asked, and whose word on DNSSEC counts: those on this host, those that the administrator
names, and the system's where resolv.conf says `trust-ad`.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import dns.asyncresolver
import dns.flags
import dns.resolver

from qmtls.net.dnsquery import TRY_SECONDS, NameServer

UDP_PAYLOAD = 1232  # octets: fits IPv6's smallest MTU, so answers are not cut into fragments
SYSTEM_CONFIGURATION = Path("/etc/resolv.conf")


def configured(servers: Sequence[tuple[str, int]], trusted: frozenset[str]) -> dns.asyncresolver.Resolver:
    """dnspython's resolver for these servers, or the system's if there are none. It keeps nothing."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.asyncresolver.Resolver(configure=False)
    system = [str(server) for server in resolver.nameservers]
    if not servers:
        servers = [(address, resolver.port) for address in system if is_ip(address)]
        if _system_trusts():
            trusted = trusted.union(address for address, _ in servers)
    known = {ip_address(address) for address in trusted if is_ip(address)}
    asked = [
        NameServer(ip, port, trusted=ip_address(ip).is_loopback or ip_address(ip) in known) for ip, port in servers
    ]
    resolver.nameservers = list(asked)
    resolver.cache = None
    # Where there is another server to ask, one that does not answer is waited for half as long.
    resolver.timeout = TRY_SECONDS if len(asked) == 1 else TRY_SECONDS / 2
    if any(server.trusted for server in asked):
        # AD asks for the bit (RFC 6840 section 5.7); some servers give it only to those that also take signatures.
        resolver.flags = dns.flags.RD | dns.flags.AD
        resolver.use_edns(0, dns.flags.DO, UDP_PAYLOAD)
    return resolver


def _system_trusts() -> bool:
    """True if resolv.conf has `options trust-ad` (resolv.conf(5))."""
    try:
        text = SYSTEM_CONFIGURATION.read_text("utf-8", "replace")
    except OSError:
        return False
    return any(words[0] == "options" and "trust-ad" in words for line in text.splitlines() if (words := line.split()))


def is_ip(text: str) -> bool:
    """True for an IPv4 or IPv6 address without brackets."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
