"""Self-signed ECDSA P-256 certificates for the three parties, known to each other by their fingerprints."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=30)
EARLIER = datetime.timedelta(days=1)  # for clocks that differ


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files, and SHA-256 of the certificate in hexadecimal."""

    cert: Path
    key: Path
    fingerprint: str

    def bundle(self) -> str:
        """Key and certificate in one text."""
        return self.key.read_text() + self.cert.read_text()


@dataclass(frozen=True, slots=True)
class Certificates:
    """The server under test, the load client, the sink."""

    server: Certificate
    client: Certificate
    sink: Certificate


def make(directory: Path) -> Certificates:
    """New ones at each start, in a directory that any user may pass (Postfix reads its own as root)."""
    directory.mkdir(parents=True, exist_ok=True)
    return Certificates(*[_self_signed(directory, name) for name in ("server", "client", "sink")])


def _self_signed(directory: Path, name: str) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}.test")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{name}.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(directory / f"{name}.crt", directory / f"{name}.key", cert.fingerprint(hashes.SHA256()).hex())
    made.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    made.key.touch(mode=0o600)
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
