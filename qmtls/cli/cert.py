"""`qmtls cert`: request, issue, show. The openssl steps of a small mail CA, with the right order and modes.

Files are never overwritten; private ones are for their owner only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from qmtls.cli import certshow
from qmtls.cli.authority import LEAF_DAYS, Authority, RequestError, make_request, new_key, sign
from qmtls.cli.output import DONE, CommandError
from qmtls.cli.parser import Commands, add_json
from qmtls.cli.pem import (
    PRIVATE,
    bundle,
    certificates_pem,
    key_in,
    key_pem,
    public_octets,
    read_authority,
    request_in,
    write,
)


def add(commands: Commands) -> None:
    below = Commands(commands.add("cert", "keys and certificates: request, issue, show"))
    request = below.add(
        "request",
        "make a key and a certificate request",
        run=run_request,
        about="Makes a private key and a certificate request for host names, for e-mail addresses, or both.\n"
        "Writes OUT.key (for you only) and OUT.csr (for the CA).",
        examples="  qmtls cert request mail.example.org\n  qmtls cert request --email joe@example.org --out joe",
    )
    request.add_argument("names", metavar="NAME", nargs="*", help="host name or IP address of a server")
    request.add_argument("--email", metavar="ADDR", action="append", default=[], help="address of a client; repeatable")
    request.add_argument("--key-type", choices=("ec", "rsa"), default="ec", help="ec is P-256 (default), rsa 3072 bits")
    request.add_argument("--out", metavar="OUT", type=Path, help="path without suffix (default: the first name)")
    issue = below.add(
        "issue",
        "sign a certificate request with the local CA",
        run=run_issue,
        about="Signs a request: its subject and alternative names (hosts, e-mails) are taken over, nothing else.\n"
        "Where the key lies beside the request, OUT.pem holds key, certificate and chain, as a server wants it;\n"
        "else certificate and chain.",
        examples="  qmtls cert issue joe.csr\n  qmtls cert issue mail.example.org.csr --days 90 --out servercert",
    )
    issue.add_argument("request", metavar="CSR", type=Path)
    issue.add_argument(
        "--ca", metavar="DIR", type=Path, help="directory with ca.key and ca.pem (default: HOME/state/ca)"
    )
    issue.add_argument("--days", type=_days, default=LEAF_DAYS, help=f"validity (default {LEAF_DAYS})")
    issue.add_argument("--key", metavar="FILE", type=Path, help="the key of the request (default: CSR with .key)")
    issue.add_argument("--out", metavar="OUT", type=Path, help="path without suffix (default: that of the request)")
    show = below.add(
        "show",
        "what a file of certificates holds, and the lines that name it",
        run=certshow.run,
        about="Shows each certificate: names, dates, fingerprints, what is wrong with it or with the file,\n"
        "and ready-made lines for control/tlsclients and control/tlspolicy. Exit status 1 if something is wrong.",
        examples="  qmtls cert show control/servercert.pem\n  qmtls cert show --json joe.pem",
    )
    show.add_argument("file", metavar="FILE", type=Path)
    add_json(show)


def _days(text: str) -> int:
    days = int(text)
    if not 0 < days <= 3650:
        raise argparse.ArgumentTypeError("between 1 and 3650")
    return days


def _with_suffix(path: Path, suffix: str) -> Path:
    """The suffix added, never put in place of what follows a dot: names of hosts are full of dots."""
    return path.with_name(path.name + suffix)


def run_request(args: argparse.Namespace) -> int:
    if not args.names and not args.email:
        args.parser.error("a host name or --email is needed")
    out: Path = args.out or Path(str((args.names or args.email)[0]).lower())
    if not args.out and ("/" in str(out) or str(out).startswith(".")):
        args.parser.error(f"{out} makes no file name; give --out")
    try:
        key = new_key(args.key_type)
        request = make_request(key, args.names, args.email)
    except RequestError as problem:
        raise CommandError(str(problem)) from None
    write(_with_suffix(out, ".key"), key_pem(key), PRIVATE)
    write(_with_suffix(out, ".csr"), request.public_bytes(Encoding.PEM))
    print(f"{out}.key: the private key; it stays here")
    print(f"{out}.csr: for the CA; with the local one: qmtls cert issue {out}.csr")
    return DONE


def run_issue(args: argparse.Namespace) -> int:
    authority: Authority = read_authority(args.ca or args.home.authority)
    source: Path = args.request
    request = request_in(source)
    stem = source.with_suffix("") if source.suffix in (".csr", ".req", ".pem") else source
    try:
        leaf = sign(authority, request, args.days)
    except RequestError as problem:
        raise CommandError(f"{source}: {problem}") from None
    chain = (leaf, *authority.intermediates)
    target = _with_suffix(args.out or stem, ".pem")
    key_file: Path = args.key or _with_suffix(stem, ".key")
    if args.key or key_file.is_file():
        key = key_in(key_file)
        if public_octets(key) != public_octets(request):
            raise CommandError(f"{key_file}: is not the key of {source}")
        write(target, bundle(key, chain), PRIVATE)
        print(f"{target}: key, certificate and chain, in this order, readable by you only")
    else:
        write(target, certificates_pem(chain))
        print(f"{target}: certificate and chain, to be sent back; its owner puts the key before it")
    print("\n".join(certshow.describe(leaf)))
    return DONE
