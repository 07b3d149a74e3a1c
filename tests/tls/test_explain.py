"""Explanations say what `find_policy` does, whatever the rules are, and every rule stands in its place."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.tls.dane import Tlsa, tlsas_of
from qmtls.tls.evidence import NO_EVIDENCE, DaneEvidence, Evidence, StsEvidence, decided
from qmtls.tls.explain import Considered, Standing, considered, dane_words, policy_words, sts_words
from qmtls.tls.pin import PinSet
from qmtls.tls.policy import Level, Origin, PinFile, Policy, PolicyLine, PolicyRules, find_policy
from qmtls.tls.sts import CachedPolicy, StsMode, StsPolicy

TODAY = date(2026, 11, 22)
NOW = 1_795_000_000.0
NAMES = ("example.org", "sub.example.org", "mx.example.org", "other.test", "mx.other.test")
KEYS = (*NAMES, ".example.org", ".org", ".sub.example.org", "[mx.other.test]:25", "[mx.other.test]")
NOON = datetime.combine(TODAY, time(12), UTC)
HERE = Origin("control/tlspolicy", 1)
KEY = PinSet(keys=frozenset({bytes(32)}))


def line(key: str, level: Level = Level.ENCRYPT, until: date | None = None, number: int = 1) -> PolicyLine:
    origin = Origin("control/tlspolicy", number)
    pins = KEY if level is Level.PIN else PinSet()
    return PolicyLine(key, Policy(level, origin, pins=pins, why=f"{origin} ({key} {level.value})"), until=until)


def pin(name: str, problem: str = "") -> PinFile:
    return PinFile(name, Origin(f"control/{name}.pem"), KEY, problem)


def default(level: Level = Level.DANE) -> Policy:
    return Policy(level, Origin("control/tlsdefault"), discovers=True, why="no rule (the default)")


dates = st.sampled_from([None, TODAY, TODAY - timedelta(1), TODAY + timedelta(1)])
all_lines = st.dictionaries(st.sampled_from(KEYS), st.tuples(st.sampled_from(Level), dates), max_size=6)


@st.composite
def all_rules(draw: st.DrawFn) -> PolicyRules:
    found = draw(all_lines)
    return PolicyRules(
        default(draw(st.sampled_from(Level))),
        pins={name: pin(name, draw(st.sampled_from(["", "it is empty"]))) for name in draw(_some_names())},
        lines={key: line(key, level, until, n) for n, (key, (level, until)) in enumerate(found.items(), 1)},
        exhaustive=draw(st.sampled_from([None, Origin("control/tlshosts/exhaustivelist")])),
        no_tls={name: Origin(f"control/notlshosts/{name}") for name in draw(_some_names())},
        identities=frozenset(draw(_some_names())),
    )


def _some_names() -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(NAMES), max_size=2)


RECORD = Tlsa(3, 1, 1, bytes(32))
ALL_DANE = (
    DaneEvidence(trouble="DNS is silent"),
    DaneEvidence(),
    DaneEvidence(tlsas_of("mx.example.org", 25, [RECORD], secure=True), ("mx.example.org",)),
    DaneEvidence(tlsas_of("mx.example.org", 25, [Tlsa(0, 0, 1, b"")], secure=True), ("mx.example.org",)),
    DaneEvidence(tlsas_of("mx.example.org", 25, [], secure=True)),
    DaneEvidence(tlsas_of("mx.example.org", 25, [RECORD], secure=False)),
)


def sts(mode: StsMode = StsMode.ENFORCE, *mx: str) -> StsEvidence:
    policy = StsPolicy(mode, 86_400, mx or ("mx.example.org",))
    return StsEvidence(CachedPolicy("example.org", "1", policy, NOW - 7200, NOW - 120, NOW))


ALL_STS = (StsEvidence(), StsEvidence(note="the policy host is down"), *(sts(mode) for mode in StsMode))


@given(
    all_rules(),
    st.sampled_from(("", *NAMES)),
    st.sampled_from(("", *NAMES, "192.0.2.1")),
    st.booleans(),
    st.one_of(st.none(), st.just(TODAY)),
    st.builds(Evidence, st.sampled_from((None, *ALL_DANE)), st.sampled_from((None, *ALL_STS))),
)
def test_it_says_what_is_done(
    rules: PolicyRules, domain: str, host: str, routed: bool, today: date | None, evidence: Evidence
) -> None:
    route = f"[{host}]:25" if routed and host else ""
    now = datetime.combine(today, time(12), UTC) if today is not None else None
    found = considered(rules, domain, host, route, evidence, now)
    rule = find_policy(rules, domain, host, route=route, today=today)
    assert found.rule == rule
    assert found.policy == decided(rule, evidence, host)
    winners = [one for one in found.rules if one.standing is Standing.WINS]
    assert len(winners) == 1
    if winners[0].what not in ("DANE", "MTA-STS"):
        assert winners[0].origin == rule.origin
    assert all(one.why for one in found.rules)
    assert found.rules[-1].what == "tlsdefault"


def standings(
    rules: PolicyRules, domain: str, host: str, route: str = "", evidence: Evidence = NO_EVIDENCE
) -> dict[str, Standing]:
    found = considered(rules, domain, host, route, evidence, NOON)
    return {f"{one.what} {one.key}".strip(): one.standing for one in found.rules}


def test_the_order_is_that_of_precedence() -> None:
    rules = PolicyRules(default(), lines={".org": line(".org")})
    assert list(standings(rules, "example.org", "mx.example.org", "[mx.example.org]:25")) == [
        "pin file of the domain example.org",
        "pin file of the host mx.example.org",
        "tlspolicy example.org",
        "tlspolicy .org",
        "tlspolicy [mx.example.org]:25",
        "tlspolicy [mx.example.org]",
        "notlshosts mx.example.org",
        "tlshosts/exhaustivelist",
        "DANE",
        "MTA-STS",
        "tlsdefault",
    ]


def test_later_rules_are_named() -> None:
    rules = PolicyRules(default(), pins={"example.org": pin("example.org")}, lines={".org": line(".org")})
    found = {
        one.what: one for one in considered(rules, "example.org", "mx.example.org").rules if one.key != "example.org"
    }
    assert found["tlspolicy"] == Considered(
        "tlspolicy",
        ".org",
        HERE,
        Standing.LATER,
        "TLS, whatever certificate; control/example.org.pem comes before it",
    )
    assert found["DANE"].why == "control/example.org.pem decides by itself"


def test_a_line_whose_time_is_over() -> None:
    over = TODAY - timedelta(1)
    stronger = PolicyRules(default(Level.ENCRYPT), lines={"example.org": line("example.org", Level.MAY, over)})
    assert standings(stronger, "example.org", "mx")["tlspolicy example.org"] is Standing.ENDED
    weaker = PolicyRules(default(Level.MAY), lines={"example.org": line("example.org", Level.ENCRYPT, over)})
    found = considered(weaker, "example.org", "mx", now=NOON)
    (won,) = [one for one in found.rules if one.standing is Standing.WINS]
    assert (
        won.why == "TLS, whatever certificate; its until=2026-11-21 has passed, but what applies without it is weaker"
    )


def test_evidence_comes_before_the_default_and_after_a_line() -> None:
    rules = PolicyRules(default())
    matching = Evidence(ALL_DANE[2])
    assert standings(rules, "example.org", "mx.example.org", evidence=matching)["tlsdefault"] is Standing.LATER
    lines = PolicyRules(default(), lines={"example.org": line("example.org", Level.DANE)})
    found = standings(lines, "example.org", "mx.example.org", evidence=matching)
    assert found["tlspolicy example.org"] is Standing.WINS
    enforced = Evidence(ALL_DANE[4], sts())
    assert standings(rules, "example.org", "mx.example.org", evidence=enforced)["MTA-STS example.org"] is Standing.WINS


@pytest.mark.parametrize(
    ("level", "about_sts", "winner"),
    [
        (Level.DANE, StsEvidence(), "DANE"),
        (Level.DANE, sts(StsMode.TESTING), "DANE"),
        (Level.DANE, sts(), "MTA-STS"),
        (Level.DANE, sts(StsMode.ENFORCE, "mx.other.test"), "MTA-STS"),
        (Level.SECURE, StsEvidence(), "tlsdefault"),
        (Level.SECURE, sts(), "MTA-STS"),
    ],
)
def test_records_that_cannot_be_used_win_only_where_nothing_asks_for_more(
    level: Level, about_sts: StsEvidence, winner: str
) -> None:
    found = considered(
        PolicyRules(default(level)), "example.org", "mx.example.org", "", Evidence(ALL_DANE[3], about_sts), NOON
    )
    assert [one.what for one in found.rules if one.standing is Standing.WINS] == [winner]
    (dane,) = [one for one in found.rules if one.what == "DANE"]
    assert "none can be used" in dane.why and "TLS at least" in dane.why
    assert dane.standing is (Standing.WINS if winner == "DANE" else Standing.ASKED)


@pytest.mark.parametrize(
    ("dane", "said"),
    [
        (DaneEvidence(trouble="x", asked=NOW - 5), "nobody can tell: x, 5 seconds ago"),
        (ALL_DANE[1], "there is nothing to ask for: the host is known by its IP address only"),
        (ALL_DANE[2], "the certificate must match 3 1 1 0000000000000000... at _25._tcp.mx.example.org"),
        (ALL_DANE[4], "no TLSA records at _25._tcp.mx.example.org (a signed answer)"),
    ],
)
def test_what_dns_said(dane: DaneEvidence, said: str) -> None:
    assert dane_words(dane, NOW) == said


def test_how_old_a_policy_is() -> None:
    assert sts_words(sts(), NOW) == (
        "policy of example.org, id 1, mode enforce, for mx.example.org, fetched 2 hours ago, its record"
        " seen 2 minutes ago, until 2026-11-19 09:06 UTC"
    )


@pytest.mark.parametrize("level", Level)
def test_every_level_has_words(level: Level) -> None:
    assert policy_words(Policy(level, HERE))
