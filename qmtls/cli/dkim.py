"""`qmtls dkim`: keys that sign mail of our own domains, and the DNS records that make the signatures valid."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import NoReturn, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from qmtls.cli.home import Home
from qmtls.cli.output import DONE, FINDINGS, CommandError, Row, emit
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, add_json
from qmtls.cli.pem import PRIVATE, key_pem, refuse_existing, write
from qmtls.control.dkim import DIRECTORY, NEXT, SUFFIX, dkim_names, read_dkim_keys
from qmtls.control.lists import BadValueError, ControlFiles
from qmtls.control.settings import ControlError
from qmtls.delivery.dkim import DkimKey
from qmtls.tls.policy import Origin

STRING = 255  # octets of one string of a TXT record (RFC 1035 section 3.3.14)

_RSA = re.compile(r"rsa:(2048|3072|4096)\Z")


def add(commands: Commands) -> None:
    parser = commands.add("dkim", "keys for DKIM signatures, and their DNS records")
    below = Commands(parser)
    make = below.add(
        "make",
        "make a key and print its DNS record",
        run=run_make,
        about="Makes control/dkim/DOMAIN.SELECTOR.key and prints the TXT record for the zone of DOMAIN. Mail of ours\n"
        "whose From is in DOMAIN (or below it) is signed from then on, so with --record-first the key is named\n"
        "DOMAIN.SELECTOR.key.next: take `.next` off when the record is in the DNS.",
        examples="  qmtls dkim make example.org mail2027\n  qmtls dkim make example.org ed1 --key ed25519",
    )
    make.add_argument("domain", metavar="DOMAIN")
    make.add_argument("selector", metavar="SELECTOR", help="a word of your choice: letters, digits, hyphens")
    make.add_argument(
        "--key", metavar="KIND", default="rsa:2048", help="rsa:2048 (default), rsa:3072, rsa:4096, ed25519"
    )
    make.add_argument("--record-first", action="store_true", help="do not sign with it yet")
    show = below.add(
        "show",
        "the keys that are there, with their DNS records",
        run=run_show,
        about="Prints for each key of control/dkim the TXT record that receivers look for.",
        examples="  qmtls dkim show",
    )
    add_json(show)


def run_make(args: argparse.Namespace) -> int:
    home: Home = args.home
    try:
        domain, selector = dkim_names(f"{args.domain}.{args.selector}")
    except BadValueError as problem:
        args.parser.error(str(problem))
    if "." in args.selector:
        args.parser.error("a selector has no dot in it")
    made = DkimKey(domain, selector, _new_key(args), Origin(""))
    directory = home.control / DIRECTORY
    path = directory / f"{domain}.{selector}{SUFFIX}{NEXT if args.record_first else ''}"
    with as_owner_of(home.control):
        if not home.control.is_dir():
            raise CommandError(f"{home.control}: is no directory; `qmtls init` makes a home, --home names another one")
        directory.mkdir(mode=0o750, exist_ok=True)
        refuse_existing(path)
        write(path, key_pem(made.key), PRIVATE)
    print(f"{path}: the private key; it stays here")
    print("put this into the DNS:")
    print(_zone_line(made))
    return DONE


def run_show(args: argparse.Namespace) -> int:
    home: Home = args.home
    with as_owner_of(home.control):
        files = ControlFiles(home.control)
        keys = read_dkim_keys(files)
    emit(_rows(keys), args.json, lambda row: f"{row['file']} ({row['kind']})\n{row['zone']}")
    try:
        files.finish()
    except ControlError as problem:
        raise CommandError(str(problem)) from None
    return DONE if keys else FINDINGS


def _new_key(args: argparse.Namespace) -> RSAPrivateKey | Ed25519PrivateKey:
    if args.key == "ed25519":
        return Ed25519PrivateKey.generate()
    found = _RSA.match(args.key)
    if found is not None:
        return generate_private_key(65537, int(found[1]))
    return cast(NoReturn, args.parser.error(f"{args.key} is not known; write rsa:2048, rsa:3072, rsa:4096 or ed25519"))


def _rows(keys: dict[str, tuple[DkimKey, ...]]) -> Iterator[Row]:
    for domain in sorted(keys):
        for key in keys[domain]:
            name, text = key.record
            yield {
                "file": key.origin.file,
                "domain": domain,
                "selector": key.selector,
                "kind": key.kind,
                "name": name,
                "text": text,
                "zone": _zone_line(key),
            }


def _zone_line(key: DkimKey) -> str:
    """As a zone file has it."""
    name, text = key.record
    strings = " ".join(f'"{text[at : at + STRING]}"' for at in range(0, len(text), STRING))
    return f"{name}. IN TXT ({strings})"
