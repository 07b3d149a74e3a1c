"""Revocation lists of a local CA. Values in, values out: no file is touched here.

Nobody fetches these lists: the file lies beside the service and is replaced when something is revoked. So a long
validity costs no security, and a short one only makes clients be refused because nobody renewed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from qmtls.cli.authority import Authority, RequestError, digest_for, issuer_identifier
from qmtls.tls.crls import crl_number, signed_by

CRL_DAYS = 365
MAX_SERIAL_BITS = 160  # RFC 5280 section 4.1.2.2: 20 octets
REASONS = {
    "key": x509.ReasonFlags.key_compromise,
    "left": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "ended": x509.ReasonFlags.cessation_of_operation,
}

_EARLY = timedelta(hours=1)  # for clocks that are behind


@dataclass(frozen=True, slots=True)
class Revocation:
    """One certificate to be revoked; `reason` is a key of REASONS, or "" for none."""

    serial: int
    reason: str = ""


def own_list(
    authority: Authority, lists: Sequence[x509.CertificateRevocationList]
) -> x509.CertificateRevocationList | None:
    """The newest of the CA's lists, the one to go on from."""
    own = [one for one in lists if signed_by(one, authority.certificate)]
    return max(own, key=lambda one: (crl_number(one), one.last_update_utc), default=None)


def next_list(
    authority: Authority,
    old: x509.CertificateRevocationList | None,
    revocations: Iterable[Revocation],
    now: datetime,
    days: int = CRL_DAYS,
) -> x509.CertificateRevocationList:
    """The list that follows `old`: all of it and `revocations`, the next number, good for `days` from now.

    RequestError if the CA may not sign lists.
    """
    issuer = authority.certificate
    _check(issuer)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - _EARLY)
        .next_update(min(now + timedelta(days=days), issuer.not_valid_after_utc))
        .add_extension(x509.CRLNumber(crl_number(old) + 1 if old is not None else 1), critical=False)
        .add_extension(issuer_identifier(issuer), critical=False)
    )
    for entry in old if old is not None else ():
        builder = builder.add_revoked_certificate(entry)
    for one in revocations:
        builder = builder.add_revoked_certificate(_entry(one, now))
    return builder.sign(authority.key, digest_for(authority.key))


def _entry(revocation: Revocation, now: datetime) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(revocation.serial).revocation_date(now)
    if revocation.reason:
        builder = builder.add_extension(x509.CRLReason(REASONS[revocation.reason]), critical=False)
    return builder.build()


def _check(issuer: x509.Certificate) -> None:
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.crl_sign:
        raise RequestError("the CA's certificate does not permit it to sign revocation lists (keyUsage cRLSign)")
