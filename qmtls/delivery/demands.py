"""Which TLS the host of a next hop must show: the rule for it, and what a message and its route add to the demand.

Pure: the rules and the time are arguments. What DNS and MTA-STS say comes in between (qmtls.tls.evidence).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from qmtls.delivery.plan import NextHop
from qmtls.delivery.routes import Scheme
from qmtls.smtp.login import Login, Logins, login_for
from qmtls.tls.demand import UNVERIFIED
from qmtls.tls.evidence import raised, relaxed
from qmtls.tls.names import canonical
from qmtls.tls.policy import Level, Origin, Policy, PolicyRules, find_policy

# What goes through a socket of this host travels no network.
ON_THIS_HOST = Policy(Level.NONE, Origin("control/smtproutes"), why="a socket of this host (control/smtproutes)")


class Rules(Protocol):
    """The part of the settings that is needed here."""

    @property
    def tls(self) -> PolicyRules: ...
    @property
    def logins(self) -> Logins: ...


def policy_for(next_hop: NextHop, host: str, rules: Rules, now: float) -> Policy:
    """The rule for one host of a next hop ("" if it has no name), before any evidence. `now` in Unix seconds."""
    if next_hop.is_socket:
        return ON_THIS_HOST
    today = datetime.fromtimestamp(now, UTC).date() if rules.tls.dated else None
    policy = find_policy(rules.tls, next_hop.domain, canonical(host), route=route_of(next_hop), today=today)
    # A login is a rule of ours: it is never said to whoever answers, whatever the message says.
    return relaxed(policy) if next_hop.tls_optional and login_of(next_hop, rules) is None else policy


def demand_for(policy: Policy, next_hop: NextHop, host: str, *, mx_secure: bool) -> Policy:
    """A decided `policy` as this next hop needs it: smtps: has no plaintext, and REQUIRETLS wants the host verified."""
    if next_hop.scheme is Scheme.SMTPS and policy.level in (Level.NONE, Level.MAY):
        # There is no plaintext on that port to fall back to.
        why = f"smtps: in control/smtproutes ({policy.why or policy.origin})"
        policy = replace(policy, level=Level.ENCRYPT, why=why)
    if not next_hop.requiretls:
        return policy
    return raised(policy, next_hop.domain, canonical(host), route=route_of(next_hop), mx_secure=mx_secure)


def route_of(next_hop: NextHop) -> str:
    """ "[relay]:port" where smtproutes chose the relay, else ""."""
    return f"[{next_hop.relay}]:{next_hop.port}" if next_hop.relay else ""


def line_key(next_hop: NextHop) -> str:
    """What a line of control/tlspolicy for it would begin with."""
    return route_of(next_hop) or next_hop.domain


def login_of(next_hop: NextHop, rules: Rules) -> Login | None:
    """The line of control/authroutes that is for it."""
    return login_for(rules.logins, next_hop.relay, next_hop.port) if next_hop.relay else None


def login_words(login: Login) -> str:
    """For people, without the password."""
    who = f"as {login.user}" if login.user else "as whoever our certificate names"
    return f"{who} ({login.origin}), once TLS has verified the relay"


def unsafe_login(policy: Policy, login: Login, next_hop: NextHop) -> str:
    """Why `login` is not said under this demand, and what would help; "" if it is. What does not say who the relay is
    would let the password go to whoever answers."""
    if policy.level not in UNVERIFIED:
        return ""
    relay = line_key(next_hop)
    return (
        f"the login of {login.origin} for {relay} goes over verified TLS only, and {policy.why or policy.origin} does "
        f"not say who the relay is; write a line `{relay} verify` (or secure, dane-only, pin) into control/tlspolicy; "
        "mail waits until then"
    )
