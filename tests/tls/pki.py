"""Certificates for tests, good and odd ones, made in memory; and the facts that a handshake with them would show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtensionOID, NameOID

from qmtls.tls.facts import ChainError, TlsFacts

NOW = datetime(2026, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=365)

Key = ec.EllipticCurvePrivateKey


@cache
def key(name: str) -> Key:
    """One key for each name."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    common_name: str = "test",
    *,
    sans: Sequence[x509.GeneralName] = (),
    san_der: bytes | None = None,
    emails: Sequence[str] = (),
    ca: bool | None = False,
    until: datetime = NOW + YEAR,
    key_name: str | None = None,
    issuer: str | None = None,
) -> x509.Certificate:
    """`emails` go into the subject; `san_der` is a subjectAltName as raw octets; `ca` None = no basicConstraints."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    attributes += [x509.NameAttribute(NameOID.EMAIL_ADDRESS, email) for email in emails]
    signer = issuer or common_name
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, signer)]))
        .public_key(key(key_name or common_name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - 2 * YEAR)
        .not_valid_after(until)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    if san_der is not None:
        san = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, san_der)
        builder = builder.add_extension(san, critical=False)
    return builder.sign(key(signer if issuer else key_name or common_name), SHA256())


def host(*names: str, key_name: str = "host", ca: bool = False) -> x509.Certificate:
    """A server's certificate for these dNSNames."""
    return certificate("host", sans=[x509.DNSName(name) for name in names], key_name=key_name, ca=ca)


def san_entries(tag: int, *values: bytes) -> bytes:
    """GeneralNames in DER, without any check: tag 0x81 = rfc822Name, 0x82 = dNSName. Short values only."""
    body = b"".join(bytes([tag, len(value)]) + value for value in values)
    return b"\x30" + bytes([len(body)]) + body


def crl(issuer: str, until: datetime, *serials: int) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .last_update(until - YEAR)
        .next_update(until)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(until - YEAR).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key(issuer), SHA256())


def pem(*items: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return b"".join(item.public_bytes(Encoding.PEM) for item in items)


def key_pem(name: str) -> bytes:
    return key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def facts(leaf: x509.Certificate | None, *codes: int, verified: bool | None = None) -> TlsFacts:
    """A handshake that showed `leaf`, with these complaints of the verifier; verified if there were none."""
    errors = tuple(ChainError(code, 0, f"error {code}") for code in codes)
    good = leaf is not None and not errors if verified is None else verified
    chain = (leaf,) if leaf is not None else ()
    return TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", leaf, chain, errors, good)
