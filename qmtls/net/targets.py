"""From a next hop to the addresses to try, in order, each with what DNS vouches for.

Doubt defers; only a clear answer of DNS (no such domain, null MX, ourselves as best MX) is permanent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import random
from typing import Any

from qmtls.delivery.mx import MailLoop, NullMx, cut_at_self, limit_addresses, order_mx
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop, literal_address
from qmtls.delivery.routes import Scheme
from qmtls.net.hostlookup import AT_ONCE, MAX_HOSTS, Answers, Lookup
from qmtls.net.resolver import DnsTrouble, HostAddresses, MailExchangers, NoSuchName, Resolver, is_ip
from qmtls.net.snapshot import Snapshot
from qmtls.net.witness import UNKNOWN, Vouched
from qmtls.tls.policy import pinned_hosts

SMTP_PORT = 25
MOST_QUESTIONS = 200  # fits into 1024 open files


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one host. `name` "" for an address literal: then there is no name to check."""

    name: str
    address: str
    port: int
    vouched: Vouched = field(default=UNKNOWN, compare=False)  # what DNS vouches for
    scheme: Scheme = Scheme.SMTP

    @property
    def is_socket(self) -> bool:
        """A path of this host, reached without any network."""
        return self.address.startswith("/")

    def __str__(self) -> str:
        where = f"{self.address}:{self.port}" if self.port not in (0, SMTP_PORT) else self.address
        return f"{self.name} ({where})" if self.name and self.name != self.address else where


class HostFailed(Exception):
    """This host cannot be used now; str() is the sentence, `status` the enhanced code."""

    def __init__(self, sentence: str, status: str = "4.4.1", tls: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.tls = tls  # a TLS demand was not met


class Unreachable(Exception):
    """No host of the next hop can be used: `outcome` is that of every recipient."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds targets. `own_addresses` are those that our endpoints listen on. While `most_questions` or more are under
    way in all, the hosts of a domain are asked for one after the other, so that they take no more sockets than that."""

    resolver: Resolver
    own_addresses: Callable[[], frozenset[str]]
    clock: Any
    most_questions: int = MOST_QUESTIONS

    async def targets(self, next_hop: NextHop, snapshot: Snapshot) -> list[Target]:
        """The addresses to try, best first. Raises Unreachable."""
        try:
            if next_hop.relay:
                return await self._relay(next_hop)
            if next_hop.domain.startswith("["):
                return [self._literal(next_hop)]
            return await self._mail_exchangers(next_hop, snapshot)
        except (DnsTrouble, ValueError) as problem:
            raise Unreachable(Outcome(Fate.DEFERRED, str(problem), "4.4.3")) from problem

    def _literal(self, next_hop: NextHop) -> Target:
        address = literal_address(next_hop.domain)
        if not address:
            raise Unreachable(Outcome(Fate.FAILED, f"{next_hop.domain} is no address literal", "5.1.2"))
        return Target("", address, next_hop.port)

    async def _relay(self, next_hop: NextHop) -> list[Target]:
        name, port = next_hop.relay, next_hop.port
        if next_hop.is_socket:
            return [Target("", name, 0, Vouched(routed=True), next_hop.scheme)]
        if is_ip(name):
            return [Target(name, name, port, Vouched(routed=True), next_hop.scheme)]
        found = await self.resolver.host(name)
        if not found.addresses:
            reason = f"the relay {name} of control/smtproutes has no address"
            raise Unreachable(Outcome(Fate.DEFERRED, reason, "4.4.4"))
        vouched = Vouched(found, name, routed=True)
        addresses = [address for _, address in limit_addresses([(name, found.addresses)])]
        return [Target(name, address, port, vouched, next_hop.scheme) for address in addresses]

    async def _mail_exchangers(self, next_hop: NextHop, snapshot: Snapshot) -> list[Target]:
        domain = next_hop.domain
        try:
            exchangers = await self.resolver.exchangers(domain)
            names = order_mx(exchangers.records, domain, random)[:MAX_HOSTS]
        except NoSuchName as problem:
            raise Unreachable(Outcome(Fate.FAILED, f"the domain {domain} does not exist", "5.1.2")) from problem
        except NullMx as problem:
            raise Unreachable(Outcome(Fate.FAILED, str(problem), "5.1.10")) from problem
        tls = snapshot.settings.tls
        pinned = pinned_hosts(tls, names) if domain not in tls.pins else frozenset()

        def found(answers: Answers) -> list[Target]:
            known = {name: answer for name, answer in answers.items() if isinstance(answer, HostAddresses)}
            return self._targets(next_hop, exchangers, [(name, known.get(name)) for name in names], pinned)

        answers = await self._addresses(names, found, snapshot.settings.me)
        targets = found(answers)
        if targets:
            return targets
        trouble = next((answer for answer in answers.values() if isinstance(answer, DnsTrouble)), None)
        if trouble is not None:
            raise trouble
        if not exchangers.records:
            reason = f"the domain {domain} has neither a mail exchanger nor an address"
            raise Unreachable(Outcome(Fate.FAILED, reason, "5.4.4"))
        unpinned = [answer for name, answer in answers.items() if name not in pinned]
        others = any(host.addresses for host in unpinned if isinstance(host, HostAddresses))
        raise Unreachable(_no_address(domain, names, pinned, others))

    async def _addresses(self, names: Sequence[str], found: Callable[[Answers], list[Target]], me: str) -> Answers:
        """Those of all names, or what is in the way; DnsTrouble with our own name is raised, since the list could not
        be cut at ourselves."""

        def enough(answers: Answers) -> bool:
            try:
                return bool(found(answers))
            except Unreachable:  # we are the best of those that are known; a better one may come
                return False

        width = AT_ONCE if self.resolver.under_way < self.most_questions else 1
        answers = await Lookup(self.resolver, self.clock, enough, me if me in names else "", width).run(names)
        ourselves = answers.get(me)
        if isinstance(ourselves, DnsTrouble):
            raise ourselves
        return answers

    def _targets(
        self,
        next_hop: NextHop,
        exchangers: MailExchangers,
        hosts: Sequence[tuple[str, HostAddresses | None]],
        pinned: frozenset[str],
    ) -> list[Target]:
        """Those of `hosts` that come before ourselves, with their addresses; None = they could not be looked up."""
        domain, records = next_hop.domain, exchangers.records
        found = [(name, host.addresses if host is not None else ()) for name, host in hosts]
        try:
            kept = cut_at_self(found, self.own_addresses(), domain, records)
        except MailLoop as problem:
            raise Unreachable(Outcome(Fate.FAILED, str(problem), "5.4.6")) from problem
        if pinned:
            # Where one host of a domain is pinned, an unpinned one would be the way around the pin.
            kept = tuple((name, addresses) for name, addresses in kept if name in pinned)
        by_name, is_mx = dict(hosts), bool(records)
        return [
            Target(
                name,
                address,
                next_hop.port,
                Vouched(by_name[name], domain, is_mx, exchangers.secure, exchangers.canonical),
            )
            for name, address in limit_addresses(kept)
        ]


def _no_address(domain: str, names: tuple[str, ...], pinned: frozenset[str], others: bool) -> Outcome:
    if pinned and others:
        # But for the pins mail could go: it is for TLS that it waits.
        reason = f"the pinned hosts of {domain} have no address, and its unpinned ones are passed over"
        return Outcome(Fate.DEFERRED, reason, "4.4.4", unmet=reason)
    if pinned:
        return Outcome(Fate.DEFERRED, f"the pinned hosts of {domain} have no address", "4.4.4")
    if not names:
        return Outcome(
            Fate.DEFERRED, f"the MX records of {domain} name no host; its administrator must mend them", "4.4.4"
        )
    return Outcome(Fate.DEFERRED, f"no mail exchanger of {domain} has an address ({', '.join(names)})", "4.4.4")
