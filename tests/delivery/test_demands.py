"""Rules for the hosts of a next hop, and what routes and messages add to them: no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pytest

from qmtls.delivery.demands import demand_for, line_key, login_of, policy_for, unsafe_login
from qmtls.delivery.plan import NextHop
from qmtls.delivery.routes import Scheme
from qmtls.smtp.login import Login, Logins
from qmtls.tls.policy import Level, Origin, Policy, PolicyLine, PolicyRules

DAY = datetime(2026, 11, 22, 12, tzinfo=UTC)
DEFAULT = Policy(Level.DANE, Origin("control/tlsdefault"), discovers=True)
LOGIN = Login("qmtls", "secret", "control/authroutes:1")


@dataclass(frozen=True)
class Settings:
    tls: PolicyRules
    logins: Logins = field(default_factory=dict)


def line(domain: str, level: Level, until: date | None = None) -> PolicyLine:
    return PolicyLine(domain, Policy(level, Origin("control/tlspolicy", 1), why=f"{domain} {level.value}"), until=until)


def settings(*lines: PolicyLine, logins: Logins | None = None) -> Settings:
    return Settings(PolicyRules(DEFAULT, lines={one.domain: one for one in lines}), logins or {})


RELAYED = NextHop("example.org", "relay.test", 587)


def test_a_relay_is_found_by_its_domain_then_by_its_route() -> None:
    routed = settings(line("[relay.test]:587", Level.SECURE))
    assert policy_for(RELAYED, "relay.test", routed, 0.0).level is Level.SECURE
    both = settings(line("[relay.test]:587", Level.SECURE), line("example.org", Level.ENCRYPT))
    assert policy_for(RELAYED, "relay.test", both, 0.0).level is Level.ENCRYPT
    assert policy_for(NextHop("example.org"), "mx.example.org", routed, 0.0).level is Level.DANE
    assert (line_key(RELAYED), line_key(NextHop("example.org"))) == ("[relay.test]:587", "example.org")


def test_the_time_that_is_passed_in_ends_a_line() -> None:
    rules = settings(line("example.org", Level.MAY, until=date(2026, 11, 22)))
    today, tomorrow = DAY.timestamp(), DAY.timestamp() + 86_400
    assert policy_for(NextHop("example.org"), "MX.Example.Org.", rules, today).level is Level.MAY
    assert policy_for(NextHop("example.org"), "mx.example.org", rules, tomorrow).level is Level.DANE


def test_tls_required_no_spares_evidence_but_never_a_login() -> None:
    hop = NextHop("example.org", "relay.test", 587, tls_optional=True)
    assert policy_for(hop, "relay.test", settings(), 0.0).level is Level.MAY
    with_login = settings(logins={("relay.test", 0): LOGIN})
    assert policy_for(hop, "relay.test", with_login, 0.0).level is Level.DANE
    assert login_of(hop, with_login) is LOGIN
    assert login_of(NextHop("relay.test"), with_login) is None


def test_a_socket_of_this_host_needs_no_tls() -> None:
    hop = NextHop("example.org", "/run/lmtp", 0, scheme=Scheme.LMTP)
    assert policy_for(hop, "", settings(line("example.org", Level.SECURE)), 0.0).level is Level.NONE


@pytest.mark.parametrize("level", [Level.NONE, Level.MAY, Level.ENCRYPT, Level.SECURE])
def test_smtps_has_no_plaintext(level: Level) -> None:
    hop = NextHop("example.org", "relay.test", 465, scheme=Scheme.SMTPS)
    demand = demand_for(Policy(level, Origin("control/tlspolicy", 1)), hop, "relay.test", mx_secure=False)
    assert demand.level is (Level.ENCRYPT if level in (Level.NONE, Level.MAY) else level)
    assert ("smtps:" in demand.why) == (level in (Level.NONE, Level.MAY))


def test_requiretls_wants_the_relay_or_the_domain_verified() -> None:
    may = Policy(Level.MAY, Origin("control/tlsdefault"))
    relay = demand_for(may, NextHop("example.org", "relay.test", 25, requiretls=True), "relay.test", mx_secure=False)
    assert (relay.level, relay.names) == (Level.SECURE, ("relay.test", ".relay.test"))
    mx = demand_for(may, NextHop("example.org", requiretls=True), "mx.test", mx_secure=True)
    assert mx.names == ("example.org", ".example.org", "mx.test")
    assert demand_for(may, NextHop("example.org"), "mx.test", mx_secure=True) is may


def test_a_login_wants_to_know_who_the_relay_is() -> None:
    encrypt = Policy(Level.ENCRYPT, Origin("control/tlspolicy", 3))
    sentence = unsafe_login(encrypt, LOGIN, RELAYED)
    assert "control/authroutes:1 for [relay.test]:587" in sentence
    assert "write a line `[relay.test]:587 verify`" in sentence
    assert not unsafe_login(Policy(Level.PIN, Origin("control/tlspolicy", 3)), LOGIN, RELAYED)
