"""Rules name subjects as OpenSSL prints them: so OpenSSL itself says here how that is."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from qmtls.tls.dn import DnError, parse_subject, subject_key
from tests.tls.pki import NOW, key, pem

CN, ORG, OU, DC = (
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.DOMAIN_COMPONENT,
)


def name(*rdns: list[x509.NameAttribute[str]]) -> x509.Name:
    return x509.Name([x509.RelativeDistinguishedName(rdn) for rdn in rdns])


def simple(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return name(*([x509.NameAttribute(oid, value)] for oid, value in pairs))


def as_openssl_prints(subject: x509.Name) -> str:
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(simple((CN, "ca")))
        .public_key(key("a").public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key("a"), SHA256())
    )
    command = ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253"]
    printed = subprocess.run(command, input=pem(made), capture_output=True, check=True).stdout.decode()
    return printed.removesuffix("\n").partition("=")[2].removeprefix(" ")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@pytest.mark.parametrize(
    "subject",
    [
        simple((CN, "alice")),
        simple((NameOID.COUNTRY_NAME, "DE"), (ORG, "Example Ltd"), (OU, "Mail"), (CN, "alice")),
        simple((DC, "example"), (DC, "org"), (NameOID.USER_ID, "alice")),
        simple((ORG, "a"), (ORG, "b"), (CN, "twice")),
        simple((CN, 'Alice, of "Example" + <b>; c\\d # =')),
        simple((CN, "#hash"), (ORG, " leading"), (OU, "trailing ")),
        simple((CN, " "), (ORG, "  two  ")),
        simple((CN, "Jörg 郵便"), (ORG, "a\tb\x01\x7f")),
        simple((CN, "alice\0evil")),
        simple((CN, "alice\nO=evil")),
        simple((NameOID.EMAIL_ADDRESS, "a@a.example"), (NameOID.SERIAL_NUMBER, "12"), (NameOID.TITLE, "Dr")),
        simple((NameOID.GIVEN_NAME, "A"), (NameOID.SURNAME, "B"), (NameOID.INITIALS, "C"), (NameOID.PSEUDONYM, "D")),
        simple((NameOID.STREET_ADDRESS, "s"), (NameOID.POSTAL_CODE, "1"), (NameOID.STATE_OR_PROVINCE_NAME, "t")),
        simple((NameOID.ORGANIZATION_IDENTIFIER, "x"), (NameOID.DN_QUALIFIER, "y"), (NameOID.BUSINESS_CATEGORY, "z")),
        simple((NameOID.JURISDICTION_COUNTRY_NAME, "DE"), (NameOID.JURISDICTION_LOCALITY_NAME, "l")),
        simple((NameOID.GENERATION_QUALIFIER, "Jr"), (NameOID.UNSTRUCTURED_NAME, "u"), (NameOID.LOCALITY_NAME, "l")),
        simple((x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), "unknown type"), (CN, "a")),
        name([x509.NameAttribute(CN, "a"), x509.NameAttribute(OU, "b")], [x509.NameAttribute(ORG, "c")]),
        name(
            [x509.NameAttribute(CN, "Jörg", _ASN1Type.BMPString)], [x509.NameAttribute(ORG, "c", _ASN1Type.IA5String)]
        ),
        name([x509.NameAttribute(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), "ä", _ASN1Type.BMPString)]),
    ],
)
def test_a_rule_pasted_from_openssl_names_its_certificate(subject: x509.Name) -> None:
    assert parse_subject(as_openssl_prints(subject)) == subject_key(subject)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=a,O=b", "cn=a, o=b"),
        ("CN=a+OU=b", "OU=b+CN=a"),
        ("CN=a", "2.5.4.3=a"),
        ("CN=a", "OID.2.5.4.3=a"),
        ("CN=a", "CN=#0C0161"),
        ("CN=J\\C3\\B6rg", "CN=Jörg"),
        ("CN=a\\,b", "CN=a\\2Cb"),
    ],
)
def test_two_ways_to_write_one_subject(one: str, other: str) -> None:
    assert parse_subject(one) == parse_subject(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=a,O=b", "O=b,CN=a"),
        ("CN=a", "CN=A"),
        ("CN=a,O=b", "CN=a+O=b"),
        ("CN=a", "CN=a,O=b"),
        ("CN=a\\,O=b", "CN=a,O=b"),
        ("CN=a%2C", "CN=a\\,"),
        ("CN=a\\ ", "CN=a "),
        ("CN=#0C0161", "CN=\\#0C0161"),
    ],
)
def test_two_subjects(one: str, other: str) -> None:
    assert parse_subject(one) != parse_subject(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no TYPE=VALUE"),
        ("alice", "is no TYPE=VALUE"),
        ("CN=a,", "is no TYPE=VALUE"),
        ("CN=a,,O=b", "is no TYPE=VALUE"),
        ("/CN=a/O=b", "'/CN' is no type of attribute"),
        ("XX=a", "'XX' is no type of attribute"),
        ("3.1=a", "'3.1' is no type of attribute"),
        ('CN="a"', "without a backslash"),
        ("CN=a;O=b", "without a backslash"),
        ("CN=a\\", "ends in a backslash"),
        ("CN=\\FF", "no UTF-8"),
        ("CN=#", "one value in DER"),
        ("CN=#0C", "one value in DER"),
        ("CN=#0C0161FF", "one value in DER"),
        ("CN=#zz", "one value in DER"),
        ("CN=#0C01FF", "one value in DER"),
    ],
)
def test_what_is_no_subject(text: str, words: str) -> None:
    with pytest.raises(DnError) as caught:
        parse_subject(text)
    assert words in str(caught.value)


VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.sampled_from([CN, ORG, OU]), VALUES), min_size=1, max_size=4))
def test_what_another_library_writes_reads_back(pairs: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    subject = simple(*pairs)
    assert parse_subject(subject.rfc4514_string()) == subject_key(subject)


@given(VALUES, VALUES)
def test_the_key_tells_values_apart(one: str, other: str) -> None:
    same = subject_key(simple((CN, one), (ORG, other))) == subject_key(simple((CN, other), (ORG, one)))
    assert same is (one == other)


@given(st.text())
def test_any_text_is_a_subject_or_none(text: str) -> None:
    try:
        parse_subject(text)
    except DnError as problem:
        assert str(problem)
