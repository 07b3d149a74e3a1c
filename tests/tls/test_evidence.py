"""What a rule comes to with what DNS and MTA-STS say, line by line of the precedence in docs/tls.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qmtls.tls.dane import Tlsa, Tlsas, tlsas_of
from qmtls.tls.demand import Level, Origin, Policy
from qmtls.tls.evidence import (
    NO_EVIDENCE,
    DaneEvidence,
    Evidence,
    StsEvidence,
    dane_decides,
    decided,
    raised,
    relaxed,
)
from qmtls.tls.sts import CachedPolicy, StsMode, StsPolicy

HOST = "mx.d.example"
GOOD, ODD = Tlsa(3, 1, 1, b"k" * 32), Tlsa(1, 1, 1, b"k" * 32)


def tlsas(*records: Tlsa, secure: bool = True) -> Tlsas:
    return tlsas_of(HOST, 25, records, secure=secure)


def sts(mode: StsMode, *mx: str) -> StsEvidence:
    return StsEvidence(CachedPolicy("d.example", "id1", StsPolicy(mode, 86400, mx or (HOST,)), 0.0, 0.0, 0.0))


MATCH = DaneEvidence(tlsas(GOOD, ODD), names=(HOST, "d.example"))
DANE = {
    "not asked": None,
    "nobody to ask": DaneEvidence(),
    "insecure": DaneEvidence(tlsas(GOOD, secure=False)),
    "none": DaneEvidence(tlsas()),
    "usable": MATCH,
    "usable, insecure mx": replace(MATCH, mx_secure=False, names=(HOST,)),
    "unusable": DaneEvidence(tlsas(ODD)),
    "failed": DaneEvidence(trouble="DNS: the TLSA records cannot be looked up now (SERVFAIL)"),
}
STS = {
    "not asked": None,
    "none known": StsEvidence(note="it has no record"),
    "mode none": sts(StsMode.NONE),
    "testing": sts(StsMode.TESTING),
    "enforce": sts(StsMode.ENFORCE),
    "enforce, other mx": sts(StsMode.ENFORCE, "mx.else.example"),
}
SILENT_DANE = ("not asked", "nobody to ask", "insecure", "none")
SILENT_STS = ("not asked", "none known", "mode none")

DEFAULT = Policy(Level.DANE, Origin("control/tlsdefault"), discovers=True, why="the default, dane")
RULES = {
    "default": DEFAULT,
    "default encrypt": replace(DEFAULT, level=Level.ENCRYPT),
    "default verify": replace(DEFAULT, level=Level.VERIFY, names=("d.example",)),
    "default dane-only": replace(DEFAULT, level=Level.DANE_ONLY, discovers=False),
    **{level.value: Policy(level, Origin("control/tlspolicy", 3), why="control/tlspolicy:3") for level in Level},
}


def outcome(policy: Policy) -> str:
    if policy.broken:
        return "waits"
    if policy.skip:
        return "skipped"
    return policy.level.value + (" testing" if policy.wish else "")


def expected(rule: str, dane: str, about_sts: str) -> str:
    """The page's rules, told another way than in the code."""
    if rule in ("none", "may", "encrypt", "verify", "secure", "pin"):
        return rule
    if rule in ("dane-only", "default dane-only"):
        return "dane-only" if dane == "usable" else "waits"
    if rule == "sts":
        return {"testing": "sts", "enforce": "sts", "enforce, other mx": "skipped"}.get(about_sts, "waits")
    rest = {"default": "may", "dane": "may"}.get(rule, rule.rpartition(" ")[2])
    if dane == "failed":
        return "waits"
    if dane.startswith("usable"):
        return "dane"
    if dane == "unusable":
        rest = rest if rest == "verify" else "encrypt"  # the least, whatever MTA-STS says
    else:
        assert dane in SILENT_DANE
    if about_sts in SILENT_STS:
        return rest
    return {"testing": f"{rest} testing", "enforce": "sts", "enforce, other mx": "skipped"}[about_sts]


@pytest.mark.parametrize("about_sts", STS)
@pytest.mark.parametrize("dane", DANE)
@pytest.mark.parametrize("rule", RULES)
def test_each_cell(rule: str, dane: str, about_sts: str) -> None:
    policy = decided(RULES[rule], Evidence(DANE[dane], STS[about_sts]), HOST)
    assert outcome(policy) == expected(rule, dane, about_sts)
    assert policy.origin == RULES[rule].origin
    sentence = policy.broken or policy.skip
    assert sentence.isascii() and (not sentence or ("waits" in sentence and HOST in sentence))


def test_usable_records_are_what_is_compared_and_their_base_is_asked_for() -> None:
    policy = decided(DEFAULT, Evidence(MATCH, STS["enforce"]), HOST)
    assert (policy.tlsas, policy.names, policy.server_name) == (MATCH.tlsas, (HOST, "d.example"), HOST)
    assert "_25._tcp.mx.d.example" in policy.why and "the default, dane" in policy.why


def test_an_enforced_policy_asks_for_the_host_by_the_systems_authorities() -> None:
    policy = decided(DEFAULT, Evidence(DANE["none"], STS["enforce"]), "MX.d.example.")
    assert (policy.names, policy.anchors) == ((HOST,), None)
    assert "MTA-STS policy of d.example, id id1" in policy.why


def test_a_policy_in_testing_is_kept_as_a_wish() -> None:
    policy = decided(DEFAULT, Evidence(DANE["none"], STS["testing"]), HOST)
    assert policy.level is Level.MAY and policy.wish is not None
    assert (policy.wish.level, policy.wish.names) == (Level.STS, (HOST,))


# Where only some connections meet a demand: without TLS, with any certificate, with one for the host.
STRENGTH = {"may": 0, "encrypt": 1, "verify": 2, "sts": 2, "skipped": 3, "waits": 3}


@pytest.mark.parametrize("rule", ["default", "default encrypt", "default verify", "dane"])
@pytest.mark.parametrize("about_sts", STS)
def test_unusable_records_and_a_policy_are_no_weaker_than_either(rule: str, about_sts: str) -> None:
    def strength(dane: str, about_sts: str) -> int:
        return STRENGTH[outcome(decided(RULES[rule], Evidence(DANE[dane], STS[about_sts]), HOST)).split()[0]]

    assert strength("unusable", about_sts) >= max(strength("unusable", "not asked"), strength("none", about_sts))


def test_a_policy_in_testing_leaves_the_demand_of_unusable_records() -> None:
    policy = decided(DEFAULT, Evidence(DANE["unusable"], STS["testing"]), HOST)
    assert policy.level is Level.ENCRYPT and "none can be used" in policy.why
    assert policy.wish is not None and policy.wish.level is Level.STS
    assert policy.wish.why == "MTA-STS policy of d.example, id id1 (asked for by the default, dane)"


@pytest.mark.parametrize(
    ("rule", "evidence", "words"),
    [
        ("default", Evidence(DANE["failed"]), "SERVFAIL"),
        ("default", Evidence(None, STS["enforce, other mx"]), "names only mx.else.example"),
        ("dane-only", Evidence(DANE["insecure"]), "not signed"),
        ("dane-only", Evidence(DANE["none"]), "no TLSA record at _25._tcp.mx.d.example"),
        ("dane-only", Evidence(DANE["unusable"]), "usage 1"),
        ("dane-only", Evidence(DANE["usable, insecure mx"]), "MX record that names it is not signed"),
        ("sts", Evidence(None, STS["none known"]), "it has no record"),
        ("sts", NO_EVIDENCE, "control/tlspolicy:3"),
    ],
)
def test_the_sentence_says_what_is_missing(rule: str, evidence: Evidence, words: str) -> None:
    policy = decided(RULES[rule], evidence, HOST)
    assert words in (policy.broken or policy.skip)


def test_nobody_asks_for_a_policy_where_dane_decides() -> None:
    decides = {name: dane_decides(DEFAULT, dane) for name, dane in DANE.items() if dane is not None}
    assert {name for name, yes in decides.items() if yes} == {"usable", "usable, insecure mx", "failed"}
    assert not dane_decides(RULES["sts"], MATCH)


# ---------------------------------------------------------------- what a message says


@pytest.mark.parametrize("rule", RULES)
def test_tls_required_no_gives_up_evidence_and_no_rule(rule: str) -> None:
    policy = RULES[rule]
    loose = relaxed(policy)
    if not policy.discovers:
        assert loose is policy
        return
    everything = Evidence(MATCH, STS["enforce"])
    assert outcome(decided(loose, everything, HOST)) == {"dane": "may"}.get(policy.level.value, policy.level.value)
    assert not loose.asks_dane and not loose.asks_sts
    assert "TLS-Required: no" in loose.why


def test_a_broken_rule_is_not_loosened() -> None:
    broken = replace(DEFAULT, broken="cannot be used")
    assert relaxed(broken) is broken and decided(broken, NO_EVIDENCE, HOST) is broken


@pytest.mark.parametrize(
    ("dane", "about_sts", "level", "names"),
    [
        ("usable", "not asked", Level.DANE, (HOST, "d.example")),
        ("unusable", "not asked", Level.SECURE, ("d.example", ".d.example")),
        ("unusable", "enforce", Level.STS, (HOST,)),
        ("unusable", "testing", Level.STS, (HOST,)),
        ("none", "enforce", Level.STS, (HOST,)),
        ("none", "testing", Level.STS, (HOST,)),
        ("none", "none known", Level.SECURE, ("d.example", ".d.example")),
    ],
)
def test_requiretls_is_met_by_dane_and_sts(dane: str, about_sts: str, level: Level, names: tuple[str, ...]) -> None:
    policy = raised(decided(DEFAULT, Evidence(DANE[dane], STS[about_sts]), HOST), "d.example", HOST)
    assert (policy.level, policy.names) == (level, names)


def test_a_signed_mx_record_makes_the_hosts_name_good_enough() -> None:
    policy = decided(DEFAULT, Evidence(DANE["none"]), HOST)
    assert raised(policy, "d.example", HOST, mx_secure=True).names == ("d.example", ".d.example", HOST)
    assert raised(policy, "d.example", "relay.x", route="[relay.x]:25", mx_secure=True).names == (
        "relay.x",
        ".relay.x",
    )
