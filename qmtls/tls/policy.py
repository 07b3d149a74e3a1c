"""Which TLS a destination demands: the rules as data, and the first match as a pure function.

Order (docs/tls.md): pin file of the recipient's domain, pin file of the host, `tlspolicy` (the domain, its parents,
then the route), `notlshosts` and `exhaustivelist`, then `tlsdefault`. What DNS and MTA-STS say of the host comes in
later, where the rule lets it (qmtls.tls.evidence). Look-ups are in dictionaries only, so a name from DNS can never
become a path. The day is an argument: a line whose `until=` has passed ends, unless that would weaken what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from cryptography import x509

from qmtls.lookup import parents
from qmtls.tls.demand import Level as Level
from qmtls.tls.demand import Origin as Origin
from qmtls.tls.demand import Policy as Policy
from qmtls.tls.names import canonical, is_ip
from qmtls.tls.pin import PinSet as PinSet
from qmtls.tls.strength import at_least


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
    until: date | None = None  # the last day on which it holds whatever applies without it
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
    identities: frozenset[str] = frozenset()  # names that have a file in clientcerts/
    dated: bool = field(init=False, compare=False)  # some line has an `until`: the day matters
    domain_pins: Mapping[str, Policy] = field(init=False, repr=False, compare=False)  # `pins` as demands
    host_pins: Mapping[str, Policy] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_domain = {name: _pin_policy(pin, (name, f".{name}")) for name, pin in self.pins.items()}
        by_host = {name: _pin_policy(pin, (name,)) for name, pin in self.pins.items()}
        object.__setattr__(self, "dated", any(line.until is not None for line in self.lines.values()))
        object.__setattr__(self, "domain_pins", by_domain)
        object.__setattr__(self, "host_pins", by_host)


def find_policy(rules: PolicyRules, domain: str, host: str, *, route: str = "", today: date | None = None) -> Policy:
    """The rule for `host` and mail to recipients in `domain`; always one, the first that matches.

    `host` is the MX host or relay name, "" if none is known; `route` is "[relay]:port" when smtproutes chose the relay.
    Without `today` every line holds.
    """
    domain, host = canonical(domain), canonical(host)
    found = rules.domain_pins.get(domain) or (rules.host_pins.get(host) if host else None)
    if found is None:
        keys = _line_keys(domain, canonical(route)) if rules.lines else iter(())
        # Where smtproutes chose the relay, its name is ours, not the DNS's: it is the next hop that may be verified.
        found = _unpinned(rules, keys, host, host if route else domain, today)
    if rules.identities and found.level is not Level.NONE:
        shown = next((name for name in (domain, host) if name in rules.identities), "")
        return replace(found, identity=shown) if shown else found
    return found


def _unpinned(rules: PolicyRules, keys: Iterator[str], host: str, next_hop: str, today: date | None) -> Policy:
    for key in keys:
        line = rules.lines.get(key)
        if line is not None:
            found = with_names(line.policy, line.match, host, next_hop)
            if today is None or line.until is None or today <= line.until:
                return found
            without = _unpinned(rules, keys, host, next_hop, today)
            return without if at_least(without, found) else found
    plain = _told_to_be_plain(rules, host)
    return with_names(rules.default, rules.default_match, host, next_hop) if plain is None else plain


def without_line(rules: PolicyRules, line: PolicyLine, today: date) -> Policy | None:
    """What applies once the time of `line` is over; None if that would be weaker, so that the line stays.

    For a host of which nothing is known; for a parent's line, for a name below it.
    """
    name = f"any{line.domain}" if line.domain.startswith(".") else line.domain.partition("]")[0].removeprefix("[")
    route = line.domain if line.domain.startswith("[") else ""
    keys = iter([line.domain, *_after(line.domain, route, name)])
    found = _unpinned(rules, keys, name if route else "", name, today)
    return None if found.origin == line.policy.origin else found


def _after(key: str, route: str, name: str) -> list[str]:
    keys = list(_line_keys("" if route else name, route))
    return keys[keys.index(key) + 1 :]


def pinned_hosts(rules: PolicyRules, hosts: Sequence[str]) -> frozenset[str]:
    """Those of a domain's MX hosts that have a pin file: if there are any, the others are passed over (unless the
    domain itself is pinned: its pin then holds for every host)."""
    return frozenset(host for host in hosts if canonical(host) in rules.host_pins)


def _line_keys(domain: str, route: str) -> Iterator[str]:
    if domain:
        yield domain
        yield from parents(domain)
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


def with_names(policy: Policy, match: tuple[str, ...], host: str, next_hop: str) -> Policy:
    """`policy` with the names that this host must show."""
    default = _DEFAULT_MATCH.get(policy.level)
    if default is None:
        return policy
    names = []
    for word in match or default:
        name = {"hostname": host, "nexthop": next_hop, "dot-nexthop": f".{next_hop}"}.get(word, word)
        if name not in ("", "."):
            names.append(name)
    return replace(policy, names=tuple(names))
