"""Outbound TLS sessions on their way to the counts for TLS reports (RFC 8460): for each host that a dialer tries, one
for each policy that applied.

Counted is what concerns a policy domain: a host that its MX records name. Not a relay of our own choice, not an address
literal, and nothing of mail that says "TLS-Required: no", as reports do: there the domain's policy is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from qmtls.delivery.plan import NextHop
from qmtls.net.targets import Target
from qmtls.tls.demand import Policy
from qmtls.tls.evidence import NO_EVIDENCE, Evidence
from qmtls.tls.facts import TlsFacts
from qmtls.tls.fallback import NoTls
from qmtls.tls.names import canonical
from qmtls.tls.results import TlsSession, judge_session
from qmtls.tls.verdict import Verdict

Count = Callable[[TlsSession], None]


@dataclass(slots=True)
class Showing:
    """What one try at a host has shown so far. `found` is the handshake, or how it failed to come about."""

    evidence: Evidence = NO_EVIDENCE
    found: TlsFacts | NoTls | None = None
    verdict: Verdict | None = None  # on what was found
    sending_ip: str = ""
    helo: str = ""  # what the host called itself


def counts(next_hop: NextHop) -> bool:
    """Sessions for this next hop are counted."""
    return not (next_hop.relay or next_hop.tls_optional or next_hop.domain.startswith("["))


def sessions_of(next_hop: NextHop, target: Target, rule: Policy, showing: Showing, now: datetime) -> list[TlsSession]:
    """One for each policy that applied; none if nothing of it concerns TLS."""
    host = canonical(target.name)
    return [
        TlsSession(
            canonical(next_hop.domain),
            finding.policy_type,
            finding.policy_strings,
            host,
            showing.sending_ip,
            target.address,
            finding.result,
            finding.mx_patterns,
            finding.reason,
            showing.helo,
        )
        for finding in judge_session(rule.level, showing.evidence, showing.found, host, now)
    ]
