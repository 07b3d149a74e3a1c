"""`qmtls cert request`: a key with its request, new or for a renewal.

A renewal keeps names and subject, so that every rule goes on. It keeps the key, so that whoever pinned it need not
know; or it makes the next key beside the old one, whose `spki:` is given to them before it is used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from qmtls.cli.authority import KEY_KINDS, Key, RequestError, kind_of, make_request, new_key, renewal_request
from qmtls.cli.output import DONE, CommandError
from qmtls.cli.parser import Commands
from qmtls.cli.pem import (
    PRIVATE,
    certificates_in,
    key_pem,
    key_pin,
    keys_in,
    public_octets,
    read,
    refuse_existing,
    with_suffix,
    write,
)
from qmtls.tls.pin import is_ca, key_pin_text


def add(commands: Commands) -> None:
    parser = commands.add(
        "request",
        "make a key and a certificate request",
        run=run,
        about="Makes a private key and a certificate request for host names, for e-mail addresses, or both.\n"
        "Writes OUT.key (for you only) and OUT.csr (for the CA), and prints the key's spki: pin.\n\n"
        "--renew FILE asks for the names of a certificate once more. With `keep` the key stays the same, and nobody\n"
        "who pinned it need know. With `next` there is a new key, OUT.next.key: tell its pin to those who pinned the\n"
        "old one, then issue, then change over.",
        examples="  qmtls cert request mail.example.org\n  qmtls cert request --email joe@example.org --out joe\n"
        "  qmtls cert request --renew keep control/servercert.pem\n"
        "  qmtls cert request --renew next control/servercert.pem --key rsa:4096",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="host name or IP address; with --renew the FILE")
    parser.add_argument("--email", metavar="ADDR", action="append", default=[], help="address of a client; repeatable")
    parser.add_argument("--key", "--key-type", metavar="KIND", help=f"one of {KEY_KINDS}; default ec")
    parser.add_argument("--renew", choices=("keep", "next"), help="renew the certificate in FILE, with this key")
    parser.add_argument("--out", metavar="OUT", type=Path, help="path without suffix (default: the first name)")


def run(args: argparse.Namespace) -> int:
    if args.renew:
        if len(args.names) != 1 or args.email:
            args.parser.error("--renew takes the file of one certificate, and its names from there")
        if args.renew == "keep" and args.key:
            args.parser.error("--renew keep has its key already; --renew next makes another one")
        return _renew(args)
    if not args.names and not args.email:
        args.parser.error("a host name or --email is needed")
    out = _out(args, (args.names or args.email)[0])
    try:
        key = new_key(args.key or "ec")
        request = make_request(key, args.names, args.email)
    except RequestError as problem:
        raise CommandError(str(problem)) from None
    _write(out, key, request)
    print(f"{out}.key: the private key; it stays here")
    _tell(out, request)
    _warn_of_kind(key)
    return DONE


def _renew(args: argparse.Namespace) -> int:
    path = Path(args.names[0])
    data = read(path)
    try:
        leaf, keys = certificates_in(data)[0], keys_in(data)
    except ValueError as problem:
        raise CommandError(f"{path}: {problem}") from None
    if is_ca(leaf):
        raise CommandError(f"{path}: begins with the certificate of a CA; those are not renewed here")
    out = _out(args, _first_name(leaf) or path.stem)
    try:
        if args.renew == "keep":
            home, key = _present_key(path, leaf, keys)
            request = renewal_request(key, leaf)
            write(with_suffix(out, ".csr"), request.public_bytes(Encoding.PEM))
            _tell(out, request, f" --key {home}")
            print("the key is the old one: whoever pinned it need not know")
            return DONE
        out = with_suffix(out, ".next")
        key = new_key(args.key or kind_of(leaf.public_key()))
        request = renewal_request(key, leaf)
    except (RequestError, ValueError) as problem:
        raise CommandError(f"{path}: {problem}") from None
    _write(out, key, request)
    print(f"{out}.key: the next private key; it stays here")
    _tell(out, request)
    print(f"give that spki: now to those who pinned the present key, {key_pin_text(leaf)};")
    print(f"change over to {out}.pem when they have it")
    _warn_of_kind(key)
    return DONE


def _out(args: argparse.Namespace, name: str) -> Path:
    out: Path = args.out or Path(name.lower())
    if not args.out and ("/" in str(out) or str(out).startswith(".")):
        args.parser.error(f"{out} makes no file name; give --out")
    return out


def _write(out: Path, key: Key, request: x509.CertificateSigningRequest) -> None:
    """Both files or none."""
    refuse_existing(with_suffix(out, ".key"), with_suffix(out, ".csr"))
    write(with_suffix(out, ".key"), key_pem(key), PRIVATE)
    write(with_suffix(out, ".csr"), request.public_bytes(Encoding.PEM))


def _tell(out: Path, request: x509.CertificateSigningRequest, options: str = "") -> None:
    print(f"{out}.csr: for the CA; with the local one: qmtls cert issue {out}.csr{options}")
    print(key_pin(request))


def _warn_of_kind(key: Key) -> None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        print("note: for clients elsewhere; servercert.pem and clientcert.pem of qmtls take RSA and EC keys only")


def _present_key(path: Path, leaf: x509.Certificate, keys: Sequence[PrivateKeyTypes]) -> tuple[Path, Key]:
    """The certificate's key and the file that it is in: this one, or the .key beside it."""
    if not keys:
        path = path.with_suffix(".key")
        if not path.is_file():
            raise RequestError(f"holds no private key, and there is no {path}")
        keys = keys_in(read(path))
    for key in keys:
        if public_octets(key) == public_octets(leaf):
            if isinstance(key, Key):
                return path, key
            raise RequestError("its key is of a kind that TLS has no use for")
    raise RequestError(f"the private key in {path} is not that of its certificate")


def _first_name(leaf: x509.Certificate) -> str:
    """What the request was named after, probably."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    found = next((name.value for name in names if isinstance(name, x509.DNSName | x509.RFC822Name)), "")
    return found.replace("*", "_")
