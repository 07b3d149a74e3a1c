"""One probe without mail: does any host of a next hop meet the TLS demand by now?

The relayer's own dialer connects, up to the verdict (and the login, where the relay wants one), and says QUIT. It sends
no mail and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from qmtls.delivery.demands import policy_for
from qmtls.delivery.plan import NextHop
from qmtls.net.outbound import Dialer, HostFailed
from qmtls.net.snapshot import Snapshot
from qmtls.net.targets import Unreachable

CONNECT_SECONDS = 20.0  # at most, whatever timeoutconnect says: nobody's mail waits for this very connection
REPLY_SECONDS = 60.0  # likewise for each reply
PROBE_SECONDS = 180.0  # no further host of a next hop afterwards


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe came to: the demand is met, and by which host; or the sentences of all hosts."""

    met: bool
    sentence: str


async def probe(dialer: Dialer, next_hop: NextHop, snapshot: Snapshot, clock: Any, now: Callable[[], float]) -> Finding:
    """Every host in the relayer's order, until one meets the demand. Sends no mail, and leaves out hosts that a rule of
    `control/holds` pauses."""
    snapshot, end = _impatient(snapshot), clock.seconds() + PROBE_SECONDS
    settings = snapshot.settings
    try:
        targets = await dialer.targets(next_hop, snapshot)
    except Unreachable as problem:
        return Finding(False, problem.outcome.reason)
    failures: list[str] = []
    for target in targets:
        paused = settings.holds.of_host(target.name, now())
        if paused is not None:
            failures.append(paused.sentence)
            continue
        if clock.seconds() > end:
            break
        try:
            rule = policy_for(next_hop, target.name, settings, now())
            channel = await dialer.open_channel(target, rule, snapshot, next_hop)
        except HostFailed as problem:
            failures.append(str(problem))
            continue
        channel.quit()
        return Finding(True, f"{target}: {channel.tls}")
    return Finding(False, "; ".join(dict.fromkeys(failures)))


def _impatient(snapshot: Snapshot) -> Snapshot:
    settings = snapshot.settings
    quick = replace(
        settings,
        timeout_connect=min(settings.timeout_connect, CONNECT_SECONDS),
        timeout_remote=min(settings.timeout_remote, REPLY_SECONDS),
    )
    return replace(snapshot, settings=quick)
