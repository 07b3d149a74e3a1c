"""What outbound policies cost: `python -m bench.policies [LINES]` makes a control directory with so many lines (10,000)
of `tlspolicy`, compiles it, and measures decisions in this process. No server is started.

DNS comes from `bench.nameserver` and is in the resolver's memory before the clock starts. A decision is all that lies
between a next hop and the demand for a handshake: rule, TLSA records, MTA-STS, what they come to. Times are the best of
several rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.nameserver import NameServer, Said
from bench.rules import ROUNDS
from qmtls.control.compile import compile_control
from qmtls.control.settings import Settings
from qmtls.delivery.demands import demand_for, policy_for
from qmtls.delivery.plan import NextHop
from qmtls.net.targets import Target
from qmtls.service.oneshot import Bench, ask
from qmtls.tls.demand import Policy
from qmtls.tls.evidence import decided

LINES = 10_000
DECISIONS = 2_000  # in a round
SECONDS = 60.0
AIM_US, AIM_LOAD = 50.0, 1.0
ADDRESS = "127.0.53.25"

# How the lines look in turn.
KINDS: tuple[Callable[[int], str], ...] = (
    lambda n: f"a{n}.example pin match=sha256:{_digest(n)}",
    lambda n: f".b{n}.example encrypt",
    lambda n: f"c{n}.example secure match=nexthop:dot-nexthop",
    lambda n: f"d{n}.example verify protocols=>=TLSv1.3 until=2099-12-31 owner=ops reason=merger",
    lambda n: f"[mx{n}.example]:587 dane-only",
)

Figures = dict[str, float]


def main() -> int:
    """1 if an aim was not reached."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else LINES
    with tempfile.TemporaryDirectory() as directory, NameServer(zone) as dns:
        began = time.perf_counter()
        settings = compile_control(control(Path(directory), lines, dns.address))
        load = time.perf_counter() - began
        found = ask(settings, Path(directory), measure(lines), SECONDS)
    print(f"compiling {lines:,} lines: {load:.3f} s ({_verdict(load <= AIM_LOAD)}: at most {AIM_LOAD:g} s)")
    for name, microseconds in found.items():
        print(f"{name}: {microseconds:.1f} µs ({_verdict(microseconds <= AIM_US)}: at most {AIM_US:g} µs)")
    return int(load > AIM_LOAD or max(found.values()) > AIM_US)


def _verdict(reached: bool) -> str:
    return "reached" if reached else "NOT REACHED"


def zone(name: str, kind: str) -> Said:
    """`dane.example` and what is below it is signed; nobody has an MTA-STS policy."""
    secure = name.endswith("dane.example")
    match kind:
        case "MX":
            return Said((f"10 mx.{name}.",), secure)
        case "A":
            return Said((ADDRESS,), secure)
        case "TLSA" if secure:
            return Said((f"3 1 1 {_digest(0)}",), secure)
    return Said((), secure, exists=not name.startswith("_"))


def control(directory: Path, lines: int, dns: str) -> Path:
    """A control directory whose one resolver is `dns`."""
    files = {
        "me": "mail.example.org",
        "dnsserver": dns,
        "tlsdefault": "dane",
        "tlspolicy": "\n".join(KINDS[n % len(KINDS)](n) for n in range(lines)),
    }
    for name, text in files.items():
        (directory / name).write_text(text + "\n")
    return directory


def hops(lines: int) -> Iterator[tuple[str, str]]:
    """Domains, with what is special about them."""
    last = (lines - 1) // len(KINDS) * len(KINDS)
    yield "a line with a pin", f"a{last}.example"
    yield "a line for a parent", f"host.sub.b{last + 1 if last + 1 < lines else 1}.example"
    yield "no line, DANE", "dane.example"
    yield "no line, no DANE, no MTA-STS", "plain.example"


def measure(lines: int) -> Callable[[Bench], Coroutine[Any, Any, Figures]]:
    """Microseconds by what was decided."""

    async def measured(bench: Bench) -> Figures:
        found: Figures = {}
        for what, domain in hops(lines):
            hop = NextHop(domain)
            (target,) = await bench.finder.targets(hop, bench.snapshot)
            await decision(bench, hop, target)  # what DNS says is remembered from here on
            found[f"decision, {what}"] = await best(partial(decision, bench, hop, target))
        return found

    return measured


async def decision(bench: Bench, hop: NextHop, target: Target) -> Policy:
    """What is demanded of this host of a next hop."""
    settings: Settings = bench.snapshot.settings
    rule = policy_for(hop, target.name, settings, time.time())
    evidence = await bench.witness.about(rule, target.vouched, hop.domain, target.port)
    policy = decided(rule, evidence, target.name)
    return demand_for(policy, hop, target.name, mx_secure=target.vouched.mx_secure)


async def best(work: Callable[[], Awaitable[Policy]]) -> float:
    """Microseconds for one."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(DECISIONS):
            await work()
        found.append((time.perf_counter() - began) / DECISIONS * 1e6)
    return min(found)


def _digest(number: int) -> str:
    return sha256(str(number).encode("ascii")).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
