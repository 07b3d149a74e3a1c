"""The PROXY protocol's header, versions 1 and 2: who the client behind a proxy is. Pure.

A parser of our own, because the framework's refuses a header that comes in several segments, has no bound in time,
and gives the connection to the server before it knows the client.

A header without addresses (UNKNOWN, LOCAL, a unix socket) stands for a client without any: it has no rights by its
address. The proxy's own, which the specification proposes, would give it those of the proxy.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

V1 = b"PROXY "
V2 = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1 = 107  # octets with its CRLF, as the specification counts them
V2_FIXED = 16  # octets before the addresses
MAX_V2 = 4096  # octets in all; addresses take 36, the rest is what a proxy has to say of its TLS
_MAX_PORT = 65535

_LOCAL, _PROXY = 0x20, 0x21  # version and command
_KINDS: dict[bytes, type[IPv4Address] | type[IPv6Address]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
_STREAMS: dict[int, tuple[type[IPv4Address] | type[IPv6Address], int]] = {
    0x11: (IPv4Address, 4),
    0x21: (IPv6Address, 16),
}
_WITHOUT_ADDRESS = frozenset({0x00, 0x31})  # unspecified; a unix stream


class BadHeader(Exception):
    """What came is no such header."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """IP addresses of the client, and of ours that it connected to; "" = not told. `size` octets were the header."""

    client: str
    local: str
    size: int


def read_header(data: bytes) -> Proxied | None:
    """The header at the beginning of `data`; None = more is needed. Raises BadHeader."""
    if data[:1] == V1[:1]:
        return _read_v1(data)
    if data.startswith(V2[: len(data)]):
        return _read_v2(data)
    raise BadHeader("no header of the PROXY protocol")


def _read_v1(data: bytes) -> Proxied | None:
    if not data.startswith(V1[: len(data)]):
        raise BadHeader("no header of the PROXY protocol")
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise BadHeader(f"no end within {MAX_V1} octets")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return Proxied("", "", end + 2)
    if len(words) != 6 or words[1] not in _KINDS:
        raise BadHeader("malformed")
    for port in words[4:]:
        if not (port.isdigit() and len(port) <= 5 and int(port) <= _MAX_PORT):
            raise BadHeader("malformed port")
    client, local = (_address(_KINDS[words[1]], word) for word in words[2:4])
    return Proxied(client, local, end + 2)


def _address(kind: type[IPv4Address] | type[IPv6Address], word: bytes) -> str:
    try:
        address = kind(word.decode("ascii"))
    except ValueError:  # also if it is no ASCII
        raise BadHeader("malformed address") from None
    if getattr(address, "scope_id", None):
        raise BadHeader("an address with a zone")
    return _text(address)


def _text(address: IPv4Address | IPv6Address) -> str:
    """An IPv4 address in IPv6 clothes is an IPv4 address."""
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)


def _read_v2(data: bytes) -> Proxied | None:
    if len(data) < V2_FIXED:
        return None
    command, family = data[12], data[13]
    size = V2_FIXED + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("a version or command that is not known")
    if size > MAX_V2:
        raise BadHeader(f"more than {MAX_V2} octets")
    if len(data) < size:
        return None
    if command == _LOCAL or family in _WITHOUT_ADDRESS:
        return Proxied("", "", size)
    if family not in _STREAMS:
        raise BadHeader("a kind of address that is not TCP")
    kind, octets = _STREAMS[family]
    if size < V2_FIXED + 2 * octets + 4:
        raise BadHeader("too short for its addresses")
    client = data[V2_FIXED : V2_FIXED + octets]
    local = data[V2_FIXED + octets : V2_FIXED + 2 * octets]
    return Proxied(_text(kind(client)), _text(kind(local)), size)
