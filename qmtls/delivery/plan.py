"""From a message to jobs: one per next hop (and TLS demand), each with the recipients it concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address

from qmtls.delivery.routes import Routing, Scheme
from qmtls.delivery.verp import is_verp
from qmtls.smtp.envelope import Envelope

# RFC 5321 section 4.5.3.1.8: every server takes this many in one transaction.
MAX_RECIPIENTS_PER_JOB = 100


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a job goes. `relay` "" = the MX hosts of `domain`; else this host as smtproutes wrote it.

    `local` True = a mailbox of this host: domain is the local domain. `port` 25 for MX. `requiretls` True = the message
    says so (RFC 8689): the demand is higher than for other mail, and connections are not shared with it. `tls_optional`
    True = the message says "TLS-Required: no": DANE and MTA-STS are not asked for. A relay that begins with "/" is a
    socket of this host.
    """

    domain: str  # the recipients' domain, lower case: pins and policy lines are looked up by it
    relay: str = ""
    port: int = 25
    local: bool = False
    requiretls: bool = False
    tls_optional: bool = False
    scheme: Scheme = Scheme.SMTP

    @property
    def is_socket(self) -> bool:
        """Reached without any network."""
        return self.relay.startswith("/")

    def __str__(self) -> str:
        if self.local:
            return f"local {self.domain}"
        if not self.relay:
            return self.domain
        where = f"unix:{self.relay}" if self.is_socket else f"[{self.relay}]:{self.port}"
        return where if self.scheme is Scheme.SMTP else f"{self.scheme.value}:{where}"


@dataclass(frozen=True, slots=True)
class Job:
    """One transaction to make: `recipients` are indices into the envelope."""

    next_hop: NextHop
    recipients: tuple[int, ...]


def jobs(envelope: Envelope, pending: Sequence[int], routing: Routing) -> tuple[Job, ...]:
    """One job per next hop for the recipients `pending` (indices), in the order in which the hops first appear.

    A recipient is in exactly one job; no job has more than MAX_RECIPIENTS_PER_JOB of them, and only one if each
    recipient has a reverse-path of its own.
    """
    most = 1 if is_verp(envelope.reverse_path) else MAX_RECIPIENTS_PER_JOB
    by_domain: dict[tuple[str, bool], list[int]] = {}
    for index in pending:
        address = envelope.recipients[index].address
        by_domain.setdefault((address.host, routing.is_local(address)), []).append(index)
    made: list[Job] = []
    for (domain, local), indices in by_domain.items():
        hop = NextHop(domain, local=True) if local else next_hop(domain, routing)
        if hop.is_socket or local:
            pass  # delivered on this host: no TLS is asked for, none is spared
        elif envelope.requiretls:
            hop = replace(hop, requiretls=True)  # which goes before TLS-Required: no (RFC 8689 section 4.1)
        elif envelope.tls_optional:
            hop = replace(hop, tls_optional=True)
        made.extend(Job(hop, tuple(indices[start : start + most])) for start in range(0, len(indices), most))
    return tuple(made)


def next_hop(domain: str, routing: Routing) -> NextHop:
    """Where mail that is not local goes for `domain` (lower case): a route, or else what the domain itself says.

    Routes also catch address literals, as in qmail; for others the connector asks `literal_address`.
    """
    route = routing.route_for(domain)
    if route is not None and route.relay:
        return NextHop(domain, route.relay, route.port, scheme=route.scheme)
    return NextHop(domain)


def literal_address(domain: str) -> str:
    """The IP address of an address literal (RFC 5321 section 4.1.3: "[192.0.2.1]", "[IPv6:2001:db8::1]"), else ""."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return ""
    text = domain[1:-1]
    tagged = text[:5].lower() == "ipv6:"
    try:
        address = ip_address(text[5:] if tagged else text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and (not tagged or address.scope_id is not None):
        return ""
    return "" if tagged and address.version == 4 else address.compressed
