"""Which hosts, in which order, and where the list ends."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.mx import (
    MAX_ADDRESSES,
    MAX_ADDRESSES_OF_HOST,
    MailLoop,
    NullMx,
    cut_at_self,
    is_host_name,
    limit_addresses,
    order_mx,
)

OWN = frozenset({"192.0.2.9", "2001:db8::9"})


def order(*records: tuple[int, str]) -> tuple[str, ...]:
    return order_mx(records, "d.example", random.Random(1).random)


def test_by_preference_in_lower_case_without_the_final_dot() -> None:
    assert order((20, "B.example."), (10, "a.example"), (30, "c.example")) == ("a.example", "b.example", "c.example")


def test_at_random_among_equals() -> None:
    rnd = random.Random(7).random
    records = [(10, "a.example"), (10, "b.example"), (5, "first.example")]
    seen = {order_mx(records, "d.example", rnd) for _ in range(100)}
    assert seen == {("first.example", "a.example", "b.example"), ("first.example", "b.example", "a.example")}


def test_a_name_that_stands_twice_is_tried_once() -> None:
    assert order((20, "a.example"), (10, "b.example"), (5, "A.example.")) == ("a.example", "b.example")


def test_no_records_mean_the_domain_itself() -> None:
    assert order() == ("d.example",)


@pytest.mark.parametrize("records", [[(0, ".")], [(0, "")], [(10, ".")], [(0, "."), (5, ".")]])
def test_null_mx(records: list[tuple[int, str]]) -> None:
    with pytest.raises(NullMx, match=r"d\.example") as caught:
        order(*records)
    assert caught.value.status == "5.1.10"


def test_names_that_are_no_host_names_are_skipped() -> None:
    assert order((0, "."), (1, "192.0.2.1"), (2, "../x"), (3, "a b.example"), (9, "a.example")) == ("a.example",)
    assert order((1, "192.0.2.1")) == ()


@pytest.mark.parametrize(
    "name",
    ["a.example", "A-1.example", "x", "mx_1.example", "1.2.3.example", "xn--bcher-kva.example", "a." * 126 + "b"],
)
def test_host_names(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a.example",
        "a-.example",
        "a.example\n",
        "a\0.example",
        "a/b",
        "..",
        "192.0.2.1",
        "7",
        "a." * 127 + "b",
        "x" * 64 + ".example",
        "b\u00fccher.example",
        "\u212aelvin.example",
        "*.example",
        "[192.0.2.1]",
        "::1",
    ],
)
def test_no_host_names(name: str) -> None:
    assert not is_host_name(name)


@given(st.text(max_size=20))
def test_a_host_name_is_safe_as_a_file_name(name: str) -> None:
    if is_host_name(name):
        assert name.isascii() and not set(name) & set("/\0 \n\\") and not name.startswith(".")


# ------------------------------------------------------------ ourselves

RECORDS = ((10, "a.example"), (20, "b.example"), (20, "us.example"), (30, "c.example"))
A = ("a.example", ("192.0.2.1", "2001:db8::1"))
B = ("b.example", ("192.0.2.2",))
US = ("us.example", ("192.0.2.3", "192.0.2.9"))
C = ("c.example", ("192.0.2.4",))


def test_the_list_is_cut_at_our_preference_wherever_equals_came_to_stand() -> None:
    assert cut_at_self((A, B, US, C), OWN, "d.example", RECORDS) == (A,)
    assert cut_at_self((A, US, B, C), OWN, "d.example", RECORDS) == (A,)


def test_nothing_is_cut_where_we_are_not_named() -> None:
    assert cut_at_self((A, B, C), OWN, "d.example", RECORDS) == (A, B, C)
    assert cut_at_self((), OWN, "d.example", RECORDS) == ()


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8:0::9", "::ffff:192.0.2.9", "0.0.0.0", "::"])
def test_best_is_ourselves(address: str) -> None:
    us = ("us.example", (address,))
    with pytest.raises(MailLoop, match=r"d\.example") as caught:
        cut_at_self((us, C), OWN, "d.example", ((20, "us.example"), (30, "c.example")))
    assert caught.value.status == "5.4.6"


def test_the_domain_itself_is_ourselves() -> None:
    with pytest.raises(MailLoop):
        cut_at_self((("d.example", ("192.0.2.9",)),), OWN, "d.example", ())


def test_a_better_host_without_an_address_just_now_is_doubt_and_no_loop() -> None:
    assert cut_at_self((US, C), OWN, "d.example", RECORDS) == ()
    assert cut_at_self((("a.example", ()), US, C), OWN, "d.example", RECORDS) == ()


def test_so_many_addresses_and_no_more() -> None:
    """A host with many leaves the others their turn."""
    assert limit_addresses([("a", ["1", "2"]), ("b", []), ("c", ["3"])]) == [("a", "1"), ("a", "2"), ("c", "3")]
    many = [("a", [str(n) for n in range(100)]), *((f"h{n}", ["1"]) for n in range(100))]
    limited = limit_addresses(many)
    assert len(limited) == MAX_ADDRESSES
    assert [name for name, _ in limited].count("a") == MAX_ADDRESSES_OF_HOST
    assert limited[MAX_ADDRESSES_OF_HOST] == ("h0", "1")
