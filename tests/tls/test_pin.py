from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from qmtls.tls.pin import PinError, certificate_digest, is_ca, key_digest, key_pin_text, read_pin_file
from tests.tls.pki import NOW, YEAR, certificate, host, key, key_pem, pem, san_entries

LEAF, BACKUP, CA = host("mx.example.org"), host("mx.example.org", key_name="backup"), certificate("ca", ca=True)
PUBLIC_KEYS: list[CertificatePublicKeyTypes] = [
    key("host").public_key(),
    rsa.generate_private_key(65537, 2048).public_key(),
    ed25519.Ed25519PrivateKey.generate().public_key(),
]


@pytest.mark.parametrize("public_key", PUBLIC_KEYS)
def test_the_key_digest_is_of_the_der_subject_public_key_info(public_key: CertificatePublicKeyTypes) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    cert = (
        x509.CertificateBuilder(name, name, public_key, x509.random_serial_number(), NOW, NOW + YEAR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("n" * 60) for _ in range(10)]), False)
        .sign(key("ca"), SHA256())
    )
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key_digest(cert) == sha256(der).digest()
    assert key_pin_text(cert) == "spki:" + b64encode(sha256(der).digest()).decode()


def test_the_certificate_digest_is_of_the_der_certificate() -> None:
    assert certificate_digest(LEAF) == LEAF.fingerprint(SHA256())


def test_only_basic_constraints_make_a_ca() -> None:
    assert is_ca(CA)
    assert not is_ca(LEAF)
    assert not is_ca(certificate("ca", ca=None))
    # What cannot be read is no CA: its key is pinned, which is the stricter reading.
    assert not is_ca(certificate("ca", ca=True, san_der=b"\x30\x03\x82\x05a"))


def test_leaves_pin_their_keys_and_cas_beside_them_do_not_count() -> None:
    for order in ((LEAF, BACKUP, CA), (CA, BACKUP, LEAF)):
        pins = read_pin_file(pem(*order))
        assert pins.keys == {key_digest(LEAF), key_digest(BACKUP)}
        assert pins.anchors == () and pins.certificates == frozenset()


def test_only_cas_are_anchors_and_their_own_keys_count() -> None:
    pins = read_pin_file(pem(CA))
    assert pins.anchors == (CA,) and pins.keys == {key_digest(CA)}


def test_text_and_keys_between_are_passed_over() -> None:
    text = b"subject=/CN=x\r\n" + key_pem("host") + b"notes\n" + pem(LEAF).replace(b"\n", b"\r\n") + b"\n# end"
    assert read_pin_file(text).keys == {key_digest(LEAF)}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"garbage",
        b"\x00\xff" * 50,
        key_pem("host"),
        pem(LEAF)[:-30],
        pem(CA) + pem(LEAF)[:300],  # a leaf cut short must not leave its CA as anchor
        pem(LEAF)[:300] + b"\n" + pem(CA),
        pem(CA) + pem(LEAF).replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        pem(CA) + pem(LEAF).replace(b"\nMII", b"\nAAA"),
        pem(CA) + b"-----BEGIN CERT",
    ],
)
def test_a_file_in_doubt_is_refused(text: bytes) -> None:
    with pytest.raises(PinError):
        read_pin_file(text)


def test_a_leaf_with_a_malformed_name_still_pins_its_key() -> None:
    odd = certificate("x", san_der=san_entries(0x82, b"a\x00b"))
    assert read_pin_file(pem(odd)).keys == {key_digest(odd)}


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 60))
def test_damage_is_an_error_or_the_same_pin(junk: bytes, place: int, cut: int) -> None:
    whole = pem(LEAF)
    try:
        pins = read_pin_file(whole[:place] + junk + whole[place + cut :])
    except PinError:
        return
    assert pins.anchors == ()
