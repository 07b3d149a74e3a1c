"""From a message to jobs: one per next hop (and TLS demand), each with the recipients it concerns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a job goes. `relay` "" = the MX hosts of `domain`; else this host as smtproutes wrote it.

    `local` True = a mailbox of this host: domain is the local domain. `port` 25 for MX.
    """

    domain: str  # the recipients' domain, lower case: pins and policy lines are looked up by it
    relay: str = ""
    port: int = 25
    local: bool = False

    def __str__(self) -> str:
        if self.local:
            return f"local {self.domain}"
        return f"[{self.relay}]:{self.port}" if self.relay else self.domain


@dataclass(frozen=True, slots=True)
class Job:
    """One transaction to make: `recipients` are indices into the envelope."""

    next_hop: NextHop
    recipients: tuple[int, ...]
