"""What `qmtls check` says of control/authroutes: logins that no relay will ever be told. Pure, like describe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from qmtls.control.findings import Finding, FindingLevel
from qmtls.control.settings import Settings
from qmtls.delivery.demands import line_key, policy_for, unsafe_login
from qmtls.delivery.plan import NextHop, next_hop
from qmtls.smtp.login import Login
from qmtls.tls.demand import UNVERIFIED, Origin, Policy
from qmtls.tls.names import is_ip
from qmtls.tls.policy import Level

MAX_SHOWN = 3  # domains that a finding names


def describe_logins(settings: Settings, now: datetime) -> Iterator[Finding]:
    """An error is: mail that waits for as long as the files are as they are."""
    for (relay, port), login in settings.logins.items():
        file, _, line = login.origin.rpartition(":")
        origin = Origin(file, int(line))
        found: dict[tuple[FindingLevel, str], list[str]] = {}
        for hop in _hops(settings, relay, port):
            policy = policy_for(hop, relay, settings, now.timestamp())
            problem = _problem(settings, login, policy, hop)
            if problem is not None:
                found.setdefault(problem, []).append(hop.domain)
        for (level, text), domains in found.items():
            yield Finding(level, origin, f"{text} (mail for {_names(domains)})")


def _hops(settings: Settings, relay: str, port: int) -> Iterator[NextHop]:
    """One for each domain that is named somewhere and whose mail goes to this relay."""
    routing = settings.routing
    names = {key.removeprefix("."): None for key in routing.routes}
    names.update({key.removeprefix("."): None for key in settings.tls.lines if not key.startswith("[")})
    names.update({name: None for name in settings.tls.pins if not is_ip(name)})
    for name in names:
        # A line for all names below one is met by the first of them.
        for domain in (name, f"any.{name}") if f".{name}" in routing.routes else (name,):
            hop = next_hop(domain, routing)
            if hop.relay == relay and port in (0, hop.port):
                yield hop


def _problem(settings: Settings, login: Login, policy: Policy, hop: NextHop) -> tuple[FindingLevel, str] | None:
    if policy.broken:
        return None  # told of the rule itself
    relay = line_key(hop)
    if login.password is None and settings.client_credentials.get(policy.identity, settings.client_credential) is None:
        mend = f"make control/clientcert.pem or control/clientcerts/{hop.relay}.pem, or name a password"
        text = f"EXTERNAL needs a certificate of ours, and none is shown to {relay}: {mend}"
        return FindingLevel.ERROR, text
    asks_dane = policy.level is Level.DANE or (policy.level in UNVERIFIED and policy.discovers)
    if asks_dane and not is_ip(hop.relay):
        mend = f"write a line `{relay} verify` (or secure, pin) into control/tlspolicy"
        rule = policy.why or policy.origin
        text = f"this login goes over verified TLS only, and {rule} verifies {relay} by TLSA records alone"
        return FindingLevel.WARNING, f"{text}: where there are none mail waits; {mend}"
    unsafe = unsafe_login(replace(policy, level=Level.MAY) if asks_dane else policy, login, hop)
    return (FindingLevel.ERROR, unsafe) if unsafe else None


def _names(domains: list[str]) -> str:
    shown = [domain or "all other domains" for domain in domains[:MAX_SHOWN]]
    more = f" and {len(domains) - MAX_SHOWN} more" if len(domains) > MAX_SHOWN else ""
    return ", ".join(shown) + more
