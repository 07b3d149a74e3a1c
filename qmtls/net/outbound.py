"""From a next hop to an open channel: look-ups, connection, STARTTLS, facts, verdict.

Nothing of a message is sent before the verdict. A host that fails is passed over for the next; when none is left the
whole next hop waits, with the sentence of each host that was tried. Doubt defers; only a clear answer of
DNS (no such domain, null MX, ourselves as best MX) is permanent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from qmtls.delivery.mx import MailLoop, NullMx, cut_at_self, limit_addresses, order_mx
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop, literal_address
from qmtls.net.channel import Channel, HandshakeFailed, OffReactor
from qmtls.net.resolver import DnsTrouble, NoSuchName, Resolver, is_ip
from qmtls.net.snapshot import Snapshot
from qmtls.smtp.events import Ended, Greeted, TlsGo, TlsRefused
from qmtls.tls.evidence import raised
from qmtls.tls.fallback import NOT_OFFERED, NoTls, Then, Trouble, left_after, then
from qmtls.tls.policy import Level, Policy, find_policy, pinned_hosts
from qmtls.tls.verdict import Verdict, judge

SMTP_PORT = 25


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one host. `name` "" for an address literal: then there is no name to check."""

    name: str
    address: str
    port: int

    def __str__(self) -> str:
        where = f"{self.address}:{self.port}" if self.port != SMTP_PORT else self.address
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


class _TlsBroke(Exception):
    """This connection is lost for TLS and for plaintext; `no_tls` says how."""

    def __init__(self, no_tls: NoTls) -> None:
        super().__init__(no_tls.words)
        self.no_tls = no_tls


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens channels. `own_addresses` are those that our endpoints listen on."""

    reactor: Any
    resolver: Resolver
    off_reactor: OffReactor
    own_addresses: Callable[[], frozenset[str]]
    say: Callable[[str], None]

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
        if is_ip(name):
            return [Target(name, name, port)]
        addresses = await self.resolver.addresses(name)
        if not addresses:
            reason = f"the relay {name} of control/smtproutes has no address"
            raise Unreachable(Outcome(Fate.DEFERRED, reason, "4.4.4"))
        return [Target(name, address, port) for name, address in limit_addresses([(name, addresses)])]

    async def _mail_exchangers(self, next_hop: NextHop, snapshot: Snapshot) -> list[Target]:
        domain = next_hop.domain
        try:
            records = await self.resolver.mx(domain)
            names = order_mx(records, domain, random)
        except NoSuchName as problem:
            raise Unreachable(Outcome(Fate.FAILED, f"the domain {domain} does not exist", "5.1.2")) from problem
        except NullMx as problem:
            raise Unreachable(Outcome(Fate.FAILED, str(problem), "5.1.10")) from problem
        found: list[tuple[str, tuple[str, ...]]] = []
        trouble: DnsTrouble | None = None
        for name in names:
            try:
                found.append((name, await self.resolver.addresses(name)))
            except DnsTrouble as problem:  # the other hosts are there for that
                if name == snapshot.settings.me:
                    raise  # or the list would not be cut at ourselves
                found.append((name, ()))
                trouble = problem
        try:
            hosts = cut_at_self(found, self.own_addresses(), domain, records)
        except MailLoop as problem:
            raise Unreachable(Outcome(Fate.FAILED, str(problem), "5.4.6")) from problem
        pinned = pinned_hosts(snapshot.settings.tls, names) if domain not in snapshot.settings.tls.pins else frozenset()
        if pinned:
            # Where one host of a domain is pinned, an unpinned one would be the way around the pin.
            hosts = tuple((name, addresses) for name, addresses in hosts if name in pinned)
        targets = [Target(name, address, next_hop.port) for name, address in limit_addresses(hosts)]
        if targets:
            return targets
        if trouble is not None:
            raise trouble
        if not records:
            reason = f"the domain {domain} has neither a mail exchanger nor an address"
            raise Unreachable(Outcome(Fate.FAILED, reason, "5.4.4"))
        raise Unreachable(_no_address(domain, names, pinned))

    async def open_channel(self, target: Target, policy: Policy, snapshot: Snapshot) -> Channel:
        """A channel that may carry mail under `policy`. Raises HostFailed."""
        if policy.broken or policy.skip:
            verdict = judge(policy, NOT_OFFERED, str(target))
            raise HostFailed(verdict.sentence, verdict.status, tls=True)
        try:
            return await self._open(target, policy, snapshot, with_tls=policy.level is not Level.NONE)
        except _TlsBroke as broke:
            verdict = judge(policy, broke.no_tls, str(target))
            if then(policy.level, broke.no_tls.trouble) is not Then.PLAIN_AGAIN:
                raise HostFailed(verdict.sentence, verdict.status, tls=True) from broke
            self.say(f"tls fallback host={target} reason={broke}")
        try:
            return await self._open(target, policy, snapshot, with_tls=False)
        except _TlsBroke as broke:  # cannot happen without TLS; kept as a failure of the host, not of us
            raise HostFailed(str(broke)) from broke

    async def _open(self, target: Target, policy: Policy, snapshot: Snapshot, with_tls: bool) -> Channel:
        channel = await self._connect(target, snapshot)
        try:
            greeted = _greeted(await channel.next(), target)
            if not with_tls:
                channel.tls = "plain"
            elif "STARTTLS" in greeted.extensions:
                await self._secure(channel, target, policy, snapshot)
            else:
                _settle(channel, judge(policy, NOT_OFFERED, str(target)))
        except BaseException:
            channel.quit()
            raise
        return channel

    async def _connect(self, target: Target, snapshot: Snapshot) -> Channel:
        settings = snapshot.settings
        kind = TCP6ClientEndpoint if ":" in target.address else TCP4ClientEndpoint
        # The endpoint's limit is in whole seconds.
        endpoint = kind(self.reactor, target.address, target.port, timeout=max(1, int(settings.timeout_connect)))
        channel = Channel(self.reactor, self.off_reactor, settings.helo_host, settings.timeout_remote, str(target))
        try:
            await endpoint.connect(_OneChannel(channel))
        except (ConnectError, OSError) as problem:
            raise HostFailed(f"{target} cannot be connected to: {_words(problem)}") from problem
        return channel

    async def _secure(self, channel: Channel, target: Target, policy: Policy, snapshot: Snapshot) -> None:
        """STARTTLS, handshake, verdict, and the EHLO after it."""
        channel.session.start_tls()
        event = await channel.next()
        if isinstance(event, TlsRefused):
            refused = NoTls(Trouble.REFUSED, f"STARTTLS was answered {event.reply}")
            _settle(channel, judge(policy, refused, str(target)))
            return
        if not isinstance(event, TlsGo):
            assert isinstance(event, Ended)
            raise _TlsBroke(NoTls(Trouble.CUT, f"{event.why} at STARTTLS"))
        name = "" if is_ip(target.name) else target.name
        try:
            facts = await channel.start_tls(snapshot.client.creator(policy, name), name)
        except HandshakeFailed as problem:
            raise _TlsBroke(NoTls(Trouble.HANDSHAKE, f"the TLS handshake failed: {problem}")) from problem
        verdict = judge(policy, facts, str(target))
        if not verdict.ok:
            channel.abort()
        _settle(channel, verdict)
        channel.tls = f"{facts.summary} {verdict.summary}"
        channel.session.tls_established()
        event = await channel.next()
        if isinstance(event, Ended) and event.reply is None:
            # TLS 1.3 tells a client of a refused certificate only after its side of the handshake is done.
            why = channel.tls_ended or event.why
            raise _TlsBroke(left_after(why, target.name, certificate_shown=False))
        _greeted(event, target)


class _OneChannel(Factory):
    noisy = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        return self._channel


def policy_for(next_hop: NextHop, target: Target, snapshot: Snapshot) -> Policy:
    """The demand towards one host of a next hop."""
    route = f"[{next_hop.relay}]:{next_hop.port}" if next_hop.relay else ""
    host = target.name.lower().rstrip(".")
    policy = find_policy(snapshot.settings.tls, next_hop.domain, host, route=route)
    return raised(policy, next_hop.domain, host, route=route) if next_hop.requiretls else policy


def all_failed(failures: list[HostFailed]) -> Unreachable:
    """Every host was tried: the sentences of all, the status of the most telling one (TLS before the rest)."""
    telling = next((f for f in failures if f.tls), failures[-1])
    sentences = list(dict.fromkeys(str(f) for f in failures))
    return Unreachable(Outcome(Fate.DEFERRED, "; ".join(sentences), telling.status))


def _settle(channel: Channel, verdict: Verdict) -> None:
    if not verdict.ok:
        raise HostFailed(verdict.sentence, verdict.status, tls=True)
    channel.tls = verdict.summary


def _greeted(event: object, target: Target) -> Greeted:
    if isinstance(event, Greeted):
        return event
    assert isinstance(event, Ended)
    said = f": {event.reply}" if event.reply is not None else ""
    raise HostFailed(f"{target} at {event.stage.value}: {event.why}{said}", "4.4.2")


def _no_address(domain: str, names: tuple[str, ...], pinned: frozenset[str]) -> Outcome:
    if pinned:
        return Outcome(Fate.DEFERRED, f"the pinned hosts of {domain} have no address", "4.4.4")
    return Outcome(Fate.DEFERRED, f"no mail exchanger of {domain} has an address ({', '.join(names)})", "4.4.4")


def _words(problem: BaseException) -> str:
    """ "Connection refused", without class names and numbers."""
    text = getattr(problem, "osError", None)
    number = text if isinstance(text, int) else getattr(problem, "errno", None)
    if isinstance(number, int):
        return os.strerror(number).lower()
    return (type(problem).__doc__ or type(problem).__name__).strip().rstrip(".").lower()
