"""DANE: which records count, what they demand, and which chains meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256, sha512

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from qmtls.tls.dane import Demand, Tlsa, Tlsas, judge_dane, reference_names, tlsa_owner, tlsas_of
from tests.tls import pki
from tests.tls.pki import NOW

DAY = timedelta(days=1)
HOST = "mx.example.org"
NAMES = (HOST, "example.org")
EC = ec.generate_private_key(ec.SECP256R1())
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class Ca:
    """Issues what a test asks for; a root unless `by` another."""

    def __init__(
        self,
        name: str,
        by: Ca | None = None,
        *,
        key: Key | None = None,
        ca: bool | None = True,
        length: int | None = None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        until: datetime = NOW + DAY,
    ) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        constraints = [] if ca is None else [(x509.BasicConstraints(ca, length), True)]
        self.cert = (by or self).sign(self.name, self.key, (*constraints, *extensions), until)

    def sign(
        self,
        subject: x509.Name,
        key: Key,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
        until: datetime,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(min(until, NOW) - 10 * DAY).not_valid_after(until)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        algorithm = None if isinstance(self.key, ed25519.Ed25519PrivateKey) else SHA256()
        return builder.sign(self.key, algorithm)

    def leaf(
        self,
        *names: str,
        until: datetime = NOW + DAY,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        key: Key = EC,
    ) -> x509.Certificate:
        sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names or (HOST,)])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        return self.sign(subject, key, ((sans, False), *extensions), until)


ROOT = Ca("root")
SUB = Ca("sub", ROOT)


def der(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.DER)


def spki(cert: x509.Certificate) -> bytes:
    return cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def record(usage: int, selector: int, matching: int, cert: x509.Certificate) -> Tlsa:
    data = der(cert) if selector == 0 else spki(cert)
    return Tlsa(usage, selector, matching, {0: data, 1: sha256(data).digest(), 2: sha512(data).digest()}[matching])


def judge(
    records: Sequence[Tlsa], *chain: x509.Certificate, names: tuple[str, ...] = NAMES, now: datetime = NOW
) -> tuple[bool, str]:
    facts = replace(pki.facts(chain[0] if chain else None), chain=chain)
    return judge_dane(tlsas_of(HOST, 25, records, secure=True), facts, names, now)


LEAF = ROOT.leaf()
ODD = ROOT.leaf("elsewhere.example", until=NOW - DAY)  # another's name, and expired
ALL = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


def test_where_records_stand() -> None:
    assert tlsa_owner("MX.Example.ORG.", 25) == "_25._tcp.mx.example.org"
    assert tlsas_of("MX.example.org.", 2525, [], secure=True).owner == "_2525._tcp.mx.example.org"


@pytest.mark.parametrize(("selector", "matching"), ALL)
def test_usage_3_asks_for_neither_name_nor_date(selector: int, matching: int) -> None:
    ok, words = judge([record(3, selector, matching, ODD)], ODD, ROOT.cert)
    assert ok
    assert f"TLSA record 3 {selector} {matching}" in words and "_25._tcp.mx.example.org" in words
    ok, words = judge([record(3, selector, matching, LEAF)], ROOT.leaf(key=ROOT.key), LEAF)
    assert not ok
    assert words.startswith("showed a certificate that matches no TLSA record at _25._tcp.mx.example.org (3 ")


@pytest.mark.parametrize(("selector", "matching"), ALL)
@pytest.mark.parametrize("chain", [(ROOT.cert,), (SUB.cert, ROOT.cert), (ROOT.cert, SUB.cert)])
def test_usage_2_is_a_ca_of_the_chain(selector: int, matching: int, chain: tuple[x509.Certificate, ...]) -> None:
    leaf = (SUB if len(chain) > 1 else ROOT).leaf()
    assert judge([record(2, selector, matching, ROOT.cert)], leaf, *chain) == (
        True,
        "issued by the CA of a TLSA record at _25._tcp.mx.example.org, for mx.example.org or example.org",
    )


def test_usage_2_may_be_an_intermediate_whose_own_issuer_is_not_there() -> None:
    assert judge([record(2, 0, 1, SUB.cert)], SUB.leaf(), SUB.cert)[0]


@pytest.mark.parametrize("selector", [0, 1])
def test_usage_2_with_the_anchor_in_the_record_needs_no_anchor_in_the_chain(selector: int) -> None:
    assert judge([record(2, selector, 0, ROOT.cert)], ROOT.leaf())[0]
    assert judge([record(2, selector, 0, ROOT.cert)], SUB.leaf(), SUB.cert)[0]
    assert not judge([record(2, selector, 1, ROOT.cert)], ROOT.leaf())[0]
    assert not judge([record(2, selector, 0, SUB.cert)], ROOT.leaf())[0]


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)], ids=["ed25519", "rsa"]
)
def test_bare_keys_of_any_usual_kind(key: Key) -> None:
    ca = Ca("odd", key=key)
    assert judge([record(2, 1, 0, ca.cert)], ca.leaf())[0]
    assert not judge([record(2, 1, 0, ca.cert)], ROOT.leaf())[0]
    assert not judge([record(2, 1, 0, ROOT.cert)], ca.leaf())[0]


@pytest.mark.parametrize(
    ("names", "shown", "ok"),
    [
        (NAMES, HOST, True),
        (NAMES, "example.org", True),
        (NAMES, "*.example.org", True),
        ((HOST,), "example.org", False),
        (NAMES, "elsewhere.example", False),
        ((), HOST, False),
    ],
)
def test_usage_2_asks_for_a_name(names: tuple[str, ...], shown: str, ok: bool) -> None:
    found, words = judge([record(2, 1, 1, ROOT.cert)], ROOT.leaf(shown), ROOT.cert, names=names)
    assert found is ok
    assert ok or f"showed a certificate for {shown}, but" in words


def test_the_commonname_is_no_name() -> None:
    leaf = ROOT.sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]), EC, (), NOW + DAY)
    assert not judge([record(2, 1, 1, ROOT.cert)], leaf, ROOT.cert)[0]


KEY_USAGE = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)
NO_SIGNING = x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=True, **KEY_USAGE)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
MAIL_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
WEAK = rsa.generate_private_key(65537, 1024)
NOT_HERE = x509.NameConstraints(None, [x509.DNSName("example.org")])
ONLY_THERE = x509.NameConstraints([x509.DNSName("example.net")], None)

SHA256_RSA, SHA1_RSA = (bytes.fromhex("06092a864886f70d0101") + end for end in (b"\x0b", b"\x05"))
WITH_SHA1 = x509.load_der_x509_certificate(
    der(Ca("rsa", key=rsa.generate_private_key(65537, 2048)).leaf()).replace(SHA256_RSA, SHA1_RSA)
)


@pytest.mark.parametrize(
    ("ca", "words"),
    [
        (Ca("x", ROOT, ca=False), "its issuer is no CA"),
        (Ca("x", ROOT, ca=None), "its issuer is no CA"),
        (Ca("x", ROOT, until=NOW - DAY), "a CA of its chain has expired"),
        (Ca("x", ROOT, extensions=[(NO_SIGNING, True)]), "may not sign"),
        (Ca("x", ROOT, extensions=[(MAIL_ONLY, False)]), "a CA of its chain is not meant for servers"),
        (Ca("x", ROOT, extensions=[(UNKNOWN, True)]), "critical extension"),
        (Ca("x", ROOT, extensions=[(NOT_HERE, True)]), "may not issue for its names"),
        (Ca("x", ROOT, extensions=[(ONLY_THERE, False)]), "may not issue for its names"),
        (Ca("x", ROOT, key=WEAK), "a CA of its chain has a key that is too weak"),
        (Ca("x", Ca("y", ROOT, length=0)), "no CA of a record issued it"),
    ],
)
@pytest.mark.parametrize("anchor_is_it", [True, False])
def test_a_ca_must_be_one_that_may_sign(ca: Ca, words: str, anchor_is_it: bool) -> None:
    """Whether it is the anchor itself or stands below it."""
    chain = (ca.leaf(), ca.cert, ROOT.cert)
    if "no CA of a record" in words:
        anchor_is_it = False  # its chain is not complete
    ok, said = judge([record(2, 0, 1, ca.cert if anchor_is_it else ROOT.cert)], *chain)
    assert not ok
    assert words in said


def test_path_lengths() -> None:
    short = Ca("short", length=0)
    assert judge([record(2, 0, 1, short.cert)], short.leaf(), short.cert)[0]
    below = Ca("below", short)
    ok, words = judge([record(2, 0, 1, short.cert)], below.leaf(), below.cert, short.cert)
    assert not ok and "longer than a CA of it permits" in words


def test_name_constraints_that_hold() -> None:
    here = x509.NameConstraints([x509.DNSName("example.org")], [x509.DNSName("no.example.org")])
    ca = Ca("x", extensions=[(here, True)])
    assert judge([record(2, 0, 1, ca.cert)], ca.leaf(), ca.cert)[0]
    for names in [(HOST, "other.example"), (HOST, "a.no.example.org"), (HOST, "*.example.org")]:
        assert not judge([record(2, 0, 1, ca.cert)], ca.leaf(*names), ca.cert)[0]


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (ROOT.leaf(until=NOW - DAY), "it has expired"),
        (ROOT.leaf(extensions=[(MAIL_ONLY, False)]), "it is not meant for servers"),
        (ROOT.leaf(extensions=[(UNKNOWN, True)]), "it has a critical extension"),
        (ROOT.leaf(key=WEAK), "it has a key that is too weak"),
        (WITH_SHA1, "it has a signature digest that is too weak"),
        (Ca("root").leaf(), "no CA of a record issued it"),  # the right name, another key
    ],
)
def test_what_a_ca_issued_must_be_good(leaf: x509.Certificate, words: str) -> None:
    ok, said = judge([record(2, 0, 1, ROOT.cert)], leaf, ROOT.cert)
    assert not ok
    assert words in said


def test_a_certificate_of_tomorrow() -> None:
    ok, said = judge([record(2, 0, 1, ROOT.cert)], ROOT.leaf(), ROOT.cert, now=NOW - 20 * DAY)
    assert not ok and "not yet valid" in said


def test_a_certificate_is_never_its_own_anchor() -> None:
    alone = Ca("alone")
    assert not judge([record(2, 0, 1, alone.cert)], alone.cert)[0]
    assert not judge([record(2, 0, 0, alone.cert)], alone.cert, alone.cert, alone.cert)[0]
    assert judge([record(3, 0, 1, alone.cert)], alone.cert)[0]


def test_an_anchor_beside_the_path_is_no_anchor() -> None:
    other = Ca("other")
    assert not judge([record(2, 0, 1, other.cert)], ROOT.leaf(), ROOT.cert, other.cert)[0]


def test_chains_that_are_trees_or_without_end_are_given_up() -> None:
    twins = [Ca("twin", key=ROOT.key) for _ in range(20)]  # each may have issued each
    leaf = twins[0].leaf()
    assert not judge([record(2, 0, 1, SUB.cert)], leaf, *(ca.cert for ca in twins))[0]
    line = [ROOT]
    for n in range(15):
        line.append(Ca(f"ca {n}", line[-1]))
    ok, words = judge([record(2, 0, 1, ROOT.cert)], line[-1].leaf(), *(ca.cert for ca in line))
    assert not ok and "too long" in words


def test_one_usable_record_suffices_and_the_others_do_not_matter() -> None:
    others = [Tlsa(3, 1, 1, bytes(32)), Tlsa(2, 0, 1, bytes(32)), Tlsa(1, 0, 1, sha256(der(LEAF)).digest())]
    assert judge([*others, record(3, 1, 1, LEAF)], LEAF)[0]
    assert judge([*others, record(2, 1, 1, ROOT.cert)], LEAF, ROOT.cert)[0]
    assert not judge(others, LEAF, ROOT.cert)[0]


def test_no_certificate_and_one_that_cannot_be_read() -> None:
    tlsas = tlsas_of(HOST, 25, [record(3, 1, 1, LEAF)], secure=True)
    assert judge_dane(tlsas, pki.facts(None), NAMES, NOW)[1].startswith("showed no certificate")
    unreadable = replace(pki.facts(None), unreadable=True)
    ok, words = judge_dane(tlsas, unreadable, NAMES, NOW)
    assert not ok and "cannot be read" in words


def test_insecure_records_are_never_met() -> None:
    tlsas = tlsas_of(HOST, 25, [record(3, 1, 1, LEAF)], secure=False)
    assert tlsas.demand is Demand.NOTHING
    assert not judge_dane(tlsas, pki.facts(LEAF), NAMES, NOW)[0]
    assert not judge_dane(tlsas_of(HOST, 25, [], secure=True), pki.facts(LEAF), NAMES, NOW)[0]


GOOD = Tlsa(3, 1, 1, bytes(32))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Tlsa(0, 0, 1, bytes(32)), "usage 0 is not for SMTP"),
        (Tlsa(1, 1, 1, bytes(32)), "usage 1 is not for SMTP"),
        (Tlsa(4, 1, 1, bytes(32)), "usage 4 is unknown"),
        (Tlsa(255, 1, 1, bytes(32)), "usage 255 is unknown"),
        (Tlsa(3, 2, 1, bytes(32)), "selector 2 is unknown"),
        (Tlsa(3, 1, 3, bytes(32)), "matching type 3 is unknown"),
        (Tlsa(3, 1, 1, bytes(31)), "31 octets instead of 32"),
        (Tlsa(3, 1, 2, bytes(32)), "32 octets instead of 64"),
        (Tlsa(3, 1, 1, b""), "0 octets instead of 32"),
        (Tlsa(3, 0, 0, b""), "no certificate"),
        (Tlsa(2, 1, 0, b"garbage"), "no public key"),
        (Tlsa(2, 0, 0, der(ROOT.cert) + b"\0"), "no certificate"),
        (Tlsa(2, 0, 0, der(ROOT.cert)[:-1]), "no certificate"),
    ],
)
def test_records_that_do_not_count(bad: Tlsa, words: str) -> None:
    alone = tlsas_of(HOST, 25, [bad], secure=True)
    assert alone.usable == () and words in alone.unusable[0]
    assert alone.demand is Demand.ENCRYPT
    beside = tlsas_of(HOST, 25, [bad, GOOD], secure=True)
    assert beside.usable == (GOOD,) and beside.demand is Demand.MATCH


def test_records_that_could_not_be_taken_apart_still_ask_for_tls() -> None:
    assert tlsas_of(HOST, 25, [], secure=True).demand is Demand.NOTHING
    assert tlsas_of(HOST, 25, [], secure=True, malformed=2).demand is Demand.ENCRYPT
    assert tlsas_of(HOST, 25, [], secure=False, malformed=2).demand is Demand.NOTHING


def test_only_so_many_records_are_looked_at() -> None:
    found = tlsas_of(HOST, 25, [GOOD] * 5000, secure=True)
    assert len(found.usable) == 100 and len(found.unusable) == 1


def test_a_certificate_in_a_record_that_nobody_can_read_still_matches_by_its_octets() -> None:
    odd = b"\x30\x03\x02\x01\x05"
    ok, _ = judge([Tlsa(2, 0, 0, odd), Tlsa(2, 1, 0, odd), record(2, 0, 1, ROOT.cert)], LEAF, ROOT.cert)
    assert ok


def tlsas(base: str = HOST) -> Tlsas:
    return tlsas_of(base, 25, [GOOD], secure=True)


def test_reference_names() -> None:
    """RFC 7672 section 3.2.2, case by case."""
    secure = reference_names(tlsas(), "Example.org.", mx=True, mx_secure=True, canonical_domain="real.example")
    assert secure == (HOST, "example.org", "real.example")
    assert reference_names(tlsas(), "example.org", mx=True, mx_secure=True) == (HOST, "example.org")
    assert reference_names(tlsas(), "example.org", mx=True, canonical_domain="real.example") == (HOST,)
    assert reference_names(tlsas("real.example"), "example.org", mx=False) == ("real.example", "example.org")
    assert reference_names(tlsas("example.org"), "example.org", mx=False) == ("example.org",)


OCTET = st.integers(0, 255)
RECORD = st.builds(
    Tlsa, OCTET | st.sampled_from([2, 3]), OCTET | st.sampled_from([0, 1]), OCTET, st.binary(max_size=70)
)
CHAINS = st.lists(st.sampled_from([LEAF, ODD, ROOT.cert, SUB.cert, SUB.leaf()]), max_size=5)


@given(st.lists(RECORD, max_size=5), CHAINS, st.booleans())
def test_whatever_the_records_say_they_are_not_met_by_chance(
    records: list[Tlsa], chain: list[x509.Certificate], secure: bool
) -> None:
    found = tlsas_of(HOST, 25, records, secure=secure)
    assert len(found.usable) + len(found.unusable) == len(records)
    facts = replace(pki.facts(chain[0] if chain else None), chain=tuple(chain))
    ok, words = judge_dane(found, facts, NAMES, NOW)
    assert not ok and words.isprintable()


@given(st.lists(st.sampled_from([ROOT.cert, SUB.cert, ODD, LEAF]), max_size=6), st.booleans())
def test_a_chain_in_any_order_leads_up_exactly_if_the_cas_are_there(rest: list[x509.Certificate], sub: bool) -> None:
    needed = {SUB.cert, ROOT.cert} if sub else {ROOT.cert}
    leaf = (SUB if sub else ROOT).leaf()
    assert judge([record(2, 1, 2, ROOT.cert)], leaf, *rest)[0] is (needed <= set(rest))
