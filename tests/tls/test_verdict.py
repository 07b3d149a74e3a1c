"""The table of docs/tls.md, cell by cell: level x what the connection showed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from qmtls.tls.dane import Tlsa, tlsas_of
from qmtls.tls.facts import TlsFacts
from qmtls.tls.fallback import NOT_OFFERED, NoTls, Trouble
from qmtls.tls.pin import PinSet, certificate_digest, key_digest, key_pin_text, read_pin_file
from qmtls.tls.policy import Level, Origin, Policy
from qmtls.tls.verdict import judge
from tests.tls.pki import NOW, certificate, facts, host, pem, san_entries

HOST = "mx.example.org"
GOOD, OTHER = host(HOST), host(HOST, key_name="other")
WRONG_NAME, NO_SAN = host("mail.example.net"), certificate(HOST, key_name="host")
MALFORMED = certificate(HOST, key_name="host", san_der=b"\x30\x03\x82\x05a")
EXPIRED = certificate(HOST, sans=[x509.DNSName(HOST)], until=NOW.replace(year=2020), key_name="host")
SELF = certificate("self", ca=True)
ISSUER = certificate("issuer", ca=True)

WHY = "control/tlspolicy:3 (example.org)"
RULE = Origin("control/tlspolicy", 3)
POLICIES = {level.value: Policy(level, RULE, names=(HOST,), why=WHY) for level in Level}
EE = tlsas_of(HOST, 25, [Tlsa(3, 1, 1, key_digest(GOOD))], secure=True)
POLICIES["dane"] = replace(POLICIES["dane"], tlsas=EE)
POLICIES["dane-only"] = replace(POLICIES["dane-only"], tlsas=EE)
POLICIES["pin"] = replace(POLICIES["pin"], pins=PinSet(keys=frozenset({key_digest(GOOD)})), names=())
POLICIES["pin-cert"] = replace(POLICIES["pin"], pins=PinSet(certificates=frozenset({certificate_digest(GOOD)})))
POLICIES["pin-ca"] = replace(POLICIES["pin"], pins=read_pin_file(pem(ISSUER)), names=(HOST,))
POLICIES["pin-self"] = replace(POLICIES["pin"], pins=read_pin_file(pem(SELF)), names=(HOST,))

NO_TLS = {
    "not offered": NOT_OFFERED,
    "refused": NoTls(Trouble.REFUSED, "STARTTLS was answered 454 4.7.0 TLS not available"),
    "cut": NoTls(Trouble.CUT, "timed out at STARTTLS"),
    "handshake": NoTls(Trouble.HANDSHAKE, "the TLS handshake failed: it timed out"),
    "left": NoTls(Trouble.AFTERWARDS, "the host ended the session right after the TLS handshake: closed"),
}
SHOWN: dict[str, TlsFacts | NoTls] = {
    **NO_TLS,
    "no certificate": facts(None),
    "unknown issuer": facts(GOOD, 20),
    "unchecked": facts(GOOD, verified=False),
    "expired": facts(EXPIRED, 10),
    "wrong name": facts(WRONG_NAME),
    "no san": facts(NO_SAN),
    "malformed san": facts(MALFORMED),
    "other key": facts(OTHER),
    "other key, bad chain": facts(OTHER, 20),
    "self-signed": facts(SELF, 18),
    "good": facts(GOOD),
}
# Which of SHOWN each policy lets through. Whatever is not here defers.
SENDS = {
    "none": set(SHOWN),
    "may": set(SHOWN),  # after NO_TLS in plaintext
    "encrypt": set(SHOWN) - set(NO_TLS),
    "verify": {"good", "other key"},
    "secure": {"good", "other key"},
    "sts": {"good", "other key"},
    "dane": {"unknown issuer", "unchecked", "expired", "wrong name", "no san", "malformed san", "good"},
    "dane-only": {"unknown issuer", "unchecked", "expired", "wrong name", "no san", "malformed san", "good"},
    # All these but the last two show the pinned key, so neither chain nor name nor date is asked for.
    "pin": {"unknown issuer", "unchecked", "expired", "wrong name", "no san", "malformed san", "good"},
    "pin-cert": {"unknown issuer", "unchecked", "good"},
    "pin-ca": {"good", "other key"},
    "pin-self": {"self-signed", "good", "other key"},
}


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("policy", POLICIES)
def test_each_cell(policy: str, shown: str) -> None:
    rule = POLICIES[policy]
    verdict = judge(rule, SHOWN[shown], HOST)
    assert verdict.ok is (shown in SENDS[policy]), verdict.sentence
    # Whatever the verdict: one printable sentence that names the host and the rule with its line.
    assert HOST in verdict.sentence and WHY in verdict.sentence
    assert verdict.sentence.isascii() and verdict.sentence.isprintable()
    assert verdict.status == ("" if verdict.ok else "4.7.4" if shown in ("not offered", "refused", "cut") else "4.7.5")
    assert verdict.summary
    if not verdict.ok:
        assert verdict.summary.endswith("failed") and "waits" in verdict.sentence
    if shown in NO_TLS:
        assert str(NO_TLS[shown]) in verdict.sentence


@pytest.mark.parametrize(
    ("policy", "shown", "summary"),
    [
        ("may", "not offered", "plain"),
        ("may", "good", "may (unverified)"),
        ("encrypt", "unknown issuer", "encrypt (unverified)"),
        ("verify", "good", "verify"),
        ("secure", "good", "secure"),
        ("secure", "expired", "secure failed"),
        ("pin", "good", "pin"),
        ("pin-ca", "good", "pin (CA)"),
        ("pin-self", "self-signed", "pin"),
    ],
)
def test_the_summary_for_the_log(policy: str, shown: str, summary: str) -> None:
    assert judge(POLICIES[policy], SHOWN[shown], HOST).summary == summary


@pytest.mark.parametrize(
    ("policy", "shown", "words"),
    [
        ("verify", "expired", "expired"),
        ("verify", "unknown issuer", "unknown issuer"),
        ("verify", "unchecked", "not checked"),
        ("verify", "wrong name", "mail.example.net"),
        ("verify", "no san", "no usable name"),
        ("verify", "no certificate", "showed no certificate"),
        ("pin", "other key", key_pin_text(OTHER)),
        ("pin", "other key", "add it to control/tlspolicy:3"),
        ("pin-ca", "wrong name", "mail.example.net"),
        ("pin-ca", "other key, bad chain", "unknown issuer"),
        ("pin-ca", "other key, bad chain", key_pin_text(OTHER)),
    ],
)
def test_the_sentence_says_what_was_seen(policy: str, shown: str, words: str) -> None:
    assert words in judge(POLICIES[policy], SHOWN[shown], HOST).sentence


def test_the_most_telling_complaint_is_shown() -> None:
    assert "(revoked)" in judge(POLICIES["verify"], facts(GOOD, 10, 23, 20), HOST).sentence
    assert "(error 999)" in judge(POLICIES["verify"], facts(GOOD, 999), HOST).sentence


@pytest.mark.parametrize("shown", SHOWN)
def test_a_broken_rule_defers_whatever_is_shown(shown: str) -> None:
    broken = replace(POLICIES["pin"], broken="pin file control/x.pem cannot be used: it holds no certificate")
    verdict = judge(broken, SHOWN[shown], HOST)
    assert not verdict.ok and verdict.sentence == broken.broken and verdict.status == "4.7.5"


def test_a_host_passed_over_gets_nothing() -> None:
    skipped = replace(POLICIES["may"], skip="another host of example.org is pinned")
    verdict = judge(skipped, SHOWN["good"], HOST)
    assert not verdict.ok and verdict.sentence == skipped.skip


def test_verification_without_a_name_to_verify_is_none() -> None:
    assert not judge(replace(POLICIES["verify"], names=()), SHOWN["good"], HOST).ok


def test_a_pin_that_pins_nothing_lets_nothing_through() -> None:
    assert not judge(replace(POLICIES["pin"], pins=PinSet()), SHOWN["good"], HOST).ok


def test_the_peers_words_are_made_harmless() -> None:
    verdict = judge(POLICIES["encrypt"], NoTls(Trouble.REFUSED, "STARTTLS was answered 454 \r\n\x1b[2Jü", "ü"), HOST)
    assert verdict.sentence.isprintable() and verdict.sentence.isascii()


def test_a_name_as_literal_bytes_with_nul_is_no_name() -> None:
    odd = certificate("x", san_der=san_entries(0x82, HOST.encode() + b"\x00.evil.example"))
    assert not judge(POLICIES["verify"], facts(odd), HOST).ok


def test_dane_without_its_records_lets_nothing_through() -> None:
    """A rule that nobody decided is no demand that can be met."""
    assert not judge(Policy(Level.DANE, RULE), SHOWN["good"], HOST).ok


def test_a_ca_of_tlsa_records_is_asked_for_dates() -> None:
    root = certificate("root", ca=True)
    leaf = certificate(HOST, sans=[x509.DNSName(HOST)], key_name="host", issuer="root")
    records = tlsas_of(HOST, 25, [Tlsa(2, 1, 1, key_digest(root))], secure=True)
    shown = replace(facts(leaf), chain=(leaf, root))
    policy = replace(POLICIES["dane"], tlsas=records)
    assert judge(policy, shown, HOST, NOW).ok
    late = judge(policy, shown, HOST, NOW.replace(year=2040))
    assert not late.ok and "expired" in late.sentence
    assert not judge(policy, shown, HOST).ok, "without the time nothing is good"


@pytest.mark.parametrize("level", ["encrypt", "verify", "secure", "sts", "pin", "dane", "dane-only"])
def test_pq_wants_a_hybrid_group(level: str) -> None:
    policy = replace(POLICIES[level], pq=True)
    assert judge(policy, facts(GOOD), HOST).ok
    for group in ("x25519", "secp256r1", "", "MLKEM768"):
        verdict = judge(policy, replace(facts(GOOD), group=group), HOST)
        assert not verdict.ok and verdict.status == "4.7.5"
        assert (group or "(unknown)") in verdict.sentence and "pq=require" in verdict.sentence
    assert "pq=require" not in judge(policy, replace(facts(None), group="x25519"), HOST).sentence or level == "encrypt"


def test_what_may_help_is_in_the_sentence() -> None:
    words = judge(POLICIES["encrypt"], NoTls(Trouble.HANDSHAKE, "it hung up", "try groups=X25519:P-256"), HOST).sentence
    assert "try groups=X25519:P-256" in words
