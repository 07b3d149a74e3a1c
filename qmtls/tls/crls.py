"""Revocation lists: whose they are, and which of several is the newer one."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


def signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """True if the list is this CA's: its name and its key. CAs of one name are not the same."""
    try:
        return crl.issuer == authority.subject and crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """0 if it has none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError):
        return 0
