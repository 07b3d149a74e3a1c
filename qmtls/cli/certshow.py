"""`qmtls cert show`: what a file is, what is wrong with it, and the control lines that name its certificates."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from qmtls.cli.certnames import Named, client_lines, names_in, policy_lines
from qmtls.cli.output import DONE, FINDINGS, CommandError, Row, clean, emit
from qmtls.cli.pem import certificates_in, crls_in, issued_by, key_pin, keys_in, public_octets, read, requests_in
from qmtls.tls.crls import crl_number
from qmtls.tls.names import shown_dn
from qmtls.tls.pin import certificate_digest, is_ca, key_pin_text
from qmtls.wording import counted

SHOWN_SERIALS = 20  # of a revocation list, as text; --json has all


@dataclass(frozen=True, slots=True)
class Holding:
    """Everything in one file, each kind in its order."""

    path: Path
    certificates: Sequence[x509.Certificate]
    keys: Sequence[PrivateKeyTypes]
    requests: Sequence[x509.CertificateSigningRequest]
    crls: Sequence[x509.CertificateRevocationList]


def run(args: argparse.Namespace) -> int:
    try:
        held = _read(args.file)
    except ValueError as problem:
        raise CommandError(f"{args.file}: {problem}") from None
    now = datetime.now(UTC)
    emit((_certificate(one, now) for one in held.certificates), args.json, _certificate_text)
    if not held.certificates:  # beside its certificate a key says nothing new
        emit(map(_key, held.keys), args.json, _text)
    emit(map(_request, held.requests), args.json, _text)
    emit((_crl(one, now) for one in held.crls), args.json, _crl_text)
    findings = [*_findings(held), *_out_of_date(held, now)]
    if not args.json:
        print(_file_line(held))
    emit(({"finding": finding} for finding in findings), args.json, lambda row: f"wrong: {row['finding']}")
    return FINDINGS if findings else DONE


def describe(certificate: x509.Certificate) -> list[str]:
    """The lines that people see for one certificate."""
    return _certificate_text(_certificate(certificate, datetime.now(UTC))).splitlines()


def _read(path: Path) -> Holding:
    """ValueError if something in it cannot be read, or there is nothing of this kind."""
    data = read(path)
    if b"-----BEGIN " not in data and data[:1] == b"\x30":
        data = _from_der(data)
    keys, requests, crls = keys_in(data), requests_in(data), crls_in(data)
    others = bool(keys or requests or crls)
    certificates = () if others and b"CERTIFICATE-----" not in _without_requests(data) else certificates_in(data)
    return Holding(path, certificates, keys, requests, crls)


def _without_requests(data: bytes) -> bytes:
    return data.replace(b"CERTIFICATE REQUEST-----", b"")


def _from_der(data: bytes) -> bytes:
    """What other programs write without PEM."""
    loaders: tuple[Callable[[bytes], x509.Certificate | x509.CertificateRevocationList], ...] = (
        x509.load_der_x509_certificate,
        x509.load_der_x509_crl,
    )
    for load in loaders:
        try:
            return load(data).public_bytes(Encoding.PEM)
        except ValueError:
            continue
    return data


def _certificate(certificate: x509.Certificate, now: datetime) -> Row:
    return {
        "kind": "certificate",
        **_names(certificate),
        "issuer": shown_dn(certificate.issuer),
        "serial": f"{certificate.serial_number:x}",
        "ca": is_ca(certificate),
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "days_left": (certificate.not_valid_after_utc - now).days,
        "sha256": "sha256:" + certificate_digest(certificate).hex(),
        "spki": key_pin_text(certificate),
        "tlsclients": client_lines(certificate),
        "tlspolicy": policy_lines(certificate),
    }


def _request(request: x509.CertificateSigningRequest) -> Row:
    return {"kind": "request", **_names(request), "spki": key_pin(request)}


def _names(named: Named) -> Row:
    names = names_in(named)
    subject = shown_dn(named.subject)
    return {"subject": subject, "hosts": names.hosts, "emails": names.emails, "other_names": names.others}


def _key(key: PrivateKeyTypes) -> Row:
    match key:
        case rsa.RSAPrivateKey():
            kind = f"RSA of {key.key_size} bits"
        case ec.EllipticCurvePrivateKey():
            kind = f"EC on {key.curve.name}"
        case _:
            kind = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
    return {"kind": "key", "subject": kind, "spki": key_pin(key)}


def _crl(crl: x509.CertificateRevocationList, now: datetime) -> Row:
    end = crl.next_update_utc
    return {
        "kind": "crl",
        "issuer": shown_dn(crl.issuer),
        "number": crl_number(crl),
        "this_update": int(crl.last_update_utc.timestamp()),
        "next_update": int(end.timestamp()) if end is not None else None,
        "days_left": (end - now).days if end is not None else None,
        "revoked": [
            {"serial": f"{one.serial_number:x}", "time": int(one.revocation_date_utc.timestamp())} for one in crl
        ],
    }


def _day(seconds: object) -> str:
    return datetime.fromtimestamp(int(str(seconds)), UTC).strftime("%Y-%m-%d")


def _list(row: Row, key: str) -> list[str]:
    value = row.get(key)
    return value if isinstance(value, list) else []


def _certificate_text(row: Row) -> str:
    lines = _text(row, "CA certificate" if row["ca"] else "certificate").split("\n")
    lines[1:1] = [
        f"  issuer      {row['issuer']}",
        f"  serial      {row['serial']}",
        f"  valid       {_day(row['not_before'])} to {_day(row['not_after'])} ({row['days_left']} days left)",
    ]
    lines.insert(-1, f"  {row['sha256']}")
    lines += [f"  for control/{file}:  {line}" for file in ("tlsclients", "tlspolicy") for line in _list(row, file)]
    return "\n".join(clean(line) for line in lines)


def _text(row: Row, what: str = "") -> str:
    """Subject, names and pin, of whatever has them."""
    what = what or {"request": "certificate request", "key": "private key"}[str(row["kind"])]
    lines = [f"{what}{':' if row['kind'] == 'key' else ' of'} {row['subject']}"]
    lines += [
        f"  {label:<11} {', '.join(_list(row, key))}"
        for label, key in (("hosts", "hosts"), ("e-mails", "emails"), ("other names", "other_names"))
        if _list(row, key)
    ]
    return "\n".join(clean(line) for line in (*lines, f"  {row['spki']}"))


def _crl_text(row: Row) -> str:
    end = f"until {_day(row['next_update'])} ({row['days_left']} days left)" if row["next_update"] else "without end"
    lines = [
        f"revocation list {row['number'] or 'without number'} of {row['issuer']}",
        f"  valid       {_day(row['this_update'])}, {end}",
    ]
    revoked = row["revoked"]
    assert isinstance(revoked, list)
    lines += [f"  revoked     {one['serial']}  {_day(one['time'])}" for one in revoked[:SHOWN_SERIALS]]
    if len(revoked) > SHOWN_SERIALS:
        lines.append(f"  … and {len(revoked) - SHOWN_SERIALS} more")
    return "\n".join(clean(line) for line in lines)


def _file_line(held: Holding) -> str:
    counts = (
        (len(held.certificates), "certificate"),
        (len(held.requests), "certificate request"),
        (len(held.crls), "revocation list"),
    )
    parts = [counted(count, what) for count, what in counts if count]
    keys = len(held.keys)
    if keys or held.certificates:
        parts.append(counted(keys, "private key"))
    first = held.certificates[0] if held.certificates else None
    if keys == 1 and first is not None and public_octets(held.keys[0]) == public_octets(first):
        parts.append("which fits")
    purpose = _purpose(held)
    return ", ".join(parts) + (f": {purpose}" if purpose else "")


def _purpose(held: Holding) -> str:
    """Where such a file goes."""
    match bool(held.certificates), bool(held.keys):
        case True, True:
            return "as servercert.pem or clientcert.pem wants it" if not any(_findings(held)) else ""
        case True, False if all(is_ca(one) for one in held.certificates):
            return "for clientca.pem, or as a pin file that trusts a CA"
        case True, False:
            return "as a pin file, or to be put behind its key"
    if held.requests:
        return "for `qmtls cert issue`, or another CA"
    return "for clientcrl.pem" if held.crls else ""


def _findings(held: Holding) -> Iterator[str]:
    certificates, keys = held.certificates, held.keys
    if len(keys) > 1:
        yield "several private keys; a server takes one"
    if keys and held.path.stat().st_mode & stat.S_IRWXO:
        yield f"others can read the private key: chmod 600 {held.path}"
    if keys and certificates:
        fitting = [n for n, one in enumerate(certificates) if public_octets(one) == public_octets(keys[0])]
        if not fitting:
            yield "the private key belongs to none of the certificates"
        elif fitting[0]:
            yield f"the private key belongs to certificate {fitting[0] + 1}; that one must come first"
    if not all(is_ca(one) for one in certificates):  # CAs side by side are no chain
        for n, (one, issuer) in enumerate(pairwise(certificates), 1):
            if is_ca(issuer) and not issued_by(one, issuer):
                yield f"certificate {n + 1} did not issue certificate {n}; each stands behind the one that it issued"
    if not all(request.is_signature_valid for request in held.requests):
        yield "the request's signature does not fit its key"


def _out_of_date(held: Holding, now: datetime) -> Iterator[str]:
    for n, certificate in enumerate(held.certificates, 1):
        if now > certificate.not_valid_after_utc:
            yield f"certificate {n} ended on {certificate.not_valid_after_utc:%Y-%m-%d}"
        if now < certificate.not_valid_before_utc:
            yield f"certificate {n} begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    for crl in held.crls:
        if crl.next_update_utc is not None and now > crl.next_update_utc:
            yield f"the revocation list of {shown_dn(crl.issuer)} ended on {crl.next_update_utc:%Y-%m-%d}"
