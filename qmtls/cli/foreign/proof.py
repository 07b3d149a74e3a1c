"""Both servers asked about the same peers: their decisions side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qmtls.cli.foreign.demand import Demand, demand_of
from qmtls.cli.foreign.postfix_files import read_text
from qmtls.cli.output import USAGE, CommandError
from qmtls.control.settings import Settings
from qmtls.delivery.plan import next_hop
from qmtls.tls.names import canonical, is_host_name
from qmtls.tls.policy import find_policy

Decide = Callable[[str, str], Demand]  # (recipient's domain, MX host)


@dataclass(frozen=True, slots=True)
class Peer:
    """A recipient's domain, and one of its MX hosts."""

    domain: str
    host: str

    def __str__(self) -> str:
        return self.domain if self.domain == self.host else f"{self.domain} at {self.host}"


@dataclass(frozen=True, slots=True)
class Compared:
    peer: Peer
    theirs: Demand
    ours: Demand
    rule: str  # which of ours

    @property
    def equal(self) -> bool:
        """Two reasons for waiting are as good as one."""
        return self.theirs == self.ours or bool(self.theirs.waits and self.ours.waits)


def read_peers(path: Path) -> list[Peer]:
    """Lines of DOMAIN [HOST]; without a host the domain is its own."""
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        names = [canonical(word) for word in words]
        if len(names) > 2 or not all(map(is_host_name, names)):
            raise CommandError(f"{path}:{number}: write DOMAIN or DOMAIN HOST", USAGE)
        found.append(Peer(names[0], names[-1]))
    return found


def compare(theirs: Decide, settings: Settings, peers: Iterable[Peer]) -> Iterator[Compared]:
    """Ours is the very rule that the relayer finds; DANE and MTA-STS are not asked."""
    for peer in dict.fromkeys(peers):
        hop = next_hop(peer.domain, settings.routing)
        host = hop.relay or peer.host
        route = f"[{hop.relay}]:{hop.port}" if hop.relay else ""
        policy = find_policy(settings.tls, peer.domain, host, route=route)
        yield Compared(peer, theirs(peer.domain, peer.host), demand_of(policy), policy.why)
