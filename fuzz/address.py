# Invariant: a text gives an address or an AddressError; an address is printable, within the limits, and parses to
# itself; without `smtputf8` it is ASCII.
"""Fuzz target: mailboxes (qmtls/smtp/address.py)."""

from __future__ import annotations

from fuzz.harness import main
from qmtls.smtp.address import MAX_PATH, AddressError, parse_address

SEEDS = (
    b"a.b@c.example",
    b'"a\\"b c"@d.example',
    b"a@[192.0.2.1]",
    b"a@[IPv6:2001:db8::1]",
    "jürgen@bücher.example".encode(),
)


def target(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for smtputf8 in (False, True):
        try:
            address = parse_address(text, smtputf8=smtputf8)
        except AddressError as error:
            assert str(error).isascii() and str(error).isprintable()
            continue
        shown = str(address)
        assert shown.isprintable() and len(shown.encode()) <= MAX_PATH - 2
        assert smtputf8 or shown.isascii()
        assert parse_address(shown, smtputf8=smtputf8) == address


if __name__ == "__main__":
    main(target, SEEDS)
