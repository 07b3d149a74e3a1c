"""A dry run of one delivery: every host of a next hop is dialled by the relayer's own Dialer, and no mail is sent.

What the Dialer does is told stage by stage as it happens. The channel is watched, not imitated: demand, handshake and
verdict are those of mail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from qmtls.delivery.demands import login_of, login_words, policy_for
from qmtls.delivery.outcome import Fate
from qmtls.delivery.plan import NextHop
from qmtls.delivery.routes import Scheme
from qmtls.net.channel import Channel
from qmtls.net.handshake import Creator
from qmtls.net.outbound import Dialer, HostFailed
from qmtls.net.snapshot import Snapshot
from qmtls.net.targets import Target, Unreachable
from qmtls.net.witness import Vouched, Witness
from qmtls.service.oneshot import Bench
from qmtls.smtp.events import Answered, ClientEvent, Ended, Greeted, TlsGo, TlsRefused
from qmtls.tls.evidence import Evidence
from qmtls.tls.explain import dane_words, policy_words, sts_words
from qmtls.tls.facts import TlsFacts
from qmtls.tls.policy import Level, Policy


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that happened. `host` "" concerns the next hop as a whole; `ok` False: mail cannot go this way."""

    host: str
    name: str
    text: str
    ok: bool = True
    facts: TlsFacts | None = None  # of a handshake
    verifies: bool = False  # the chain in `facts` was asked for, and checked against something


@dataclass(frozen=True, slots=True)
class Result:
    """What would become of mail: `fate` DELIVERED = it would go, by `host`."""

    fate: Fate
    sentence: str
    host: str = ""


Tell = Callable[[Stage], None]
VERIFYING = frozenset({Level.VERIFY, Level.SECURE, Level.STS})


@dataclass(slots=True)
class _Watch:
    """Tells what happens with one host."""

    tell: Tell
    host: str
    reactor: Any
    began: float = 0.0
    hello: str = "EHLO"
    connections: int = 0
    verifies: bool = False

    def say(self, name: str, text: str, *, ok: bool = True, facts: TlsFacts | None = None) -> None:
        self.tell(Stage(self.host, name, text, ok, facts, self.verifies))

    def demands(self, policy: Policy) -> None:
        """Only some demands have a chain checked; the others say nothing about it."""
        self.verifies = policy.level in VERIFYING or bool(policy.pins.anchors)

    def since(self) -> str:
        now = self.reactor.seconds()
        took, self.began = now - self.began, now
        return f"{took * 1000:.0f} ms"


async def probe(bench: Bench, next_hop: NextHop, tell: Tell) -> Result:
    """Dials every host of the next hop, in the relayer's order."""
    try:
        targets = await bench.finder.targets(next_hop, bench.snapshot)
    except Unreachable as problem:
        tell(Stage("", "DNS", problem.outcome.reason, ok=False))
        return Result(problem.outcome.fate, problem.outcome.reason)
    tell(Stage("", "DNS", "; ".join(_found(target) for target in targets)))
    failures, good = [], ""
    for target in targets:
        failure = await _try(bench, next_hop, target, tell)
        if failure is None:
            good = good or str(target)
        else:
            failures.append(str(failure))
    if good:
        return Result(Fate.DELIVERED, f"mail would go to {good}", good)
    return Result(Fate.DEFERRED, "; ".join(dict.fromkeys(failures)))


def _found(target: Target) -> str:
    signed = ", named by a signed MX record" if target.vouched.mx_secure else ""
    return f"{target}{signed}"


async def _try(bench: Bench, next_hop: NextHop, target: Target, tell: Tell) -> HostFailed | None:
    hello = "LHLO" if target.scheme is Scheme.LMTP else "EHLO"
    watch = _Watch(tell, str(target), bench.reactor, bench.reactor.seconds(), hello)
    rule = policy_for(next_hop, target.name, bench.snapshot.settings, bench.witness.now())
    watch.demands(rule)
    watch.say("rule", f"{rule.why or rule.origin}: {policy_words(rule)}")
    login = login_of(next_hop, bench.snapshot.settings)
    if login is not None:
        watch.say("login", login_words(login))
    witness = _WatchedWitness(bench.witness.resolver, bench.witness.policies, bench.witness.now, watch=watch)
    dialer = _WatchedDialer(
        bench.reactor, bench.finder, witness, bench.off_reactor, lambda line: watch.say("log", line), watch=watch
    )
    try:
        channel = await dialer.open_channel(target, rule, bench.snapshot, next_hop)
    except HostFailed as failure:
        watch.say("verdict", str(failure), ok=False)
        return failure
    watch.say("verdict", f"mail may go: {channel.tls}")
    channel.quit()
    return None


@dataclass(frozen=True)
class _WatchedWitness(Witness):
    watch: _Watch = field(kw_only=True)

    async def about(self, policy: Policy, vouched: Vouched, domain: str, port: int) -> Evidence:
        evidence = await super().about(policy, vouched, domain, port)
        if evidence.dane is not None:
            self.watch.say("DANE", dane_words(evidence.dane, self.now()))
        if evidence.sts is not None:
            self.watch.say("MTA-STS", sts_words(evidence.sts, self.now()))
        return evidence


@dataclass(frozen=True)
class _WatchedDialer(Dialer):
    watch: _Watch = field(kw_only=True)

    def _demand(self, rule: Policy, target: Target, next_hop: NextHop) -> Any:
        demand = super()._demand(rule, target, next_hop)

        def settled(policy: Policy) -> None:
            self.watch.demands(policy)
            if policy != rule:
                self.watch.say("demand", f"{policy.why or policy.origin}: {policy_words(policy, settled=True)}")

        # A failure is told by whoever else waits for it.
        Deferred.fromCoroutine(demand.get()).addCallbacks(settled, lambda failure: None)
        return demand

    async def _connect(self, target: Target, snapshot: Snapshot) -> Channel:
        watch = self.watch
        watch.began = watch.reactor.seconds()
        channel = await super()._connect(target, snapshot)
        watch.connections += 1
        again = ", once more, for plaintext" if watch.connections > 1 else ""
        where = f"the socket {target.address}" if target.is_socket else f"{target.address} port {target.port}"
        watch.say("connect", f"{where}, {watch.since()}{again}")
        _listen_in(channel, watch)
        return channel


def _listen_in(channel: Channel, watch: _Watch) -> None:
    """Every event of the channel is told before the Dialer gets it."""
    next_event, start_tls = channel.next, channel.start_tls

    def heard(event: ClientEvent) -> ClientEvent:
        name, text, ok = _event_words(event, watch.hello)
        if name:
            watch.say(name, f"{text}, {watch.since()}", ok=ok)
        return event

    def handshaken(facts: TlsFacts) -> TlsFacts:
        watch.say("handshake", f"{facts.summary}, {watch.since()}", facts=facts)
        return facts

    def watched_next() -> Deferred[ClientEvent]:
        return next_event().addCallback(heard)

    def watched_start(creator: Creator, server_name: str) -> Deferred[TlsFacts]:
        if server_name:
            watch.say("SNI", server_name)
        return start_tls(creator, server_name).addCallback(handshaken)

    channel.next = watched_next  # type: ignore[method-assign]
    channel.start_tls = watched_start  # type: ignore[method-assign]


def _event_words(event: ClientEvent, hello: str) -> tuple[str, str, bool]:
    match event:
        case Greeted():
            offers = " ".join(f"{name} {value}".strip() for name, value in event.extensions.items())
            return (f"{hello} under TLS" if event.tls else f"greeting, {hello}"), offers or "no extensions", True
        case TlsGo():
            return "STARTTLS", "go ahead", True
        case TlsRefused():
            return "STARTTLS", f"refused: {event.reply}", False
        case Answered():
            return "AUTH", str(event.reply), event.reply.code < 400
        case Ended():
            said = f": {event.reply}" if event.reply is not None else ""
            return event.stage.value, f"{event.why}{said}", False
        case _:
            return "", "", True
