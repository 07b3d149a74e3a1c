# Invariant: what is found in a header does not depend on the cut, nor on anything behind its end; a field that is put
# in front is found; `TLS-Required` counts only where it stands once.
"""Fuzz target: the header section as it passes (qmtls/smtp/header.py)."""

from __future__ import annotations

from typing import NamedTuple

from fuzz.harness import main, pieces
from qmtls.smtp.header import HeaderScan

SEEDS = (
    b"\x00Date: x\r\nFrom: a@b\r\nMessage-ID:\r\n <1@b>\r\nTLS-Required: No\r\n\r\nbody\r\n",
    b"\x02\r\nDate: in the body\r\n",
    b"\x01TLS-Required : no\r\ntls-required:\tNO\r\n\r\n",
    b"\x03Subject: x\r\n Date: folded\r\n\r\n",
)


class Findings(NamedTuple):
    whole: bool
    has_date: bool
    has_message_id: bool
    tls_optional: bool


def scan(parts: list[bytes]) -> Findings:
    found = HeaderScan()
    if not any(found.feed(part) for part in parts):
        found.finish()
    return Findings(found.whole, found.has_date, found.has_message_id, found.tls_optional)


def target(data: bytes) -> None:
    stream, parts = pieces(data)
    found = scan([stream])
    assert found == scan(parts)
    header, end, _ = (b"\r\n" + stream).partition(b"\r\n\r\n")
    assert not end or found == scan([header[2:] + end if header else b"\r\n"])
    first = b"TLS-Required: no\r\n"
    if not stream.startswith((b" ", b"\t")):  # which would make it longer
        assert scan([b"Date: x\r\n" + stream]).has_date
        if b"tls-required" not in header.lower():
            assert scan([first + stream]).tls_optional
    assert not scan([first + first + stream]).tls_optional


if __name__ == "__main__":
    main(target, SEEDS)
