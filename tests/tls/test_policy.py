from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from qmtls.tls.evidence import raised
from qmtls.tls.pin import PinSet, read_pin_file
from qmtls.tls.policy import (
    Level,
    Origin,
    PinFile,
    Policy,
    PolicyLine,
    PolicyRules,
    find_policy,
    pinned_hosts,
    without_line,
)
from tests.tls.pki import certificate, host, pem

LEAF, CA = read_pin_file(pem(host("mx.example"))), read_pin_file(pem(certificate("ca", ca=True)))
DEFAULT = Policy(Level.MAY, Origin("control/tlsdefault"), why="default")


def pin(name: str, pins: PinSet = LEAF, problem: str = "") -> PinFile:
    return PinFile(name, Origin(f"control/{name}.pem"), pins, problem)


def line(key: str, level: Level = Level.SECURE, *match: str, number: int = 1) -> PolicyLine:
    return PolicyLine(key, Policy(level, Origin("control/tlspolicy", number), why=f"line {key}"), match)


RULES = PolicyRules(
    default=DEFAULT,
    pins={p.name: p for p in (pin("pinned.example"), pin("mx.host.example"), pin("mx.no.example"))},
    lines={
        p.domain: p
        for p in (
            line("pinned.example"),
            line("exact.example"),
            line(".example.net"),
            line(".sub.example.net", Level.ENCRYPT),
            line("[relay.example]:587"),
            line("[other.example]"),
            line("lined.example", Level.ENCRYPT),
        )
    },
    exhaustive=Origin("control/tlshosts/exhaustivelist"),
    no_tls={n: Origin(f"control/notlshosts/{n}") for n in ("mx.no.example", "mx.plain.example")},
)


@pytest.mark.parametrize(
    ("domain", "mx", "route", "level", "origin"),
    [
        ("pinned.example", "mx.host.example", "", Level.PIN, "control/pinned.example.pem"),
        ("exact.example", "mx.host.example", "", Level.PIN, "control/mx.host.example.pem"),
        ("Exact.Example.", "MX.Host.Example.", "", Level.PIN, "control/mx.host.example.pem"),
        ("exact.example", "mx.plain.example", "", Level.SECURE, "control/tlspolicy:1"),
        ("a.example.net", "mx.plain.example", "", Level.SECURE, "control/tlspolicy:1"),
        ("example.net", "mx.plain.example", "", Level.NONE, "control/notlshosts/mx.plain.example"),
        ("a.b.sub.example.net", "mx", "", Level.ENCRYPT, "control/tlspolicy:1"),
        ("sub.example.net", "mx", "", Level.SECURE, "control/tlspolicy:1"),
        ("routed.example", "relay.example", "[relay.example]:587", Level.SECURE, "control/tlspolicy:1"),
        ("routed.example", "relay.example", "[relay.example]:25", Level.NONE, "control/tlshosts/exhaustivelist"),
        ("routed.example", "other.example", "[other.example]:25", Level.SECURE, "control/tlspolicy:1"),
        ("lined.example", "relay.example", "[relay.example]:587", Level.ENCRYPT, "control/tlspolicy:1"),
        ("x.example", "mx.no.example", "", Level.PIN, "control/mx.no.example.pem"),
        ("x.example", "mx.unlisted.example", "", Level.NONE, "control/tlshosts/exhaustivelist"),
        ("x.example", "192.0.2.1", "", Level.MAY, "control/tlsdefault"),
        ("x.example", "2001:db8::1", "", Level.MAY, "control/tlsdefault"),
        ("[192.0.2.1]", "", "", Level.MAY, "control/tlsdefault"),
    ],
)
def test_the_first_match_counts(domain: str, mx: str, route: str, level: Level, origin: str) -> None:
    policy = find_policy(RULES, domain, mx, route=route)
    assert (policy.level, str(policy.origin)) == (level, origin)


def test_the_default_applies_when_nothing_else_does() -> None:
    assert find_policy(PolicyRules(DEFAULT), "a.example", "mx.a.example") is DEFAULT
    assert find_policy(PolicyRules(DEFAULT), "", "") is DEFAULT


@pytest.mark.parametrize("name", ["../x", "a/b", "a\0", ".pinned.example", "", "pinned.example/", "böse/.example"])
def test_odd_names_from_dns_match_no_pin(name: str) -> None:
    rules = PolicyRules(DEFAULT, pins={"pinned.example": pin("pinned.example")})
    assert find_policy(rules, "x.example", name).level is Level.MAY


def test_a_pin_of_a_domain_asks_for_the_domain_or_a_name_below_it_and_one_of_a_host_for_the_host() -> None:
    rules = PolicyRules(DEFAULT, pins={"a.example": pin("a.example", CA), "mx.b.example": pin("mx.b.example", CA)})
    assert find_policy(rules, "a.example", "mx.elsewhere.example").names == ("a.example", ".a.example")
    assert find_policy(rules, "b.example", "mx.b.example").names == ("mx.b.example",)


@pytest.mark.parametrize("broken", [pin("a.example", problem="it holds no certificate"), pin("a.example", PinSet())])
def test_a_pin_file_that_cannot_be_used_is_a_broken_policy_that_says_so(broken: PinFile) -> None:
    policy = find_policy(PolicyRules(DEFAULT, pins={"a.example": broken}), "a.example", "mx.a.example")
    assert policy.level is Level.PIN
    assert policy.broken.startswith("pin file control/a.example.pem cannot be used")


@pytest.mark.parametrize(
    ("level", "match", "route", "names"),
    [
        (Level.VERIFY, (), "", ("mx.b.example",)),
        (Level.SECURE, (), "", ("a.example", ".a.example")),
        (Level.SECURE, ("hostname", ".c.example"), "", ("mx.b.example", ".c.example")),
        (Level.SECURE, ("nexthop",), "[mx.b.example]:25", ("mx.b.example",)),
        (Level.VERIFY, ("dot-nexthop",), "", (".a.example",)),
        (Level.ENCRYPT, (), "", ()),
    ],
)
def test_a_line_names_what_the_host_must_show(
    level: Level, match: tuple[str, ...], route: str, names: tuple[str, ...]
) -> None:
    rules = PolicyRules(DEFAULT, lines={"a.example": line("a.example", level, *match)})
    policy = find_policy(rules, "a.example", "mx.b.example", route=route)
    assert policy.names == names
    assert policy.why == "line a.example"


def test_a_default_that_verifies_gets_its_names_too() -> None:
    rules = PolicyRules(Policy(Level.VERIFY, Origin("control/tlsdefault", 1)), default_match=("hostname", "nexthop"))
    assert find_policy(rules, "a.example", "mx.b.example").names == ("mx.b.example", "a.example")
    assert find_policy(rules, "a.example", "").names == ("a.example",)


def test_where_one_host_is_pinned_the_pinned_ones_are_known() -> None:
    assert pinned_hosts(RULES, ["a.example", "mx.host.example"]) == {"mx.host.example"}
    assert pinned_hosts(RULES, ["a.example", "MX.Host.Example."]) == {"MX.Host.Example."}
    assert pinned_hosts(RULES, ["a.example"]) == frozenset()


@pytest.mark.parametrize("level", [Level.NONE, Level.MAY, Level.ENCRYPT])
@pytest.mark.parametrize(
    ("route", "names"),
    [("", ("d.example", ".d.example")), ("[mx.h.example]:25", ("mx.h.example", ".mx.h.example"))],
)
def test_a_message_may_raise_the_demand(level: Level, route: str, names: tuple[str, ...]) -> None:
    """REQUIRETLS wants to know who the host is; which relay we chose we know ourselves."""
    policy = raised(Policy(level, Origin("f", 3), min_version="TLSv1.3"), "D.example", "MX.h.example", route=route)
    assert (policy.level, policy.names, policy.min_version) == (Level.SECURE, names, "TLSv1.3")
    assert "REQUIRETLS" in policy.why and "f:3" in policy.why


@pytest.mark.parametrize("level", [Level.VERIFY, Level.SECURE, Level.PIN])
def test_a_demand_that_knows_the_host_is_high_enough(level: Level) -> None:
    policy = Policy(level, Origin("f"), names=("mx.h.example",))
    assert raised(policy, "d.example", "mx.h.example") is policy


def test_a_broken_rule_stays_broken() -> None:
    policy = Policy(Level.MAY, Origin("f"), broken="cannot be used")
    assert raised(policy, "d.example", "mx.h.example") is policy


# ---------------------------------------------------------------- lines whose time is over

DAY, NEXT = date(2026, 6, 1), date(2026, 6, 2)


def until(key: str, level: Level, number: int = 1) -> PolicyLine:
    return replace(line(key, level, number=number), until=DAY)


def ruled(*lines: PolicyLine, default: Level = Level.MAY, **more: object) -> PolicyRules:
    rule = Policy(default, Origin("control/tlsdefault"))
    return PolicyRules(rule, lines={each.domain: each for each in lines}, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "level"),
    [
        (ruled(until("a.example", Level.NONE)), Level.MAY),
        (ruled(until("a.example", Level.MAY)), Level.MAY),
        (ruled(until("a.example", Level.MAY), default=Level.DANE), Level.DANE),
        (ruled(until("a.example", Level.MAY), default=Level.NONE), Level.MAY),
        (ruled(until("a.example", Level.SECURE)), Level.SECURE),
        (ruled(until("a.example", Level.ENCRYPT), default=Level.DANE), Level.ENCRYPT),
        (ruled(until("a.example", Level.MAY), line(".example", Level.ENCRYPT, number=2)), Level.ENCRYPT),
        (ruled(until("a.example", Level.ENCRYPT), line(".example", Level.MAY, number=2)), Level.ENCRYPT),
        (ruled(until("a.example", Level.NONE), until(".example", Level.MAY, 2), default=Level.ENCRYPT), Level.ENCRYPT),
        (ruled(until("a.example", Level.MAY), until(".example", Level.ENCRYPT, 2)), Level.ENCRYPT),
        (ruled(until("a.example", Level.MAY), exhaustive=Origin("e")), Level.MAY),
        (ruled(until("a.example", Level.MAY), no_tls={"mx.b.example": Origin("n")}), Level.MAY),
    ],
)
def test_a_passed_line_ends_only_if_nothing_becomes_weaker(rules: PolicyRules, level: Level) -> None:
    first = rules.lines["a.example"].policy.level
    assert rules.dated
    assert find_policy(rules, "a.example", "mx.b.example", today=DAY).level is first
    assert find_policy(rules, "a.example", "mx.b.example").level is first
    assert find_policy(rules, "a.example", "mx.b.example", today=NEXT).level is level


def test_what_applies_after_it_can_be_asked() -> None:
    rules = ruled(
        until("a.example", Level.MAY), until(".example", Level.ENCRYPT, 2), until("[r.example]:26", Level.NONE)
    )
    ends = without_line(rules, rules.lines["a.example"], NEXT)
    assert ends is not None and ends.level is Level.ENCRYPT
    assert without_line(rules, rules.lines[".example"], NEXT) is None
    ends = without_line(rules, rules.lines["[r.example]:26"], NEXT)
    assert ends is not None and ends.level is Level.MAY


def test_rules_without_dates_need_no_day() -> None:
    assert not RULES.dated


def test_whose_certificate_we_show() -> None:
    rules = PolicyRules(DEFAULT, identities=frozenset({"a.example", "mx.b.example"}))
    assert find_policy(rules, "A.example", "mx.b.example").identity == "a.example"
    assert find_policy(rules, "b.example", "MX.b.example").identity == "mx.b.example"
    assert find_policy(rules, "c.example", "mx.c.example") is DEFAULT
