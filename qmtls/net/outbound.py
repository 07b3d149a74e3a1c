"""From a target to an open channel: connection, evidence, STARTTLS, facts, verdict.

Nothing of a message is sent before the verdict. A host that fails is passed over for the next; when none is left the
whole next hop waits, with the sentence of each host that was tried. What follows when TLS does not come about is
qmtls.tls.fallback's table, and no failure is remembered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.delivery.demands import demand_for, line_key, login_of
from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop
from qmtls.delivery.routes import Scheme
from qmtls.net.channel import Channel, HandshakeFailed, OffReactor
from qmtls.net.lasthandshakes import Show, handshake_of
from qmtls.net.relaylogin import check_demand, log_in
from qmtls.net.resolver import is_ip
from qmtls.net.snapshot import Snapshot
from qmtls.net.targets import Finder, Target, Unreachable
from qmtls.net.targets import HostFailed as HostFailed
from qmtls.net.tlssessions import Count, Showing, counts, sessions_of
from qmtls.net.witness import Witness, asks_nobody
from qmtls.smtp.client import ClientSession
from qmtls.smtp.client_lmtp import LmtpSession
from qmtls.smtp.events import Ended, Greeted, TlsGo, TlsRefused
from qmtls.smtp.login import Login
from qmtls.tls.evidence import NO_EVIDENCE, decided
from qmtls.tls.facts import TlsFacts
from qmtls.tls.fallback import NOT_OFFERED, NoTls, Then, Trouble, hung_up, left_after, then
from qmtls.tls.policy import Level, Policy
from qmtls.tls.verdict import Verdict, judge

log = Logger()


class _TlsBroke(Exception):
    """This connection is lost for TLS and for plaintext; `no_tls` says how."""

    def __init__(self, no_tls: NoTls) -> None:
        super().__init__(no_tls.words)
        self.no_tls = no_tls


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens channels."""

    reactor: Any
    finder: Finder
    witness: Witness
    off_reactor: OffReactor
    say: Callable[[str], None]
    count: Count | None = None  # for TLS reports
    show: Show | None = None  # for people

    async def targets(self, next_hop: NextHop, snapshot: Snapshot) -> list[Target]:
        """The addresses to try, best first. Raises Unreachable."""
        return await self.finder.targets(next_hop, snapshot)

    async def open_channel(self, target: Target, rule: Policy, snapshot: Snapshot, next_hop: NextHop) -> Channel:
        """A channel that may carry mail to `next_hop` under `rule`, which `policy_for` found. Raises HostFailed.

        What the rule may be decided by is asked for while the connection is being made.
        """
        if rule.broken or rule.skip:
            _refuse(judge(rule, NOT_OFFERED, str(target)))
        demand = self._demand(rule, target, next_hop)
        login = login_of(next_hop, snapshot.settings)
        if login is not None:
            check_demand(await demand.get(), login, next_hop)
        try:
            channel = await self._open_or_fall_back(target, demand, snapshot, next_hop)
        finally:
            self._record(rule, target, demand.showing, next_hop, snapshot)
        if login is not None:
            await _logged_in(channel, login)
        return channel

    def _record(self, rule: Policy, target: Target, showing: Showing, next_hop: NextHop, snapshot: Snapshot) -> None:
        """Never fails: a fault in writing history is none of the mail's business."""
        try:
            if self.count is not None and snapshot.settings.tls_reports is not None and counts(next_hop):
                for session in sessions_of(next_hop, target, rule, showing, self._time()):
                    self.count(session)
            if self.show is not None:
                handshake = handshake_of(next_hop, target, showing, self.witness.now())
                if handshake is not None:
                    self.show(handshake)
        except Exception:
            log.failure("recording a TLS session with {target}", target=str(target))

    async def _open_or_fall_back(
        self, target: Target, demand: _Demand, snapshot: Snapshot, next_hop: NextHop
    ) -> Channel:
        try:
            return await self._open(target, demand, snapshot, next_hop)
        except _TlsBroke as broke:
            demand.showing.found = broke.no_tls
            policy = await demand.get()
            verdict = demand.showing.verdict = judge(policy, broke.no_tls, str(target))
            if then(policy.level, broke.no_tls.trouble) is not Then.PLAIN_AGAIN:
                raise HostFailed(verdict.sentence, verdict.status, tls=True) from broke
            self.say(f"tls fallback host={target} reason={broke}")
        channel = await self._connect(target, snapshot)
        try:
            _greeted(await channel.next(), target)
            channel.tls = "plain"
        except BaseException:
            channel.quit()
            raise
        return channel

    def _demand(self, rule: Policy, target: Target, next_hop: NextHop) -> _Demand:
        if asks_nobody(rule, target.vouched):
            policy = decided(rule, NO_EVIDENCE, target.name or target.address)
            return _Demand(self._needed(policy, target, next_hop), Showing())
        showing = Showing()
        return _Demand(Deferred.fromCoroutine(self._decide(rule, target, next_hop, showing)), showing)

    async def _decide(self, rule: Policy, target: Target, next_hop: NextHop, showing: Showing) -> Policy:
        evidence, policy = await self.witness.decide(rule, target.vouched, target.name, next_hop.domain, target.port)
        showing.evidence = evidence
        return self._needed(policy, target, next_hop)

    @staticmethod
    def _needed(policy: Policy, target: Target, next_hop: NextHop) -> Policy:
        return demand_for(policy, next_hop, target.name, mx_secure=target.vouched.mx_secure)

    async def _open(self, target: Target, demand: _Demand, snapshot: Snapshot, next_hop: NextHop) -> Channel:
        channel = await self._connect(target, snapshot)
        demand.showing.sending_ip = channel.own_address
        try:
            if target.scheme is Scheme.SMTPS:
                await self._shake_hands(channel, target, demand, snapshot, next_hop)
                return channel
            greeted = _greeted(await channel.next(), target)
            demand.showing.helo = greeted.name
            policy = await _usable(demand, target)
            if policy.level is Level.NONE:
                channel.tls = "plain"
            elif "STARTTLS" in greeted.extensions:
                await self._secure(channel, target, demand, snapshot, next_hop)
            else:
                demand.showing.found = NOT_OFFERED
                _settle(channel, demand.showing, judge(policy, NOT_OFFERED, str(target)))
        except BaseException:
            channel.quit()
            raise
        return channel

    async def _connect(self, target: Target, snapshot: Snapshot) -> Channel:
        settings = snapshot.settings
        session = _session(target.scheme, settings.helo_host)
        channel = Channel(self.reactor, self.off_reactor, session, settings.timeout_remote, str(target))
        # The endpoint's limit is in whole seconds.
        patience = max(1, int(settings.timeout_connect))
        try:
            await self._endpoint(target, patience).connect(_OneChannel(channel))
        except (ConnectError, OSError) as problem:
            raise HostFailed(f"{target} cannot be connected to: {_words(problem)}") from problem
        return channel

    def _endpoint(self, target: Target, patience: int) -> Any:
        if target.is_socket:
            return UNIXClientEndpoint(self.reactor, target.address, timeout=patience)
        kind = TCP6ClientEndpoint if ":" in target.address else TCP4ClientEndpoint
        return kind(self.reactor, target.address, target.port, timeout=patience)

    async def _secure(
        self, channel: Channel, target: Target, demand: _Demand, snapshot: Snapshot, next_hop: NextHop
    ) -> None:
        """STARTTLS, and what follows."""
        policy = await demand.get()
        channel.session.start_tls()
        event = await channel.next()
        if isinstance(event, TlsRefused):
            refused = demand.showing.found = NoTls(Trouble.REFUSED, f"STARTTLS was answered {event.reply}")
            _settle(channel, demand.showing, judge(policy, refused, str(target)))
            return
        if not isinstance(event, TlsGo):
            assert isinstance(event, Ended)
            raise _TlsBroke(NoTls(Trouble.CUT, f"{event.why} at STARTTLS"))
        await self._shake_hands(channel, target, demand, snapshot, next_hop)

    async def _shake_hands(
        self, channel: Channel, target: Target, demand: _Demand, snapshot: Snapshot, next_hop: NextHop
    ) -> None:
        """Handshake, verdict, and the EHLO after it."""
        policy = await _usable(demand, target)
        name = "" if is_ip(target.name) else target.name
        try:
            facts = await channel.start_tls(snapshot.client.creator(policy, name), policy.server_name or name)
        except HandshakeFailed as problem:
            broke = NoTls(Trouble.HANDSHAKE, f"the TLS handshake failed: {problem}")
            raise _TlsBroke(hung_up(line_key(next_hop)) if problem.unheard else broke) from problem
        demand.showing.found = facts
        verdict = judge(policy, facts, str(target), self._time())
        if not verdict.ok:
            channel.abort()
            self._look_again(policy, next_hop)
        _settle(channel, demand.showing, verdict)
        self._tell_wish(policy, facts, target)
        channel.tls = f"{facts.summary} {verdict.summary}"
        if target.scheme is not Scheme.SMTPS:
            channel.session.tls_established()
        event = await channel.next()
        if isinstance(event, Ended) and event.reply is None:
            # TLS 1.3 tells a client of a refused certificate only after its side of the handshake is done.
            shown = snapshot.client.shows_certificate(policy)
            why = channel.tls_ended or event.why
            raise _TlsBroke(left_after(why, next_hop.relay or next_hop.domain, certificate_shown=shown))
        _greeted(event, target)

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self.witness.now(), UTC)

    def _look_again(self, policy: Policy, next_hop: NextHop) -> None:
        """A host did not meet the domain's MTA-STS policy: for the next attempt, whether there is a new one."""
        if policy.level is Level.STS:
            looking = Deferred.fromCoroutine(self.witness.sts(policy, next_hop.domain, again=True))
            looking.addErrback(lambda failure: log.failure("looking for an MTA-STS policy", failure))

    def _tell_wish(self, policy: Policy, facts: TlsFacts, target: Target) -> None:
        """What a policy in testing would have refused is told, and mail goes."""
        if policy.wish is not None:
            verdict = judge(policy.wish, facts, str(target), self._time())
            if not verdict.ok:
                self.say(f"tls testing host={target} reason={verdict.sentence}")


class _Demand:
    """A demand that may still be on its way; asked for as often as need be. `showing`: what is seen meanwhile."""

    def __init__(self, policy: Policy | Deferred[Policy], showing: Showing) -> None:
        self.showing = showing
        self._policy: Policy | Failure | None = None
        self._waiting: list[Deferred[Policy]] = []
        if isinstance(policy, Policy):
            self._policy = policy
        else:
            policy.addBoth(self._tell)

    def _tell(self, result: Policy | Failure) -> None:
        self._policy = result
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(result)

    async def get(self) -> Policy:
        """Raises what the look-ups raised, which is our own fault: trouble with them is evidence."""
        if self._policy is None:
            waiting: Deferred[Policy] = Deferred()
            self._waiting.append(waiting)
            return await waiting
        if isinstance(self._policy, Failure):
            self._policy.raiseException()
        return self._policy


async def _usable(demand: _Demand, target: Target) -> Policy:
    """The demand, if it can be met at all."""
    policy = await demand.get()
    if policy.broken or policy.skip:
        _refuse(judge(policy, NOT_OFFERED, str(target)))
    return policy


async def _logged_in(channel: Channel, login: Login) -> None:
    try:
        await log_in(channel, login)
    except BaseException:
        channel.quit()
        raise


class _OneChannel(Factory):
    noisy = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        return self._channel


def _session(scheme: Scheme, helo: str) -> ClientSession:
    return LmtpSession(helo) if scheme is Scheme.LMTP else ClientSession(helo, secure=scheme is Scheme.SMTPS)


def all_failed(failures: list[HostFailed]) -> Unreachable:
    """Every host was tried: the sentences of all, the status of the most telling one (TLS before the rest)."""
    telling = next((f for f in failures if f.tls), failures[-1])
    sentences = list(dict.fromkeys(str(f) for f in failures))
    unmet = "; ".join(dict.fromkeys(str(f) for f in failures if f.tls))
    return Unreachable(Outcome(Fate.DEFERRED, "; ".join(sentences), telling.status, unmet=unmet))


def _refuse(verdict: Verdict) -> NoReturn:
    raise HostFailed(verdict.sentence, verdict.status, tls=True)


def _settle(channel: Channel, showing: Showing, verdict: Verdict) -> None:
    showing.verdict = verdict
    if not verdict.ok:
        _refuse(verdict)
    channel.tls = verdict.summary


def _greeted(event: object, target: Target) -> Greeted:
    if isinstance(event, Greeted):
        return event
    assert isinstance(event, Ended)
    said = f": {event.reply}" if event.reply is not None else ""
    raise HostFailed(f"{target} at {event.stage.value}: {event.why}{said}", "4.4.2")


def _words(problem: BaseException) -> str:
    """ "Connection refused", without class names and numbers."""
    text = getattr(problem, "osError", None)
    number = text if isinstance(text, int) else getattr(problem, "errno", None)
    if isinstance(number, int):
        return os.strerror(number).lower()
    return (type(problem).__doc__ or type(problem).__name__).strip().rstrip(".").lower()
