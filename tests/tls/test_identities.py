from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509

from qmtls.tls.identities import Identity, certificate_emails, chained_identities, own_identities
from qmtls.tls.pin import certificate_digest, key_digest
from tests.tls.pki import certificate, san_entries

ALICE = certificate("alice", emails=["Alice@Example.org"])


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


def test_certificate_and_key_need_nobody_who_vouches() -> None:
    assert own_identities(ALICE) == {("sha256", certificate_digest(ALICE).hex()), ("spki", key_digest(ALICE).hex())}


EVERYTHING = certificate(
    "gate",
    sans=[
        x509.DNSName("Gate.Example"),
        x509.DNSName("*.a.example"),
        x509.UniformResourceIdentifier("spiffe://A.example/Gate"),
        x509.IPAddress(ip_address("192.0.2.1")),
        x509.IPAddress(ip_address("2001:db8::1")),
        *san("Gate@a.example", "b@b.example"),
    ],
)


@pytest.mark.parametrize(
    ("cert", "identities"),
    [
        (ALICE, {("email", "alice@example.org"), ("dn", "2.5.4.3=alice,1.2.840.113549.1.9.1=Alice@Example.org")}),
        (
            EVERYTHING,
            {
                *(("email", "gate@a.example"), ("email", "b@b.example"), ("dn", "2.5.4.3=gate")),
                *(("san:email", "gate@a.example"), ("san:email", "b@b.example")),
                *(("san:dns", "gate.example"), ("san:dns", "*.a.example"), ("san:uri", "spiffe://A.example/Gate")),
                *(("san:ip", "192.0.2.1"), ("san:ip", "2001:db8::1")),
            },
        ),
        # NUL, line ends and blanks make no name.
        (
            certificate("a", san_der=san_entries(0x82, b"a.example\0.evil.example", b"a.example\n", b"b.example")),
            {("dn", "2.5.4.3=a"), ("san:dns", "b.example")},
        ),
        (
            certificate("a", san_der=san_entries(0x86, b"spiffe://a\0b", b"no uri", b"x:y")),
            {("dn", "2.5.4.3=a"), ("san:uri", "x:y")},
        ),
        (certificate("a", san_der=san_entries(0x87, b"abc")), {("dn", "2.5.4.3=a")}),
        (certificate("a", san_der=b"\x30\x03\x81\x05a"), {("dn", "2.5.4.3=a")}),
    ],
)
def test_what_a_ca_vouches_for(cert: x509.Certificate, identities: set[Identity]) -> None:
    assert chained_identities(cert) == identities
