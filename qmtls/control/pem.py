"""PEM files of the control directory: our own credentials, client CAs and revocation lists.

Text between the blocks is allowed (`openssl ca` puts it there). Each function raises BadValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from qmtls.control.lists import BadValueError, Content
from qmtls.control.settings import Credential
from qmtls.tls.pin import PinError, is_ca, read_certificates
from qmtls.wording import counted

MIN_RSA_BITS = 2048  # what OpenSSL's security level 2 accepts
MIN_DKIM_BITS = 1024  # RFC 8301 section 3.2: verifiers take no less
OTHERS = 0o007  # permission bits of those who are neither owner nor group

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_ENCRYPTED = re.compile(rb"BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: *4, *ENCRYPTED")

_KEY_MEND = "put key and certificate into one file, as docs/control.md shows for servercert.pem"


def load_credential(content: Content) -> Credential:
    """A private key that only its owner and group can read, and its certificate chain, in either order."""
    _check_mode(content)
    key = _private_key(content.data)
    chain = load_certificates(content)
    _check_pair(key, chain[0])
    return Credential(content.origin, key, chain)


def load_dkim_key(content: Content) -> rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    """A private key that only its owner and group can read, of a kind that DKIM knows."""
    _check_mode(content)
    match _one_key(content.data, "put the private key there alone, as `qmtls dkim make` does"):
        case rsa.RSAPrivateKey() as key if key.key_size < MIN_DKIM_BITS:
            raise BadValueError(f"holds an RSA key of only {key.key_size} bits", "make one of 2048")
        case (rsa.RSAPrivateKey() | ed25519.Ed25519PrivateKey()) as key:
            return key
        case _:
            raise BadValueError("holds a key that is neither RSA nor Ed25519", "make one with `qmtls dkim make`")


def load_certificates(content: Content) -> tuple[x509.Certificate, ...]:
    """Every certificate of a file, at least one."""
    try:
        return read_certificates(content.data)
    except PinError as problem:
        raise BadValueError(str(problem), "put the certificates there whole, in PEM form") from problem


def load_authorities(content: Content) -> tuple[x509.Certificate, ...]:
    """Certificates of CAs; a file without any is of no use."""
    certificates = load_certificates(content)
    if not any(is_ca(certificate) for certificate in certificates):
        raise BadValueError("holds no certificate of a CA", "put there the certificate that signed the clients' ones")
    return certificates


def load_crls(content: Content) -> tuple[x509.CertificateRevocationList, ...]:
    """Every revocation list of a file, at least one, read to its last entry."""
    found = []
    for block in _blocks(content.data, b"X509 CRL"):
        try:
            found.append(x509.load_pem_x509_crl(block))
            len(found[-1])
        except Exception as problem:  # the parser's errors are many, and each means the same here
            raise BadValueError("holds a revocation list that cannot be read", "make it anew") from problem
    if not found or content.data.count(b"-----BEGIN X509 CRL") != len(found):
        raise BadValueError("holds no complete revocation list", "put it there in PEM form, or remove the file")
    return tuple(found)


def _blocks(data: bytes, kind: bytes) -> Iterator[bytes]:
    return (found[0] for found in _BLOCK.finditer(data) if found[1] == kind)


def _check_mode(content: Content) -> None:
    if content.mode & OTHERS:
        mend = f"chmod {content.mode & 0o770:04o} {content.path}"
        raise BadValueError("holds a private key that others than its owner and group can read", mend)


def _one_key(data: bytes, mend_form: str) -> PrivateKeyTypes:
    if _ENCRYPTED.search(data):
        mend = "take the passphrase off: openssl pkey -in FILE -out NEWFILE"
        raise BadValueError("holds a private key that is protected by a passphrase", mend)
    blocks = [found[0] for found in _BLOCK.finditer(data) if found[1].endswith(b"PRIVATE KEY")]
    if len(blocks) != 1:
        raise BadValueError(f"holds {counted(len(blocks), 'private key')}", mend_form)
    try:
        return load_pem_private_key(blocks[0], None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise BadValueError("holds a private key that cannot be read", mend_form) from problem


def _private_key(data: bytes) -> PrivateKeyTypes:
    key = _one_key(data, _KEY_MEND)
    match key:
        case rsa.RSAPrivateKey() if key.key_size < MIN_RSA_BITS:
            raise BadValueError(f"holds an RSA key of only {key.key_size} bits", f"make one of {MIN_RSA_BITS} or more")
        case rsa.RSAPrivateKey() | ec.EllipticCurvePrivateKey():
            return key
        case _:
            raise BadValueError("holds a key that is neither RSA nor EC", "make an RSA or EC key")


def _check_pair(key: PrivateKeyTypes, leaf: x509.Certificate) -> None:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        matches = key.public_key().public_bytes(*form) == leaf.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        matches = False
    if not matches:
        mend = "put the certificate of this key first, before its CA's"
        raise BadValueError("its private key does not belong to its first certificate", mend)
