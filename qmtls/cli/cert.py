"""`qmtls cert`: request, issue, show, revoke. The openssl steps of a small mail CA, with the right order and modes.

Files are never overwritten (but for the revocation list, which lives on); private ones are for their owner only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qmtls.cli import certrequest, certrevoke, certshow
from qmtls.cli.authority import LEAF_DAYS, USES, Authority, RequestError, Terms, general_names, sign
from qmtls.cli.output import DONE, CommandError
from qmtls.cli.parser import Commands, add_json, days
from qmtls.cli.pem import (
    PRIVATE,
    bundle,
    certificates_pem,
    key_in,
    public_octets,
    read_authority,
    request_in,
    with_suffix,
    write,
)


def add(commands: Commands) -> None:
    below = Commands(commands.add("cert", "keys and certificates: request, issue, show, revoke"))
    certrequest.add(below)
    _add_issue(below)
    show = below.add(
        "show",
        "what a file is: certificates, keys, requests, revocation lists",
        run=certshow.run,
        about="Shows each certificate: names, dates, fingerprints, what is wrong with it or with the file, and\n"
        "ready-made lines for control/tlsclients and control/tlspolicy; of keys and requests the pin, of revocation\n"
        "lists what they revoke. Exit status 1 if something is wrong.",
        examples="  qmtls cert show control/servercert.pem\n  qmtls cert show --json joe.pem",
    )
    show.add_argument("file", metavar="FILE", type=Path)
    add_json(show)
    certrevoke.add(below)


def _add_issue(below: Commands) -> None:
    issue = below.add(
        "issue",
        "sign a certificate request with the local CA",
        run=run_issue,
        about="Signs a request: its subject and alternative names (hosts, e-mails) are taken over, nothing else;\n"
        "--host and --email give it other names instead. Where the key lies beside the request, OUT.pem holds key,\n"
        "certificate and chain, as a server wants it; else certificate and chain.",
        examples="  qmtls cert issue joe.csr\n  qmtls cert issue theirs.csr --email joe@example.org --days 90\n"
        "  qmtls cert issue mail.example.org.csr --key control/servercert.pem --out renewed",
    )
    issue.add_argument("request", metavar="CSR", type=Path)
    issue.add_argument(
        "--ca", metavar="DIR", type=Path, help="directory with ca.key and ca.pem (default: HOME/state/ca)"
    )
    issue.add_argument("--days", type=days, default=LEAF_DAYS, help=f"validity (default {LEAF_DAYS})")
    issue.add_argument("--host", metavar="NAME", action="append", default=[], help="a host's name; repeatable")
    issue.add_argument("--email", metavar="ADDR", action="append", default=[], help="a client's address; repeatable")
    issue.add_argument("--use", choices=USES, default="", help="default: client for addresses alone, else both")
    issue.add_argument("--key", metavar="FILE", type=Path, help="the key of the request (default: CSR with .key)")
    issue.add_argument("--out", metavar="OUT", type=Path, help="path without suffix (default: that of the request)")


def run_issue(args: argparse.Namespace) -> int:
    authority: Authority = read_authority(args.ca or args.home.authority)
    source: Path = args.request
    request = request_in(source)
    stem = source.with_suffix("") if source.suffix in (".csr", ".req", ".pem") else source
    try:
        leaf = sign(authority, request, Terms(args.days, general_names(args.host, args.email), args.use))
    except RequestError as problem:
        raise CommandError(f"{source}: {problem}") from None
    chain = (leaf, *authority.intermediates)
    target = with_suffix(args.out or stem, ".pem")
    key_file: Path = args.key or with_suffix(stem, ".key")
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
