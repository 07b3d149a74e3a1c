"""PEM files as the commands write and read them: private ones for nobody else, nothing ever overwritten.

`replace` is for the files that live on (revocation lists, lists of rules): a reader sees the old one or the new one.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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
_CRL = re.compile(rb"-----BEGIN (X509 CRL)-----.*?-----END \1-----", re.DOTALL)
_REQUEST = re.compile(rb"-----BEGIN ((?:NEW )?CERTIFICATE REQUEST)-----.*?-----END \1-----", re.DOTALL)


def key_pem(key: PrivateKeyTypes) -> bytes:
    """In PKCS #8, without a passphrase: a server has nobody to ask."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificates_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """One block after the other."""
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


def key_pin(key: PrivateKeyTypes | x509.Certificate | x509.CertificateSigningRequest) -> str:
    """The key as a rule names it: "spki:BASE64"."""
    return "spki:" + b64encode(sha256(public_octets(key)).digest()).decode("ascii")


def with_suffix(path: Path, suffix: str) -> Path:
    """The suffix added, never put in place of what follows a dot: names of hosts are full of dots."""
    return path.with_name(path.name + suffix)


def refuse_existing(*paths: Path) -> None:
    """CommandError if one of them is there: for those who write several files, or none."""
    for path in paths:
        if path.exists() or path.is_symlink():
            raise CommandError(f"{path}: exists already; nothing was overwritten")


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


def replace(path: Path, data: bytes) -> None:
    """Puts `data` in the place of a file in one step, or makes it; mode and owner stay. A link stays a link to it."""
    real = path.resolve()
    new = real.with_name(f".{real.name}.{os.getpid()}.new")  # no reader of a directory takes that for one of its files
    try:
        old = real.stat() if real.exists() else None
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode) if old is not None else PUBLIC)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        new.replace(real)
    except OSError as problem:
        if not isinstance(problem, FileExistsError):
            new.unlink(missing_ok=True)
        raise CommandError(f"{path}: {why(problem)}") from None


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Reading, changing and replacing a file in `directory` is done by one command at a time."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:
        raise CommandError(f"{directory}: {why(problem)}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(path: Path) -> bytes:
    """All of a file; CommandError."""
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
    try:
        found = requests_in(read(path))
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}") from None
    if len(found) != 1:
        raise CommandError(f"{path}: holds {len(found)} certificate requests; one is expected, in PEM")
    return found[0]


def requests_in(data: bytes) -> list[x509.CertificateSigningRequest]:
    """Certificate requests, in order; ValueError with a sentence for one that cannot be read."""
    try:
        return [x509.load_pem_x509_csr(match.group()) for match in _REQUEST.finditer(data)]
    except ValueError as problem:
        raise ValueError(f"the certificate request cannot be read ({problem})") from None


def crls_in(data: bytes) -> list[x509.CertificateRevocationList]:
    """Revocation lists, in order; ValueError with a sentence for one that cannot be read, or only in part."""
    blocks = [match.group() for match in _CRL.finditer(data)]
    try:
        found = [x509.load_pem_x509_crl(block) for block in blocks]
        for one in found:
            len(one)  # entries are read when they are asked for
    except Exception as problem:  # the parser's errors are many
        raise ValueError(f"a revocation list cannot be read ({problem})") from None
    if len(found) != data.count(b"-----BEGIN X509 CRL"):
        raise ValueError("a revocation list is cut short")
    return found


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
    return Authority(key, in_order(chain))  # type: ignore[arg-type]  # a CA's key signs


def in_order(certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The chain that begins with the first of them, each before its issuer; what does not belong to it is left out."""
    chain, rest = [certificates[0]], list(certificates[1:])
    while not issued_by(chain[-1], chain[-1]):
        issuer = next((one for one in rest if issued_by(chain[-1], one)), None)
        if issuer is None:
            break
        rest.remove(issuer)
        chain.append(issuer)
    return tuple(chain)


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """By name and signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def write_authority(authority: Authority, directory: Path) -> None:
    """As `read_authority` finds it again; CommandError."""
    write(directory / "ca.key", key_pem(authority.key), PRIVATE)
    write(directory / "ca.pem", certificates_pem(authority.chain))
