"""Pin files against what DNS and MTA-STS say: `qmtls check --dns`. Only what is certain is told; what cannot be looked
up now is a note.

A pin for a host that no MX record names is used for nothing, and a pin that the host's own TLSA records contradict will
hold mail back as soon as the host's administrator does what he published.
"""

from __future__ import annotations

from collections.abc import Sequence

from qmtls.control.findings import Finding, FindingLevel
from qmtls.control.settings import Settings
from qmtls.net.danelookup import tlsas_of_host
from qmtls.net.resolver import DnsTrouble, NoSuchName, Resolver
from qmtls.net.targets import SMTP_PORT
from qmtls.net.witness import Policies
from qmtls.tls.dane import OWN_KEY, PUBLIC_KEY, Demand, Tlsas
from qmtls.tls.names import canonical, is_ip
from qmtls.tls.policy import PinFile

SHA256 = 1  # matching type

MAX_DOMAINS = 200  # whose MX records are asked for to find out whether one names a host


async def cross_check(settings: Settings, resolver: Resolver, policies: Policies) -> list[Finding]:
    """Findings about each pin file that can be used."""
    relays = {canonical(route.relay) for route in settings.routing.routes.values()}
    domains = [key for key in settings.tls.lines if not key.startswith((".", "["))][:MAX_DOMAINS]
    found: list[Finding] = []
    for pin in sorted(settings.tls.pins.values(), key=lambda pin: pin.name):
        if pin.problem or is_ip(pin.name):
            continue
        try:
            found += await _pin(pin, resolver, policies, [] if pin.name in relays else domains, pin.name in relays)
        except DnsTrouble as trouble:
            found.append(Finding(FindingLevel.NOTE, pin.origin, f"cannot be compared with DNS now: {trouble}"))
    return found


async def _pin(
    pin: PinFile, resolver: Resolver, policies: Policies, domains: Sequence[str], relay: bool
) -> list[Finding]:
    try:
        hosts = [host for _, host in await resolver.mx(pin.name) if host]
    except NoSuchName:
        text = f"the name {pin.name} does not exist: this pin is used for nothing; remove it, or mend its name"
        return [Finding(FindingLevel.WARNING, pin.origin, text)]
    found = []
    if hosts:
        policy = await policies.policy(pin.name)
        others = [host for host in hosts if policy is not None and policy.mx and not policy.covers(host)]
        if others:
            text = (
                f"pins {pin.name}, whose MTA-STS policy does not name its MX host {', '.join(others)}: ask whose it is"
            )
            found.append(Finding(FindingLevel.WARNING, pin.origin, text))
    elif not relay:
        found += await _unnamed(pin, resolver, domains)
    for host in hosts or [pin.name]:
        tlsas = await tlsas_of_host(resolver, await resolver.host(host), SMTP_PORT)
        if _contradicts(pin, tlsas):
            text = f"pins none of the keys in the TLSA records at {tlsas.owner}: mail will wait once {host} shows them"
            found.append(Finding(FindingLevel.WARNING, pin.origin, f"{text}; ask its administrator"))
    return found


async def _unnamed(pin: PinFile, resolver: Resolver, domains: Sequence[str]) -> list[Finding]:
    """It has no MX records, so it is meant as a host: somebody's MX record should name it."""
    asked = list(dict.fromkeys([*_parents(pin.name), *domains]))
    for domain in asked:
        try:
            if any(canonical(host) == pin.name for _, host in await resolver.mx(domain)):
                return []
        except (NoSuchName, DnsTrouble):
            continue
    if (await resolver.host(pin.name)).addresses:
        shown = ", ".join(asked[:3]) + (", ..." if len(asked) > 3 else "")
        text = (
            f"no MX record of {shown} names {pin.name}: this pin is used only for mail to recipients at that very name"
        )
        return [Finding(FindingLevel.WARNING, pin.origin, f"{text}; look whether its domain has another host now")]
    text = (
        f"{pin.name} has neither MX records nor an address: this pin is used for nothing; remove it, or mend its name"
    )
    return [Finding(FindingLevel.WARNING, pin.origin, text)]


def _parents(name: str) -> list[str]:
    """The domains above a host, but no top-level one."""
    labels = name.split(".")
    return [".".join(labels[n:]) for n in range(1, len(labels) - 1)]


def _contradicts(pin: PinFile, tlsas: Tlsas) -> bool:
    """True if every usable record names a key, by its SHA-256, and none of them is pinned. Else nobody can tell."""
    if tlsas.demand is not Demand.MATCH or pin.pins.anchors:
        return False
    by_key = [r for r in tlsas.usable if (r.usage, r.selector, r.matching) == (OWN_KEY, PUBLIC_KEY, SHA256)]
    return len(by_key) == len(tlsas.usable) and not any(record.data in pin.pins.keys for record in by_key)
