"""PEM files as the commands write and read them: private ones for nobody else, nothing ever overwritten."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from qmtls.cli.authority import Authority
from qmtls.cli.home import why
from qmtls.cli.output import CommandError
from qmtls.tls.pin import is_ca, read_certificates

PUBLIC = 0o644
PRIVATE = 0o600
MAX_FILE = 4 << 20  # far above any bundle; a file beyond it is something else

_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_REQUEST = re.compile(rb"-----BEGIN ((?:NEW )?CERTIFICATE REQUEST)-----.*?-----END \1-----", re.DOTALL)


def key_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificates_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def bundle(key: PrivateKeyTypes, certificates: Sequence[x509.Certificate]) -> bytes:
    """Key, leaf, chain: the order that qmail-tls asks for and every other program takes too."""
    return key_pem(key) + certificates_pem(certificates)


def public_octets(key: PrivateKeyTypes | x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """The DER SubjectPublicKeyInfo, for comparisons; b"" for a key of a kind that the library does not know."""
    try:
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Makes a new file of this mode from its first moment; CommandError if there is one or it cannot be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask says
            file.write(data)
    except FileExistsError:
        raise CommandError(f"{path}: exists already; nothing was overwritten") from None
    except OSError as problem:
        raise CommandError(f"{path}: {why(problem)}") from None


def read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise CommandError(f"{path}: {why(problem)}") from None
    if len(data) > MAX_FILE:
        raise CommandError(f"{path}: larger than {MAX_FILE} octets; this is no PEM file")
    return data


def keys_in(data: bytes) -> list[PrivateKeyTypes]:
    """Private keys, in order; ValueError with a sentence for one that cannot be used."""
    found = []
    for match in _KEY.finditer(data):
        try:
            found.append(load_pem_private_key(match.group(), None))
        except TypeError:
            raise ValueError("the private key is encrypted; a server cannot ask for its password") from None
        except Exception as problem:  # the library raises its own kinds for unsupported and damaged keys
            raise ValueError(f"the private key cannot be used ({problem})") from None
    return found


def key_in(path: Path) -> PrivateKeyTypes:
    """The one private key of a file."""
    try:
        keys = keys_in(read(path))
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}") from None
    if len(keys) != 1:
        raise CommandError(f"{path}: holds {len(keys)} private keys; one is expected")
    return keys[0]


def certificates_in(data: bytes) -> tuple[x509.Certificate, ...]:
    """Certificates, in order; ValueError with a sentence if there is none or one cannot be read."""
    return read_certificates(data)


def request_in(path: Path) -> x509.CertificateSigningRequest:
    """The one certificate request of a file, in PEM."""
    blocks = [match.group() for match in _REQUEST.finditer(read(path))]
    if len(blocks) != 1:
        raise CommandError(f"{path}: holds {len(blocks)} certificate requests; one is expected, in PEM")
    try:
        return x509.load_pem_x509_csr(blocks[0])
    except ValueError as problem:
        raise CommandError(f"{path}: the certificate request cannot be read ({problem})") from None


def read_authority(directory: Path) -> Authority:
    """The CA in `directory`: its key in ca.key, its certificate (and those of its issuers) in ca.pem."""
    key = key_in(directory / "ca.key")
    path = directory / "ca.pem"
    try:
        chain = certificates_in(read(path))
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}") from None
    if not is_ca(chain[0]):
        raise CommandError(f"{path}: must begin with the certificate of a CA")
    if public_octets(key) != public_octets(chain[0]):
        raise CommandError(f"{directory}: ca.key does not belong to the first certificate of ca.pem")
    return Authority(key, chain)  # type: ignore[arg-type]  # a CA's key signs


def write_authority(authority: Authority, directory: Path) -> None:
    write(directory / "ca.key", key_pem(authority.key), PRIVATE)
    write(directory / "ca.pem", certificates_pem(authority.chain))
