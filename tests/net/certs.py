"""A small certificate authority for handshakes: valid now, with every fault that a test asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, load_certificate

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Leaf:
    """A key with its certificate and what is sent after it."""

    key: ec.EllipticCurvePrivateKey
    cert: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.cert.public_bytes(Encoding.PEM)

    @property
    def bundle(self) -> bytes:
        """Key and chain in one file, as servercert.pem wants them."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.pem + b"".join(c.public_bytes(Encoding.PEM) for c in self.chain)


class Authority:
    """A CA with a name of its own."""

    def __init__(self, name: str) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = self._sign(self.name, self.key.public_key(), NOW + 1000 * DAY, ca=True)
        self.pem = self.cert.public_bytes(Encoding.PEM)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        until: datetime,
        *,
        ca: bool = False,
        sans: Sequence[x509.GeneralName] = (),
        san_der: bytes | None = None,
        use: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(NOW, until) - 10 * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        if san_der is not None:
            odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, san_der)
            builder = builder.add_extension(odd, critical=False)
        if use is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        return builder.sign(self.key, SHA256())

    def leaf(
        self,
        common_name: str = "test",
        *,
        names: Sequence[str] = (),
        email: str = "",
        days: int = 100,
        use: x509.ObjectIdentifier | None = None,
        san_der: bytes | None = None,
    ) -> Leaf:
        """`names` as dNSName, `email` as rfc822Name; negative `days`: expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        sans: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if email:
            sans.append(x509.RFC822Name(email))
        cert = self._sign(subject, key.public_key(), NOW + days * DAY, sans=sans, san_der=san_der, use=use)
        return Leaf(key, cert)

    def crl(self, *revoked: Leaf, days: int = 10) -> bytes:
        """In PEM form; negative `days`: it has expired."""
        until = NOW + days * DAY
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(until - 20 * DAY).next_update(until)
        for leaf in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(leaf.cert.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(NOW - 30 * DAY).build())
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


@cache
def authority(name: str = "our CA") -> Authority:
    """One for each name."""
    return Authority(name)


@cache
def server(*names: str) -> Leaf:
    """A server's certificate by our CA."""
    return authority().leaf("server", names=names or ("mail.example.org",), use=SERVER)


def self_signed(*, email: str = "", names: Sequence[str] = ()) -> Leaf:
    """Its own issuer, and no CA."""
    made = Authority("self")
    sans: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    if email:
        sans.append(x509.RFC822Name(email))
    return Leaf(made.key, made._sign(made.name, made.key.public_key(), NOW + 100 * DAY, sans=sans))


def context(leaf: Leaf | None = None, method: int = SSL.TLS_METHOD, *, newest: int = 0) -> SSL.Context:
    """A peer's context: it verifies nothing; `leaf` is what it shows."""
    made = SSL.Context(method)
    if newest:
        made.set_max_proto_version(newest)
    if leaf is not None:
        made.use_certificate(leaf.cert)
        for extra in leaf.chain:
            made.add_extra_chain_cert(extra)
        made.use_privatekey(leaf.key)
    return made


def odd_context(leaf: Leaf) -> SSL.Context:
    """A peer that shows `leaf` with a version number of its own: OpenSSL takes it, cryptography does not."""
    der = leaf.cert.public_bytes(Encoding.DER)
    version = b"\xa0\x03\x02\x01\x02"
    assert der.count(version) == 1
    made = SSL.Context(SSL.TLS_METHOD)
    made.use_certificate(load_certificate(FILETYPE_ASN1, der.replace(version, b"\xa0\x03\x02\x01\x05")))
    made.use_privatekey(leaf.key)
    return made
