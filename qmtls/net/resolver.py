"""MX and address look-ups. Three answers are kept apart: this is so, there is no such name, and it cannot be told now.

The third is DnsTrouble and defers mail; it is never taken for "no".
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import idna
from twisted.internet.defer import Deferred, gatherResults

from qmtls.net.dnsbackend import TwistedBackend

LIFETIME = 15.0  # seconds for one question over all servers
CACHED_ANSWERS = 10_000


class DnsTrouble(Exception):
    """The question could not be answered now; str() is the sentence."""


class NoSuchName(Exception):
    """The name does not exist (NXDOMAIN): a permanent answer."""


class Resolver:
    """Questions to the configured servers, or the system's; answers are cached for their lifetime."""

    def __init__(self, reactor: Any, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._backend = TwistedBackend(reactor)
        self._servers = tuple(servers)
        self._resolver = _configured(self._servers)

    def use(self, servers: Sequence[tuple[str, int]]) -> None:
        """Asks these from now on. Where they are others than before, what the old ones said is forgotten."""
        if tuple(servers) != self._servers:
            self._servers = tuple(servers)
            self._resolver = _configured(self._servers)

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """(preference, host) pairs in no order; [] if the domain has no MX; a null MX is [(n, "")]. NoSuchName."""
        answer = await self._ask(domain, "MX")
        if answer is None:
            return []
        return [(record.preference, _text(record.exchange)) for record in answer]

    async def addresses(self, host: str) -> tuple[str, ...]:
        """IP addresses of `host`, IPv4 first; () if it has none or does not exist."""
        if host.lower().rstrip(".") == "localhost":  # RFC 6761 section 6.3: never asked of the network
            return ("127.0.0.1", "::1")
        found = await gatherResults(
            [Deferred.fromCoroutine(self._addresses(host, kind)) for kind in ("A", "AAAA")], consumeErrors=True
        )
        four, six = found
        addresses = (*_unless_trouble(four), *_unless_trouble(six))
        if not addresses:
            for part in found:
                if isinstance(part, DnsTrouble):
                    raise part
        return addresses

    async def _addresses(self, host: str, kind: str) -> tuple[str, ...] | DnsTrouble:
        try:
            answer = await self._ask(host, kind)
        except NoSuchName:
            return ()
        except DnsTrouble as trouble:
            return trouble
        return () if answer is None else tuple(record.address for record in answer)

    async def _ask(self, name: str, kind: str) -> Any:
        try:
            question = dns.name.from_text(to_ascii(name))
            return await self._resolver.resolve(
                question,
                kind,
                backend=self._backend,
                lifetime=LIFETIME,
                search=False,
            )
        except dns.resolver.NXDOMAIN as problem:
            raise NoSuchName(f"DNS: the name {name} does not exist") from problem
        except dns.resolver.NoAnswer:
            return None
        except (dns.exception.DNSException, OSError, ValueError, EOFError) as problem:
            detail = type(problem).__name__
            raise DnsTrouble(f"DNS: the {kind} records of {name} cannot be looked up now ({detail})") from problem


def _configured(servers: Sequence[tuple[str, int]]) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.asyncresolver.Resolver(configure=False)
    if servers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(ip, port) for ip, port in servers]
    resolver.cache = dns.resolver.LRUCache(CACHED_ANSWERS)
    return resolver


def to_ascii(name: str) -> str:
    """`name` as A-labels (UTS 46). ValueError if it is no domain name."""
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as problem:
        raise ValueError(f"{name} is no domain name: {problem}") from problem


def is_ip(text: str) -> bool:
    """True for an IPv4 or IPv6 address without brackets."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _unless_trouble(found: tuple[str, ...] | DnsTrouble) -> tuple[str, ...]:
    return () if isinstance(found, DnsTrouble) else found


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True) if name != dns.name.root else ""
