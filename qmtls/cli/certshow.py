"""`qmtls cert show`: what a file holds, what is wrong with it, and the control lines that name its certificates."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from qmtls.cli.output import DONE, FINDINGS, CommandError, Row, clean, emit
from qmtls.cli.pem import certificates_in, keys_in, public_octets, read
from qmtls.tls.names import shown_dn
from qmtls.tls.pin import certificate_digest, is_ca, key_pin_text


def run(args: argparse.Namespace) -> int:
    path: Path = args.file
    data = read(path)
    try:
        certificates, keys = certificates_in(data), keys_in(data)
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}") from None
    now = datetime.now(UTC)
    emit((_row(certificate, now) for certificate in certificates), args.json, _text)
    findings = [*_findings(path, certificates, keys), *_out_of_date(certificates, now)]
    if not args.json:
        print(_file_line(certificates, keys))
    emit(({"finding": finding} for finding in findings), args.json, lambda row: f"wrong: {row['finding']}")
    return FINDINGS if findings else DONE


def describe(certificate: x509.Certificate) -> list[str]:
    """The lines that people see for one certificate."""
    return _text(_row(certificate, datetime.now(UTC))).splitlines()


def _row(certificate: x509.Certificate, now: datetime) -> Row:
    hosts, emails, others = _names(certificate)
    ca = is_ca(certificate)
    fingerprint = "sha256:" + certificate_digest(certificate).hex()
    key = key_pin_text(certificate)
    return {
        "subject": shown_dn(certificate.subject),
        "issuer": shown_dn(certificate.issuer),
        "serial": f"{certificate.serial_number:x}",
        "hosts": hosts,
        "emails": emails,
        "other_names": others,
        "ca": ca,
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "days_left": (certificate.not_valid_after_utc - now).days,
        "sha256": fingerprint,
        "spki": key,
        "tlsclients": [] if ca else [*(emails if len(emails) == 1 or _emails_in_san(certificate) else []), key],
        "tlspolicy": [f"{name} pin match={key}" for name in _policy_names(hosts)] if not ca else [],
    }


def _text(row: Row) -> str:
    def joined(key: str) -> str:
        value = row[key]
        assert isinstance(value, list)
        return ", ".join(value)

    dates = (
        datetime.fromtimestamp(int(str(row[key])), UTC).strftime("%Y-%m-%d") for key in ("not_before", "not_after")
    )
    lines = [
        f"{'CA ' if row['ca'] else ''}certificate of {row['subject']}",
        f"  issuer      {row['issuer']}",
        f"  valid       {' to '.join(dates)} ({row['days_left']} days left)",
    ]
    lines += [
        f"  {label:<11} {joined(key)}"
        for label, key in (("hosts", "hosts"), ("e-mails", "emails"), ("other names", "other_names"))
        if row[key]
    ]
    lines += [f"  {row['sha256']}", f"  {row['spki']}"]
    for file in ("tlsclients", "tlspolicy"):
        value = row[file]
        assert isinstance(value, list)
        lines += [f"  for control/{file}:  {line}" for line in value]
    return "\n".join(clean(line) for line in lines)


def _names(certificate: x509.Certificate) -> tuple[list[str], list[str], list[str]]:
    """Hosts, e-mails and other alternative names. E-mails as relaying reads them: those of the alternative names, else
    those of the subject."""
    hosts: list[str] = []
    others: list[str] = []
    emails = _emails_in_san(certificate)
    for name in _san(certificate):
        match name:
            case x509.DNSName(value=value):
                hosts.append(value)
            case x509.IPAddress(value=address):
                hosts.append(str(address))
            case x509.RFC822Name():
                pass
            case _:
                others.append(str(name.value))
    subject = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return hosts, emails or [str(attribute.value) for attribute in subject], others


def _emails_in_san(certificate: x509.Certificate) -> list[str]:
    return [name.value for name in _san(certificate) if isinstance(name, x509.RFC822Name)]


def _san(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError):
        return []  # unreadable names are as good as none: they match nothing


def _policy_names(hosts: Sequence[str]) -> Iterator[str]:
    """A policy line names a recipient domain; a host name of the certificate is the best guess at it."""
    for host in hosts:
        if "." in host and not host.startswith("*.") and host.rpartition(".")[2].isalpha():
            yield host.lower()


def _file_line(certificates: Sequence[x509.Certificate], keys: Sequence[PrivateKeyTypes]) -> str:
    kind = f"{len(keys)} private key{'s' if len(keys) > 1 else ''}" if keys else "no private key"
    fits = ", which fits" if len(keys) == 1 and public_octets(keys[0]) == public_octets(certificates[0]) else ""
    return f"{len(certificates)} certificate{'s' if len(certificates) > 1 else ''}, {kind}{fits}"


def _findings(path: Path, certificates: Sequence[x509.Certificate], keys: Sequence[PrivateKeyTypes]) -> Iterator[str]:
    if len(keys) > 1:
        yield "several private keys; a server takes one"
    if keys:
        fitting = [n for n, one in enumerate(certificates) if public_octets(one) == public_octets(keys[0])]
        if not fitting:
            yield "the private key belongs to none of the certificates"
        elif fitting[0]:
            yield f"the private key belongs to certificate {fitting[0] + 1}; that one must come first"
        if path.stat().st_mode & stat.S_IRWXO:
            yield f"others can read the private key: chmod 600 {path}"
        for n, (one, issuer) in enumerate(pairwise(certificates), 1):
            if not _issued_by(one, issuer):
                yield f"certificate {n + 1} did not issue certificate {n}; each stands behind the one that it issued"


def _out_of_date(certificates: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    for n, certificate in enumerate(certificates, 1):
        if now > certificate.not_valid_after_utc:
            yield f"certificate {n} ended on {certificate.not_valid_after_utc:%Y-%m-%d}"
        if now < certificate.not_valid_before_utc:
            yield f"certificate {n} begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
