"""Which TLS a destination demands: the rules as data, and the first match as a pure function.

Order (docs/tls.md): pin file of the recipient's domain, pin file of the host, `tlspolicy` (the domain, its parents,
then the route), `notlshosts` and `exhaustivelist`, then `tlsdefault`. Look-ups are in dictionaries only, so a
name from DNS can never become a path. A message may raise the demand (`raised`), never lower it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum

from cryptography import x509

from qmtls.tls.names import canonical, is_ip
from qmtls.tls.pin import PinSet as PinSet


class Level(Enum):
    """What must be true of the connection before content goes over it; weakest first."""

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    VERIFY = "verify"
    SECURE = "secure"
    PIN = "pin"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule was written: `file` as shown to people ("control/tlspolicy"), `line` 0 for a whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Policy:
    """The demand towards one host.

    `names` are the names that the server's certificate must carry one of (levels verify, secure and an anchored
    pin); a leading dot means any name below. `anchors` None = the system's authorities.
    `broken` is the sentence of a rule that cannot be used (an empty pin file): mail waits.
    `skip` is the sentence why this host is passed over (another host of the domain is pinned).
    """

    level: Level
    origin: Origin
    pins: PinSet = field(default_factory=PinSet)
    names: tuple[str, ...] = ()
    anchors: tuple[x509.Certificate, ...] | None = None
    min_version: str = ""  # "TLSv1.3"; "" = the default floor, TLSv1.2
    ciphers: str = ""
    broken: str = ""
    why: str = ""  # for people: "pin file control/mx.example.pem"
    skip: str = ""


@dataclass(frozen=True, slots=True)
class PinFile:
    """One NAME.pem, compiled. `problem` makes it unusable: mail for `name` waits."""

    name: str
    origin: Origin
    pins: PinSet = field(default_factory=PinSet)
    problem: str = ""
    certificates: tuple[x509.Certificate, ...] = ()  # as read, for `qmtls check`


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One line of `tlspolicy`, compiled; `domain` as key: "example.org", ".example.org" or "[host]:port"."""

    domain: str
    policy: Policy
    match: tuple[str, ...] = ()  # "hostname", "nexthop", "dot-nexthop" or literal names, in the file's order
    until: date | None = None  # a passed date changes nothing yet but is reported
    owner: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """Everything that decides about outbound TLS, from one snapshot of the control directory."""

    default: Policy
    pins: Mapping[str, PinFile] = field(default_factory=dict)  # by lower-case name
    lines: Mapping[str, PolicyLine] = field(default_factory=dict)  # by PolicyLine.domain
    exhaustive: Origin | None = None
    no_tls: Mapping[str, Origin] = field(default_factory=dict)  # by lower-case host name
    default_match: tuple[str, ...] = ()  # as PolicyLine.match, for `default`
    domain_pins: Mapping[str, Policy] = field(init=False, repr=False, compare=False)  # `pins` as demands
    host_pins: Mapping[str, Policy] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_domain = {name: _pin_policy(pin, (name, f".{name}")) for name, pin in self.pins.items()}
        by_host = {name: _pin_policy(pin, (name,)) for name, pin in self.pins.items()}
        object.__setattr__(self, "domain_pins", by_domain)
        object.__setattr__(self, "host_pins", by_host)


def find_policy(rules: PolicyRules, domain: str, host: str, *, route: str = "") -> Policy:
    """The demand towards `host` for mail to recipients in `domain`; always one, the first that matches.

    `host` is the MX host or relay name, "" if none is known; `route` is "[relay]:port" when smtproutes chose the relay.
    """
    domain, host = canonical(domain), canonical(host)
    pinned = rules.domain_pins.get(domain) or (rules.host_pins.get(host) if host else None)
    if pinned is not None:
        return pinned
    # Where smtproutes chose the relay, its name is ours, not the DNS's: it is the next hop that may be verified.
    next_hop = host if route else domain
    if rules.lines:
        for key in _line_keys(domain, canonical(route)):
            line = rules.lines.get(key)
            if line is not None:
                return _with_names(line.policy, line.match, host, next_hop)
    plain = _told_to_be_plain(rules, host)
    if plain is not None:
        return plain
    return _with_names(rules.default, rules.default_match, host, next_hop)


REQUIRETLS = "REQUIRETLS of the message"

# The levels that say nothing about who the host is.
_UNVERIFIED = frozenset({Level.NONE, Level.MAY, Level.ENCRYPT})


def raised(policy: Policy, domain: str, host: str, *, route: str = "") -> Policy:
    """`policy` for a message with REQUIRETLS: the host must be verified (RFC 8689 section 4.2.1).

    A rule that verifies is kept as it is. Else the certificate must be that of the recipient's domain, as at level
    `secure`: the name of an MX host is only what an unsigned DNS answer said.
    """
    if policy.level not in _UNVERIFIED or policy.broken or policy.skip:
        return policy
    demand = replace(policy, level=Level.SECURE, why=f"{REQUIRETLS} (over {policy.why or policy.origin})")
    domain, host = canonical(domain), canonical(host)
    return _with_names(demand, (), host, host if route else domain)


def pinned_hosts(rules: PolicyRules, hosts: Sequence[str]) -> frozenset[str]:
    """Those of a domain's MX hosts that have a pin file: if there are any, the others are passed over (unless the
    domain itself is pinned: its pin then holds for every host)."""
    return frozenset(host for host in hosts if canonical(host) in rules.host_pins)


def _line_keys(domain: str, route: str) -> Iterator[str]:
    if domain:
        yield domain
        dot = domain.find(".")
        while dot >= 0:
            yield domain[dot:]
            dot = domain.find(".", dot + 1)
    if route:
        yield route
        yield route.rpartition("]")[0] + "]"


def _told_to_be_plain(rules: PolicyRules, host: str) -> Policy | None:
    origin = rules.no_tls.get(host)
    if origin is not None:
        return Policy(Level.NONE, origin, why=f"flag file {origin}")
    # As in qmail-tls an IP address (a relay's, or "" for a recipient's) has no name to be listed under, so the list
    # says nothing about it.
    if rules.exhaustive is not None and host and not is_ip(host):
        return Policy(Level.NONE, rules.exhaustive, why=f"{rules.exhaustive} (no pin file for this host)")
    return None


def _pin_policy(pin: PinFile, names: tuple[str, ...]) -> Policy:
    broken = ""
    if pin.problem or not (pin.pins.keys or pin.pins.certificates or pin.pins.anchors):
        problem = pin.problem or "it pins nothing"
        broken = f"pin file {pin.origin} cannot be used: {problem}; mail for {pin.name} waits until it is mended"
    return Policy(
        Level.PIN,
        pin.origin,
        pins=pin.pins,
        names=names if pin.pins.anchors else (),
        broken=broken,
        why=f"pin file {pin.origin}",
    )


# Postfix's defaults for match= (postconf: smtp_tls_verify_cert_match, smtp_tls_secure_cert_match)
_DEFAULT_MATCH = {Level.VERIFY: ("hostname",), Level.SECURE: ("nexthop", "dot-nexthop")}


def _with_names(policy: Policy, match: tuple[str, ...], host: str, next_hop: str) -> Policy:
    """`policy` with the names that this host must show."""
    default = _DEFAULT_MATCH.get(policy.level)
    if default is None:
        return policy
    names = []
    for word in match or default:
        name = {"hostname": host, "nexthop": next_hop, "dot-nexthop": f".{next_hop}"}.get(word, word)
        if name not in ("", "."):
            names.append(name)
    return Policy(
        policy.level,
        policy.origin,
        pins=policy.pins,
        names=tuple(names),
        anchors=policy.anchors,
        min_version=policy.min_version,
        ciphers=policy.ciphers,
        broken=policy.broken,
        skip=policy.skip,
        why=policy.why,
    )
