"""Certificates for whole-program tests: one authority, servers and clients of it, good and bad, valid as of now."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # keyCertSign, cRLSign
Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Credential:
    """A key with its certificate; `bundle` is what servercert.pem holds."""

    key: Key
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def bundle(self) -> bytes:
        return self.key_pem + self.pem

    @property
    def sha256(self) -> str:
        """The certificate's fingerprint, in hexadecimal digits."""
        return self.certificate.fingerprint(SHA256()).hex()

    def write(self, path: Path) -> Path:
        """The bundle as a file that only its owner reads."""
        path.touch(0o600)
        path.chmod(0o600)
        path.write_bytes(self.bundle)
        return path

    def server_context(self, path: Path, *, ask: Path | None = None) -> ssl.SSLContext:
        """For a scripted server; `path` is a scratch file. `ask`: clients are asked for certificates of these CAs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.write(path))
        if ask is not None:
            context.load_verify_locations(ask)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


class Authority:
    """A CA that signs whatever a test asks for. Posing as another it has that one's name and key identifier."""

    def __init__(self, name: str = "test CA", *, posing_as: Authority | None = None) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        issuer = posing_as._key if posing_as is not None else self._key
        self._identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
        self.certificate = self._sign(self._name, self._key, ca=True)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def server(self, *names: str, days: int = 30) -> Credential:
        """For these host names and IP addresses."""
        return self._issue("server", tuple(_general(name) for name in names), days=days)

    def client(self, *sans: str, subject: str = "", days: int = 30, name: str = "client") -> Credential:
        """With these rfc822Names, and `subject` as emailAddress. Negative `days`: it has expired."""
        return self._issue(name, tuple(x509.RFC822Name(san) for san in sans), subject=subject, days=days)

    def client_of(self, subject: str, *names: x509.GeneralName, days: int = 30) -> Credential:
        """With this subject, written as in RFC 4514, and these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name.from_rfc4514_string(subject)
        return Credential(key, self._sign(name, key, sans=names, days=days))

    def crl(self, *revoked: Credential) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - DAY)
            .next_update(now + 30 * DAY)
        )
        for one in revoked:
            serial = one.certificate.serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def _issue(self, name: str, sans: Sequence[x509.GeneralName], *, subject: str = "", days: int = 30) -> Credential:
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if subject:
            attributes.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, subject))
        key = ec.generate_private_key(ec.SECP256R1())
        return Credential(key, self._sign(x509.Name(attributes), key, sans=sans, days=days))

    def _sign(
        self, name: x509.Name, key: Key, *, ca: bool = False, sans: Sequence[x509.GeneralName] = (), days: int = 30
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 60 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            # Python 3.13 asks for what RFC 5280 wants: key identifiers, and what a CA's key is for.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self._identifier, critical=False)
        )
        if ca:
            builder = builder.add_extension(CA_USAGE, critical=True)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        return builder.sign(self._key, SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
