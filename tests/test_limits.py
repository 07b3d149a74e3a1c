"""Which limits are about an address, and how addresses are counted."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from qmtls.limits import (
    DEFAULT,
    UNLIMITED,
    LimitRules,
    Limits,
    counted_as,
    too_fast,
    too_many_connections,
)
from qmtls.tls.scope import Rate

HOUR = Rate(100, 3600.0, "100/h")


def rules(*networks: str, free: tuple[str, ...] = ()) -> LimitRules:
    """Each network with as many connections as its prefix is long."""
    blocks = [ip_network(text) for text in networks]
    lines = {block: Limits(connections=block.prefixlen) for block in blocks}
    return LimitRules(DEFAULT, lines, tuple(ip_network(text) for text in free))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "", "/run/socket"])
def test_our_own_host_is_not_limited(address: str) -> None:
    assert rules().of(address) is UNLIMITED


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
def test_everyone_else_has_the_default(address: str) -> None:
    assert rules().of(address) is DEFAULT


def test_relay_networks_are_not_limited() -> None:
    found = rules(free=("192.0.2.0/24", "2001:db8::/32"))
    assert found.of("192.0.2.1") is found.of("::ffff:192.0.2.1") is found.of("2001:db8::1") is UNLIMITED
    assert found.of("192.0.3.1") is DEFAULT


@pytest.mark.parametrize(
    ("address", "length"),
    [
        ("10.1.2.3", 32),
        ("10.1.2.4", 24),
        ("10.1.9.9", 8),
        ("::ffff:10.1.2.4", 24),
        ("127.0.0.1", 8),  # a line of its own limits also our own host
        ("2001:db8::5", 64),
        ("2001:db8:0:1::", 32),
        ("11.0.0.0", DEFAULT.connections),
    ],
)
def test_the_most_specific_line_counts_also_for_our_own(address: str, length: int) -> None:
    found = rules(
        *("10.0.0.0/8", "10.1.2.3/32", "10.1.2.0/24", "127.0.0.0/8", "2001:db8::/32", "2001:db8::/64"),
        free=("10.1.0.0/16", "2001:db8::5/128"),
    )
    assert found.of(address).connections == length


def test_a_line_for_all_addresses() -> None:
    found = rules("0.0.0.0/0", "::/0")
    for address in ("127.0.0.1", "::1", "192.0.2.1", "ff00::"):
        assert found.of(address).connections == 0 and found.of(address) is not UNLIMITED


def test_addresses_of_one_customer_are_counted_together() -> None:
    assert counted_as("192.0.2.1") == counted_as("::ffff:192.0.2.1") != counted_as("192.0.2.2")
    assert counted_as("2001:db8::1") == counted_as("2001:db8::ffff:0:0:1") != counted_as("2001:db8:0:1::1")
    assert len({counted_as(a) for a in ("", "1.2.3.4", "102:304::", "x")}) == 4


def test_what_is_answered() -> None:
    assert str(too_many_connections(Limits(connections=7))) == (
        "421 4.7.0 too many connections from your address, 7 at a time; try later"
    )
    assert str(too_fast("messages", HOUR, 35.1)) == (
        "450 4.7.1 too many messages from your address, 100/h at most; try again in 36 seconds"
    )
    assert too_fast("commands", HOUR, 0.0).code == 421
    assert "in 1 seconds" in too_fast("connections", HOUR, 0.0).text
