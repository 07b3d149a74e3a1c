# Invariant: whatever comes, it is a header, a refusal, or more is awaited, and never without end; what follows a header
# does not change it, and its addresses are addresses.
"""Fuzz target: the PROXY protocol's header (qmtls/net/proxyheader.py)."""

from __future__ import annotations

from ipaddress import ip_address

from fuzz.harness import main
from qmtls.net.proxyheader import MAX_V2, V2, BadHeader, Proxied, read_header

SEEDS = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 65535\r\nEHLO c\r\n",
    b"PROXY UNKNOWN x\r\n",
    V2 + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x19",
    V2 + b"\x21\x21\x00\x24" + bytes(36),
    V2 + b"\x20\x00\x00\x00",
)


def read(data: bytes) -> Proxied | str | None:
    try:
        return read_header(data)
    except BadHeader as problem:
        return str(problem)


def target(data: bytes) -> None:
    found = read(data)
    for cut in range(0, len(data), max(1, len(data) // 8)):
        part = read(data[:cut])
        assert part is None or part == found or (isinstance(part, str) and isinstance(found, str))
    if isinstance(found, Proxied):
        assert 0 < found.size <= len(data)
        assert read(data + b"\0") == found
        for address in (found.client, found.local):
            assert not address or str(ip_address(address)) == address
    if found is None:
        assert len(data) < MAX_V2
        assert read(data + bytes(MAX_V2)) is not None


if __name__ == "__main__":
    main(target, SEEDS)
