"""The client's side for tests: a dialer in a network of scripted hosts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from qmtls.delivery.demands import policy_for
from qmtls.delivery.plan import NextHop
from qmtls.net.channel import Channel
from qmtls.net.outbound import Dialer, HostFailed
from qmtls.net.snapshot import make_snapshot
from qmtls.net.targets import Finder, Target, Unreachable
from qmtls.net.witness import Witness
from qmtls.tls.policy import Policy
from tests.control.directory import compiled
from tests.net import certs
from tests.net.doubles import Names, Policies, off_reactor
from tests.net.hosts import Host
from tests.net.house import Files
from tests.net.wire import Reactor

ADDRESS = "192.0.2.25"
TARGET = Target("mx.there.example", ADDRESS, 25)
HOP = NextHop("there.example")


def dialer_of(
    reactor: Reactor,
    names: Names,
    own: Callable[[], frozenset[str]],
    say: Callable[[str], None],
    policies: Policies | None = None,
) -> Dialer:
    """A dialer that asks these."""
    resolver: Any = names
    witness = Witness(resolver, policies, certs.NOW.timestamp)
    return Dialer(reactor, Finder(resolver, own, reactor), witness, off_reactor, say)


class WayOut:
    """A worker's outbound side without its queue."""

    def __init__(self, control: Path, files: Files | None = None) -> None:
        self.control = control
        self.reactor = Reactor()
        self.names = Names()
        self.log: list[str] = []
        self.own: frozenset[str] = frozenset()
        self.load(files or {})
        self.policies = Policies()
        self.dialer = dialer_of(self.reactor, self.names, lambda: self.own, self.log.append, self.policies)

    def load(self, files: Files) -> None:
        self.snapshot = make_snapshot(compiled(self.control, files))

    def host(self, host: Host, address: str = ADDRESS, port: int = 25) -> Host:
        """Puts a host on the network."""
        self.reactor.hosts[address, port] = host.accept
        return host

    def result(self, coroutine: Coroutine[Deferred[Any], Any, Any]) -> list[Any]:
        """The list gets the result, or the exception, once there is one."""
        found: list[Any] = []
        running: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        running.addCallbacks(found.append, lambda failure: found.append(failure.value))
        self.reactor.run()
        return found

    def policy(self, target: Target = TARGET, hop: NextHop = HOP) -> Policy:
        return policy_for(hop, target.name, self.snapshot.settings, certs.NOW.timestamp())

    def dial(self, target: Target = TARGET, hop: NextHop = HOP) -> list[Channel | HostFailed]:
        return self.result(self.dialer.open_channel(target, self.policy(target, hop), self.snapshot, hop))

    def targets(self, hop: NextHop = HOP) -> list[Target] | Unreachable:
        """Of one next hop, or why there are none."""
        (found,) = self.result(self.dialer.targets(hop, self.snapshot))
        assert isinstance(found, (list, Unreachable)), found
        return found
