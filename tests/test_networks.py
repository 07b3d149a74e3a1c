"""Addresses, and the networks that hold them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.networks import NetworkTable, read_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", IPv4Address("192.0.2.1")),
        ("2001:db8::1", IPv6Address("2001:db8::1")),
        ("::ffff:192.0.2.1", IPv4Address("192.0.2.1")),
        ("::192.0.2.1", IPv6Address("::192.0.2.1")),
        ("", None),
        ("/run/socket", None),
        ("192.0.2.256", None),
        ("192.0.2.0/24", None),
        ("[192.0.2.1]", None),
    ],
)
def test_what_is_an_address(text: str, address: object) -> None:
    assert read_address(text) == address


def test_a_zone_is_no_obstacle_to_a_network() -> None:
    address = read_address("fe80::1%eth0")
    assert address is not None
    assert NetworkTable({ip_network("fe80::/10"): "link"}).find(address) == "link"


def test_the_versions_do_not_mix() -> None:
    table = NetworkTable({ip_network("::/0"): "six"})
    assert table.find(ip_address("2001:db8::1")) == "six"
    assert table.find(ip_address("192.0.2.1")) is None


_NETWORKS = st.dictionaries(
    st.builds(
        lambda number, length: ip_network((number << 24, length), strict=False),
        st.integers(0, 7),
        st.integers(0, 32),
    ),
    st.integers(0, 3),
)


@given(_NETWORKS, st.integers(0, 7), st.integers(0, 0xFFFFFF))
def test_the_most_specific_network_counts(networks: dict[object, int], first: int, rest: int) -> None:
    address = IPv4Address(first << 24 | rest)
    holding = [network for network in networks if address in network]  # type: ignore[operator]
    expected = networks[max(holding, key=lambda network: network.prefixlen)] if holding else None  # type: ignore[attr-defined]
    assert NetworkTable(networks).find(address) == expected  # type: ignore[arg-type]
