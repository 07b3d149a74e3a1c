from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from cryptography import x509

from qmtls.tls.clients import MANY, ClientMatch, ClientRule, ClientRules, match_client
from qmtls.tls.facts import TlsFacts
from qmtls.tls.pin import certificate_digest, key_digest
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Patterns, Scope
from tests.tls.pki import NOW, YEAR, certificate, facts

ALICE = certificate("alice", emails=["Alice@Example.org"])
RENEWED = certificate("alice renewed", emails=["new@example.org"], key_name="alice")


def rules(*texts: str) -> ClientRules:
    """Rules in the compiled form: "email:…", "sha256:hex", "spki:hex", "san:dns:…"."""
    found = []
    for number, text in enumerate(texts, 1):
        head, _, value = text.rpartition(":") if text.startswith("san:") else text.partition(":")
        found.append(ClientRule(head, value, Origin("control/tlsclients", number), value))
    return ClientRules(tuple(found))


BY_EMAIL = rules("email:bob@example.org", "email:alice@example.org")
BY_CERT = rules("sha256:" + certificate_digest(ALICE).hex())
BY_KEY = rules("spki:" + key_digest(ALICE).hex())
CA_AS_LEAF = certificate("alice", emails=["alice@example.org"], ca=True)
BY_CA_KEY = rules("spki:" + key_digest(CA_AS_LEAF).hex())


def san(*emails: str) -> list[x509.GeneralName]:
    return [x509.RFC822Name(email) for email in emails]


GATE = certificate(
    "gate", sans=[x509.DNSName("Gate.Example"), x509.IPAddress(ip_address("192.0.2.1")), *san("Gate@a.example")]
)


def match(client_rules: ClientRules, shown: TlsFacts | None, trusted: bool = True) -> ClientMatch:
    return match_client(client_rules, shown, trusted=trusted, now=NOW.timestamp())


@pytest.mark.parametrize(
    ("client_rules", "shown", "line"),
    [
        (BY_EMAIL, facts(ALICE), 2),
        (BY_CERT, facts(ALICE), 1),
        (BY_KEY, facts(ALICE), 1),
        (BY_KEY, facts(RENEWED), 1),
        (rules("dn:2.5.4.3=alice,1.2.840.113549.1.9.1=Alice@Example.org"), facts(ALICE), 1),
        (rules("san:dns:other", "san:dns:gate.example"), facts(GATE), 2),
        (rules("san:ip:192.0.2.1"), facts(GATE), 1),
        (rules("san:email:gate@a.example"), facts(GATE), 1),
        # No CA and no date is asked for by rules that name certificate or key.
        (BY_CERT, facts(ALICE, 18), 1),
        (BY_KEY, facts(ALICE, 20, 21, 10, 26), 1),
        (BY_KEY, facts(ALICE, 3, 12), 1),
        (BY_KEY, facts(ALICE, verified=True), 1),
        (BY_CA_KEY, facts(CA_AS_LEAF), 1),
        (BY_CA_KEY, facts(CA_AS_LEAF, 18), 1),
        # Of several identities the first rule in the file.
        (ClientRules((*BY_KEY.rules, *BY_EMAIL.rules)), facts(ALICE), 1),
        (rules("email:b@x.example"), facts(certificate("m", sans=san("a@x.example", "B@x.example"))), 1),
    ],
)
def test_a_certificate_meets_a_rule(client_rules: ClientRules, shown: TlsFacts, line: int) -> None:
    found = match(client_rules, shown)
    assert found.rule is not None and found.rule.origin.line == line
    assert found.reason == ""


@pytest.mark.parametrize(
    ("client_rules", "shown", "reason"),
    [
        (BY_EMAIL, None, ""),
        (BY_EMAIL, facts(None), ""),
        (BY_EMAIL, facts(ALICE, 10), "expired"),
        (BY_EMAIL, facts(ALICE, 9), "not yet valid"),
        (BY_EMAIL, facts(ALICE, 23), "revoked"),
        (BY_EMAIL, facts(ALICE, 20, 21), "unknown issuer"),
        (BY_EMAIL, facts(ALICE, 2), "unknown issuer"),
        (BY_EMAIL, facts(ALICE, 18), "self-signed"),
        (BY_EMAIL, facts(ALICE, 3), "no revocation list of its CA"),
        (BY_EMAIL, facts(ALICE, 12), "the revocation list of its CA has expired"),
        (BY_EMAIL, facts(ALICE, 26), "not meant for this use"),
        (BY_EMAIL, facts(ALICE, 66), "its key is too weak"),
        (BY_EMAIL, facts(ALICE, verified=False), "not verified in this session"),
        (BY_EMAIL, facts(CA_AS_LEAF), "it is a CA's certificate, not a client's"),
        (
            BY_EMAIL,
            facts(certificate("a", emails=["a@a.example", "b@b.example"])),
            "several email addresses in its subject",
        ),
        (BY_EMAIL, facts(certificate("a", emails=["alice@example.org\0"])), "its email address is malformed"),
        (BY_EMAIL, facts(certificate("a", emails=["älice@example.org"])), "its email address is not in ASCII"),
        (BY_EMAIL, facts(certificate("a", san_der=b"\x30\x03\x81\x05a")), "its names cannot be read"),
        (BY_EMAIL, replace(facts(None), unreadable=True), "it cannot be read"),
        (rules("dn:2.5.4.3=alice"), facts(ALICE), "email address not in my list of tlsclients"),
        (rules("san:dns:gate.example"), facts(GATE, 20), "unknown issuer"),
        (rules("dn:2.5.4.3=gate"), facts(GATE, 12), "the revocation list of its CA has expired"),
        (rules("dn:2.5.4.3=alice"), facts(certificate("nobody")), "not in my list of tlsclients"),
        (rules("user:alice@example.org"), facts(ALICE), "email address not in my list of tlsclients"),
        (BY_EMAIL, facts(certificate("nobody")), "contains no email address"),
        (BY_EMAIL, facts(RENEWED), "email address not in my list of tlsclients"),
        (BY_CERT, facts(RENEWED), "email address not in my list of tlsclients"),
        (BY_CERT, facts(ALICE, 23), "revoked"),
        (BY_KEY, facts(ALICE, 10, 23), "revoked"),
        (BY_KEY, facts(ALICE, verified=False), "not verified in this session"),
        (ClientRules(), facts(ALICE), "email address not in my list of tlsclients"),
    ],
)
def test_the_reason_of_a_refusal(client_rules: ClientRules, shown: TlsFacts | None, reason: str) -> None:
    found = match(client_rules, shown)
    assert found.rule is None and found.rules == ()
    assert found.reason == reason


def test_without_a_ca_only_certificates_and_keys_count() -> None:
    # A verified chain to something that is not clientca.pem says nothing about an e-mail.
    assert match(BY_EMAIL, facts(ALICE), trusted=False).reason == "not in my list of tlsclients"
    assert match(BY_KEY, facts(ALICE, 20), trusted=False).rule is not None


def test_rules_by_key_ask_for_certificates_without_a_ca() -> None:
    assert BY_KEY.any_by_key and BY_CERT.any_by_key
    assert not BY_EMAIL.any_by_key


def test_every_rule_that_is_met_in_the_order_of_the_file() -> None:
    several = ClientRules((*BY_KEY.rules, *BY_EMAIL.rules, *BY_EMAIL.rules, *BY_CERT.rules))
    found = match(several, facts(ALICE))
    assert [rule.kind for rule in found.rules] == ["spki", "email", "email", "sha256"]
    assert [rule.kind for rule in match(several, facts(ALICE, 10)).rules] == ["spki", "sha256"]


def test_what_a_certificate_proves_needs_no_rule() -> None:
    found = match(ClientRules(), facts(ALICE))
    assert ("email", "alice@example.org") in found.identities and ("dn", "") not in found.identities
    # Without a chain the certificate and its key are all that is proved, and when it is revoked nothing is.
    assert {kind for kind, _ in match(ClientRules(), facts(ALICE, 20)).identities} == {"sha256", "spki"}
    assert match(ClientRules(), facts(ALICE, 23)).identities == frozenset()


def test_a_certificate_that_expires_in_its_session_is_worth_nothing_from_then_on() -> None:
    late = (NOW + YEAR).timestamp() + 1
    assert match_client(BY_EMAIL, facts(ALICE), trusted=True, now=late).reason == "expired"
    assert match_client(BY_KEY, facts(ALICE), trusted=True, now=late).rule is not None


def scoped(sender: str) -> ClientRule:
    return replace(BY_EMAIL.rules[1], scope=Scope(senders=Patterns(frozenset({sender}), sender), label=sender))


class Box:
    local_part = "x"

    def __init__(self, host: str) -> None:
        self.host = host


@pytest.mark.parametrize("count", [3, MANY + 1, 1000])
def test_the_first_rule_that_permits_counts_however_many_there_are(count: int) -> None:
    lines = tuple(scoped(f"@{number}.example") for number in range(count))
    found = ClientMatch((*lines, *lines, scoped(".sub.example")))
    permitting = found.permitting(Box("2.example"), Box("to.example"), 0.0)
    assert permitting is lines[2] and permitting.name == "@2.example"
    assert found.permitting(Box("other.example"), Box("to.example"), 0.0) is None
    assert found.permits_sender(Box("1.example")) and found.permits_sender(Box("a.sub.example"))
    assert not found.permits_sender(Box("other.example")) and not found.permits_sender(None)
