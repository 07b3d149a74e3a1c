from __future__ import annotations

import pytest
from cryptography import x509

from qmtls.tls.clients import ClientRule, ClientRules, match_client
from qmtls.tls.facts import TlsFacts
from qmtls.tls.identities import certificate_emails
from qmtls.tls.pin import certificate_digest, key_digest
from qmtls.tls.policy import Origin
from tests.tls.pki import NOW, certificate, facts, san_entries

ALICE = certificate("alice", emails=["Alice@Example.org"])
RENEWED = certificate("alice renewed", emails=["new@example.org"], key_name="alice")


def rules(*texts: str) -> ClientRules:
    """Rules in the compiled form: "email:…", "sha256:hex", "spki:hex"."""
    parts = [text.partition(":") for text in texts]
    return ClientRules(
        tuple(
            ClientRule(kind, value, Origin("control/tlsclients", n), value)
            for n, (kind, _, value) in enumerate(parts, 1)
        )
    )


BY_EMAIL = rules("email:bob@example.org", "email:alice@example.org")
BY_CERT = rules("sha256:" + certificate_digest(ALICE).hex())
BY_KEY = rules("spki:" + key_digest(ALICE).hex())


def san(*emails: str) -> list[x509.GeneralName]:
    return [x509.RFC822Name(email) for email in emails]


@pytest.mark.parametrize(
    ("cert", "expected"),
    [
        (ALICE, ("Alice@Example.org",)),
        (certificate("a"), ()),
        (certificate("a", emails=["a@x.example", "b@x.example"]), ()),  # ambiguous
        (certificate("a", sans=san("a@x.example", "b@x.example")), ("a@x.example", "b@x.example")),
        (certificate("a", sans=san("a@x.example"), emails=["b@x.example"]), ("a@x.example",)),
        (certificate("a", sans=[x509.DNSName("x.example")], emails=["b@x.example"]), ("b@x.example",)),
        (certificate("a", emails=["no address"]), ()),
        (certificate("a", emails=["a@x.example\n"]), ()),
        (certificate("a", emails=["a@x.example\0@evil.example"]), ()),
        (certificate("a", emails=["ä@x.example"]), ()),
        (certificate("a", san_der=san_entries(0x81, b"a@x.example\0.evil.example")), ()),
        (certificate("a", san_der=san_entries(0x81, b"a@x.example\n", b"b@x.example")), ("b@x.example",)),
        # An rfc822Name that cannot be used still keeps the subject from being looked at.
        (certificate("a", san_der=san_entries(0x81, b"\0"), emails=["b@x.example"]), ()),
        (certificate("a", san_der=b"\x30\x03\x81\x05a", emails=["b@x.example"]), ()),
    ],
)
def test_the_addresses_that_a_certificate_vouches_for(cert: x509.Certificate, expected: tuple[str, ...]) -> None:
    assert certificate_emails(cert) == expected


@pytest.mark.parametrize(
    ("client_rules", "shown", "line"),
    [
        (BY_EMAIL, facts(ALICE), 2),
        (BY_CERT, facts(ALICE), 1),
        (BY_KEY, facts(ALICE), 1),
        (BY_KEY, facts(RENEWED), 1),
        # No CA and no date is asked for by rules that name certificate or key.
        (BY_CERT, facts(ALICE, 18), 1),
        (BY_KEY, facts(ALICE, 20, 21, 10, 26), 1),
        (BY_KEY, facts(ALICE, 3, 12), 1),
        # Of several identities the first rule in the file.
        (ClientRules((*BY_KEY.rules, *BY_EMAIL.rules)), facts(ALICE), 1),
        (rules("email:b@x.example"), facts(certificate("m", sans=san("a@x.example", "B@x.example"))), 1),
    ],
)
def test_a_certificate_meets_a_rule(client_rules: ClientRules, shown: TlsFacts, line: int) -> None:
    match = match_client(client_rules, shown, trusted=True, now=NOW.timestamp())
    assert match.rule is not None and match.rule.origin.line == line
    assert match.reason == ""


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
    match = match_client(client_rules, shown, trusted=True, now=NOW.timestamp())
    assert match.rule is None
    assert match.reason == reason


def test_without_a_ca_only_certificates_and_keys_count() -> None:
    # A verified chain to something that is not clientca.pem says nothing about an e-mail.
    assert (
        match_client(BY_EMAIL, facts(ALICE), trusted=False, now=NOW.timestamp()).reason
        == "not in my list of tlsclients"
    )
    assert match_client(BY_KEY, facts(ALICE, 20), trusted=False, now=NOW.timestamp()).rule is not None


def test_rules_by_key_ask_for_certificates_without_a_ca() -> None:
    assert BY_KEY.any_by_key and BY_CERT.any_by_key
    assert not BY_EMAIL.any_by_key
