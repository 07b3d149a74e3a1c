"""Pins: digests of certificates and keys, and what a pin file means.

A pin file (NAME.pem) is read as a whole or not at all. A certificate that is no CA pins its public key, and CA
certificates beside it are ignored (a "fullchain"). CA certificates alone are trust anchors, and their own keys count
too: the usual self-signed certificate calls itself a CA. A file from which one certificate cannot be read is refused,
because what is left of it might demand less than was meant.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MAX_PIN_CERTIFICATES = 1000  # a bundle of every public CA has about 150

_BEGIN = re.compile(rb"-----BEGIN ([^\r\n-]*)-----")
_SEQUENCE = 0x30
_VERSION = 0xA0  # TBSCertificate's [0], absent in version 1 certificates


@dataclass(frozen=True, slots=True)
class PinSet:
    """What may be shown: any one suffices. Digests are SHA-256, raw octets."""

    certificates: frozenset[bytes] = frozenset()  # of the DER certificate
    keys: frozenset[bytes] = frozenset()  # of the DER SubjectPublicKeyInfo
    anchors: tuple[x509.Certificate, ...] = ()  # CA certificates: chain and name decide


class PinError(ValueError):
    """A pin file that cannot be used; str() is a sentence fragment: "it holds no certificate"."""


def certificate_digest(cert: x509.Certificate) -> bytes:
    """SHA-256 of the DER certificate."""
    return sha256(cert.public_bytes(Encoding.DER)).digest()


def key_digest(cert: x509.Certificate) -> bytes:
    """SHA-256 of the DER SubjectPublicKeyInfo, of the very octets that the certificate carries (RFC 7469 section 2.4).

    The octets are cut out, not decoded and written anew: so keys of any algorithm can be pinned.
    """
    return sha256(subject_public_key_info(cert.tbs_certificate_bytes)).digest()


def key_pin_text(cert: x509.Certificate) -> str:
    """The key as a rule would name it: "spki:BASE64"."""
    return "spki:" + b64encode(key_digest(cert)).decode("ascii")


def is_ca(cert: x509.Certificate) -> bool:
    """True if basicConstraints says so. Absent or unreadable: no CA, which pins the key (the stricter reading)."""
    try:
        return cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM text, in order; other text and other blocks between them are passed over.

    Raises PinError unless there is at least one and each one that begins can be read.
    """
    labels = _BEGIN.findall(pem)
    expected = sum(label.endswith(b"CERTIFICATE") for label in labels)
    if not expected:
        raise PinError("it holds no certificate")
    if expected > MAX_PIN_CERTIFICATES:
        raise PinError(f"it holds more than {MAX_PIN_CERTIFICATES} certificates")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except Exception as problem:
        raise PinError("a certificate in it cannot be read") from problem
    if len(found) != expected or pem.count(b"-----BEGIN") != len(labels):
        raise PinError("a certificate in it cannot be read")
    return tuple(found)


def read_pin_file(pem: bytes) -> PinSet:
    """What the file pins. Raises PinError if that is not clear beyond doubt."""
    return pin_set(read_certificates(pem))


def pin_set(certificates: tuple[x509.Certificate, ...]) -> PinSet:
    """Leaf certificates: their keys. Only CA certificates: anchors, and their keys."""
    try:
        leaves = [cert for cert in certificates if not is_ca(cert)]
        if leaves:
            return PinSet(keys=frozenset(map(key_digest, leaves)))
        return PinSet(keys=frozenset(map(key_digest, certificates)), anchors=certificates)
    except (ValueError, IndexError) as problem:
        raise PinError("a certificate in it cannot be read") from problem


def subject_public_key_info(tbs: bytes) -> bytes:
    """The seventh element of a TBSCertificate (RFC 5280 section 4.1), header included. ValueError, IndexError."""
    _, position, _ = element(tbs, 0)
    if tbs[position] == _VERSION:
        position = element(tbs, position)[2]
    for _ in range(5):  # serialNumber, signature, issuer, validity, subject
        position = element(tbs, position)[2]
    tag, _, end = element(tbs, position)
    if tag != _SEQUENCE or end > len(tbs):
        raise ValueError("no SubjectPublicKeyInfo where it should be")
    return tbs[position:end]


def element(der: bytes, position: int) -> tuple[int, int, int]:
    """The DER element at `position`: its tag, where its content begins, where it ends."""
    tag, length = der[position], der[position + 1]
    start = position + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    return tag, start, start + length
