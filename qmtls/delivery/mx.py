"""Which hosts take mail for a domain, in which order, and where the list ends (RFC 5321 section 5.1, RFC 7505).

Pure: records and addresses come from the resolver, chance from the caller. Permanent answers are exceptions that carry
the enhanced status and the sentence for the report; a list with nothing usable in it is (), which is temporary:
somebody mistyped a record and may mend it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from qmtls.networks import read_address

# RFC 1123 section 2.1, and "_", which is in use. The last label is not all digits, or it would be an address.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"(?![0-9]+\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z"
)


# Addresses of one next hop that one attempt tries. RFC 5321 section 5.1 lets a limit be set and wants two at the least;
# each may cost a connect time limit, and whoever writes the records writes as many as he likes.
MAX_ADDRESSES = 20
# Of one host: the others of the domain must get their turn.
MAX_ADDRESSES_OF_HOST = 5


class NoDelivery(Exception):
    """The domain's records say that this mail cannot be delivered by us: permanent. `status` is for the report."""

    status = "5.4.4"


class NullMx(NoDelivery):
    """RFC 7505: the domain takes no mail at all."""

    status = "5.1.10"


class MailLoop(NoDelivery):
    """The best host that is left is ourselves, and the domain is not one of our own."""

    status = "5.4.6"


def is_host_name(name: str) -> bool:
    """True for a host name without a final dot; False for an IP address, a service label with odd characters, ""."""
    return _HOST_NAME.match(name) is not None


def order_mx(records: Sequence[tuple[int, str]], domain: str, rnd: Callable[[], float]) -> tuple[str, ...]:
    """Host names in the order to try, lower case: by preference, at random among equals (`rnd` as random.random).

    No records: the domain itself (implicit MX). Names that are no host names are skipped; () if no other is left.
    NullMx if the records name nothing but the root.
    """
    if not records:
        return (domain,)
    best = _preferences(records)
    if set(best) == {""}:
        raise NullMx(f"{domain} takes no mail (null MX)")
    names = [name for name in best if is_host_name(name)]
    return tuple(sorted(names, key=lambda name: (best[name], rnd())))


def cut_at_self(
    hosts: Sequence[tuple[str, Sequence[str]]],
    own: Collection[str],
    domain: str,
    records: Sequence[tuple[int, str]],
) -> tuple[tuple[str, Sequence[str]], ...]:
    """Of `hosts` (name and its IP addresses, in the order to try) those that `records` prefer to ourselves.

    `own` are the IP addresses that we take mail on; `records` those that `order_mx` got. Hosts of the same
    preference as ours go too: they may do as we do and send it back. MailLoop if we are the best of all; () if a better
    one is named but has no address just now.
    """
    best = _preferences(records)
    ours = {_canonical(address) for address in own}
    limit = min((best.get(name, 0) for name, addresses in hosts if _is_self(addresses, ours)), default=None)
    if limit is None:
        return tuple(hosts)
    kept = tuple(host for host in hosts if best.get(host[0], 0) < limit)
    if not any(addresses for _, addresses in kept):
        if any(preference < limit for name, preference in best.items() if is_host_name(name)):
            return ()
        raise MailLoop(f"{domain} is sent to this host by its MX records, but is not one of its local domains")
    return kept


def limit_addresses(hosts: Iterable[tuple[str, Sequence[str]]]) -> list[tuple[str, str]]:
    """Name and address of those to try, in order, within MAX_ADDRESSES and MAX_ADDRESSES_OF_HOST."""
    each = [(name, address) for name, addresses in hosts for address in addresses[:MAX_ADDRESSES_OF_HOST]]
    return each[:MAX_ADDRESSES]


def _preferences(records: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Normalised name to its best preference."""
    best: dict[str, int] = {}
    for preference, exchange in records:
        name = exchange.lower().removesuffix(".")
        best[name] = min(preference, best.get(name, preference))
    return best


def _is_self(addresses: Iterable[str], ours: Collection[str]) -> bool:
    """The unspecified address reaches whoever connects to it: it is ourselves."""
    return any(_canonical(address) in ours or address in ("0.0.0.0", "::") for address in addresses)


def _canonical(address: str) -> str:
    """One spelling per address; an IPv4 address mapped into IPv6 is the IPv4 address."""
    return str(read_address(address.partition("%")[0]) or address)
