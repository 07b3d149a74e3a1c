"""`qmtls cert revoke`: takes certificates of the local CA back, in the list that the service reads.

The list is replaced in one step; other CAs' lists in the same file stay as they are. Without a certificate to revoke
it is renewed. A running service takes the new one within seconds, open sessions at their next MAIL.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from qmtls.cli.authority import Authority, RequestError
from qmtls.cli.crl import CRL_DAYS, MAX_SERIAL_BITS, REASONS, Revocation, next_list, own_list
from qmtls.cli.home import Home
from qmtls.cli.output import DONE, CommandError, clean
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, days
from qmtls.cli.pem import alone_in, certificates_in, crls_in, issued_by, public_octets, read, read_authority, replace
from qmtls.tls.crls import crl_number, signed_by
from qmtls.tls.names import shown_dn
from qmtls.tls.pin import is_ca

FILE = "clientcrl.pem"
_SERIAL = re.compile(r"(?:0x)?([0-9a-f]{2}(?::[0-9a-f]{2})+|[0-9a-f]+)", re.IGNORECASE)


def add(commands: Commands) -> None:
    parser = commands.add(
        "revoke",
        "take certificates of the local CA back, or renew its revocation list",
        run=run,
        about="Makes the revocation list of the local CA, or the next one: what was revoked before, and each\n"
        "certificate named now, by its file or by its serial number in hexadecimal digits (`cert show` prints it).\n"
        "Named nothing, the list is renewed. It goes to HOME/control/clientcrl.pem, beside the lists of other CAs.",
        examples="  qmtls cert revoke joe.pem --reason key\n  qmtls cert revoke 5f0c41aa93\n  qmtls cert revoke",
    )
    parser.add_argument("certificates", metavar="FILE|SERIAL", nargs="*")
    parser.add_argument("--reason", choices=REASONS, default="", help="said in the list (default: none)")
    parser.add_argument(
        "--days", type=days, default=CRL_DAYS, help=f"when it must be renewed (default {CRL_DAYS}); it is local"
    )
    parser.add_argument(
        "--ca", metavar="DIR", type=Path, help="directory with ca.key and ca.pem (default: HOME/state/ca)"
    )
    parser.add_argument("--crl", metavar="FILE", type=Path, help=f"another list (default: HOME/control/{FILE})")


def run(args: argparse.Namespace) -> int:
    home: Home = args.home
    authority = read_authority(args.ca or home.authority)
    path: Path = args.crl or home.control / FILE
    trusted = _trusted(home.control / "clientca.pem") if not args.crl else ()
    if not args.crl and not _knows(trusted, authority):
        ca = home.control / "clientca.pem"
        raise CommandError(f"{ca}: does not hold this CA, so its list would be of no use there; --crl names another")
    wanted = {serial: text for text in args.certificates for serial in [_serial(text, authority)]}
    with as_owner_of(path.parent), alone_in(path.parent):
        lists = _lists(path)
        old = own_list(authority, lists)
        fresh = {serial: text for serial, text in wanted.items() if not _revoked(old, serial)}
        new = _next(authority, old, [Revocation(serial, args.reason) for serial in fresh], args.days)
        others = [one for one in lists if not signed_by(one, authority.certificate)]
        replace(path, b"".join(one.public_bytes(Encoding.PEM) for one in (new, *others)))
    for serial, text in wanted.items():
        print(f"{serial:x} ({clean(text)}): {'revoked' if serial in fresh else 'was revoked before'}")
    end = new.next_update_utc
    assert end is not None
    name = shown_dn(authority.certificate.subject)
    print(f"{path}: list {crl_number(new)} of {name}, {len(new)} revoked; to be renewed before {end:%Y-%m-%d}")
    for warning in _without_list((*authority.chain, *trusted), (new, *others)):
        print(f"warning: {warning}", file=sys.stderr)
    return DONE


def _next(
    authority: Authority, old: x509.CertificateRevocationList | None, revocations: Sequence[Revocation], days: int
) -> x509.CertificateRevocationList:
    try:
        return next_list(authority, old, revocations, datetime.now(UTC), days)
    except RequestError as problem:
        raise CommandError(str(problem)) from None


def _serial(text: str, authority: Authority) -> int:
    """Of a certificate's file, or as a number. A certificate must be one that this CA has issued."""
    path = Path(text)
    if path.exists() or path.suffix:
        return _certificate(path, authority).serial_number
    found = _SERIAL.fullmatch(text)
    number = int(found[1].replace(":", ""), 16) if found else 0
    if not 0 < number.bit_length() <= MAX_SERIAL_BITS:
        raise CommandError(f"{clean(text)}: no such file, and no serial number in hexadecimal digits")
    return number


def _certificate(path: Path, authority: Authority) -> x509.Certificate:
    try:
        certificates = certificates_in(read(path))
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}") from None
    leaf = certificates[0]
    if not issued_by(leaf, authority.certificate):
        raise CommandError(
            f"{path}: its certificate, of {shown_dn(leaf.subject)}, was issued by {shown_dn(leaf.issuer)} and not by "
            f"this CA; only its own CA can revoke it (`qmtls clients revoke` takes its rule away)"
        )
    if is_ca(leaf):
        raise CommandError(f"{path}: is the certificate of a CA; take it out of control/clientca.pem instead")
    return leaf


def _revoked(crl: x509.CertificateRevocationList | None, serial: int) -> bool:
    return crl is not None and crl.get_revoked_certificate_by_serial_number(serial) is not None


def _lists(path: Path) -> list[x509.CertificateRevocationList]:
    """Those of a file that is there; one that cannot be read whole is not replaced."""
    if not path.exists():
        return []
    try:
        return crls_in(read(path))
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}; nothing was changed") from None


def _trusted(path: Path) -> tuple[x509.Certificate, ...]:
    if not path.exists():
        return ()
    try:
        return certificates_in(read(path))
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}") from None


def _knows(trusted: Sequence[x509.Certificate], authority: Authority) -> bool:
    keys = set(map(public_octets, trusted))
    return any(public_octets(one) in keys for one in authority.chain)


def _without_list(
    authorities: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList]
) -> Iterator[str]:
    """Once there is a file of lists, every CA of a chain needs one in it."""
    for authority in dict.fromkeys(authorities):
        if is_ca(authority) and not any(signed_by(one, authority) for one in lists):
            name = shown_dn(authority.subject)
            yield f"{name} has no revocation list there: its clients get nothing until it has one"
