"""The PROXY protocol's header: what it says, and what is none."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.net.proxyheader import MAX_V1, MAX_V2, V2, BadHeader, Proxied, read_header


def v2(command: int, family: int, addresses: bytes, more: bytes = b"") -> bytes:
    return V2 + bytes([command, family]) + (len(addresses) + len(more)).to_bytes(2, "big") + addresses + more


def packed(client: str, local: str) -> bytes:
    return ip_address(client).packed + ip_address(local).packed + b"\x9c\x40\x00\x19"


TCP4 = v2(0x21, 0x11, packed("192.0.2.7", "198.51.100.25"))
TCP6 = v2(0x21, 0x21, packed("2001:db8::7", "2001:db8::25"))
GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\r\n", "192.0.2.7", "198.51.100.25"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", "255.255.255.255"),
    (b"PROXY TCP6 2001:DB8::7 2001:db8::25 40000 25\r\n", "2001:db8::7", "2001:db8::25"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 0 0\r\n", "192.0.2.7", "::1"),
    (b"PROXY UNKNOWN\r\n", "", ""),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", ""),
    (TCP4, "192.0.2.7", "198.51.100.25"),
    (TCP6, "2001:db8::7", "2001:db8::25"),
    (v2(0x21, 0x21, packed("::ffff:192.0.2.7", "::1")), "192.0.2.7", "::1"),
    (v2(0x21, 0x11, packed("192.0.2.7", "198.51.100.25"), b"\x03\x00\x04abcd"), "192.0.2.7", "198.51.100.25"),
    (v2(0x20, 0x11, packed("192.0.2.7", "198.51.100.25")), "", ""),  # LOCAL: the proxy looks whether we live
    (v2(0x20, 0x00, b""), "", ""),
    (v2(0x21, 0x00, b""), "", ""),
    (v2(0x21, 0x31, bytes(216)), "", ""),
]


@pytest.mark.parametrize(("header", "client", "local"), GOOD)
def test_what_it_says(header: bytes, client: str, local: str) -> None:
    assert read_header(header) == Proxied(client, local, len(header))
    assert read_header(header + b"EHLO c\r\n") == Proxied(client, local, len(header))


@pytest.mark.parametrize("header", [header for header, *_ in GOOD])
def test_it_may_come_in_pieces(header: bytes) -> None:
    for cut in range(len(header)):
        assert read_header(header[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO c.example\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PROXY",
        b"proxy TCP4 192.0.2.7 198.51.100.25 40000 25\r\n",
        b"PROXIES TCP4",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 40000\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25 26\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.25 40000 25\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.25 40000 25\r\n",
        b"PROXY TCP4 2001:db8::7 198.51.100.25 40000 25\r\n",
        b"PROXY TCP6 192.0.2.7 ::1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.25 40000 25\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.25 40000 25\r\n",
        b"PROXY TCP4 192.0.2.7\n 198.51.100.25 40000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 -1 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 \xb2 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        b"PROXY TCP4 \xff 198.51.100.25 40000 25\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN " + b"x" * MAX_V1,
        b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\n" + b"x" * MAX_V1,
        V2 + b"\x11\x11\x00\x0c" + bytes(12),
        V2 + b"\x22\x11\x00\x0c" + bytes(12),
        V2 + b"\x21\x12\x00\x0c" + bytes(12),
        V2 + b"\x21\x41\x00\x0c" + bytes(12),
        V2 + b"\x21\x11\x00\x0b" + bytes(11),
        V2 + b"\x21\x21\x00\x0c" + bytes(12),
        V2 + b"\x21\x11" + MAX_V2.to_bytes(2, "big"),
        V2[:-1] + b"\r",
    ],
)
def test_what_is_none(data: bytes) -> None:
    if data == b"PROXY":
        assert read_header(data) is None  # so far
        return
    with pytest.raises(BadHeader):
        read_header(data)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2, V2 + b"\x21\x11", TCP4[:20]]))
def test_no_octets_are_a_fault_and_none_are_awaited_for_ever(data: bytes, start: bytes) -> None:
    try:
        found = read_header(start + data)
    except BadHeader:
        return
    assert found is None or found.size <= len(start + data)
    with_more = start + data + bytes(MAX_V2)
    try:
        assert read_header(with_more) is not None
    except BadHeader:
        pass
