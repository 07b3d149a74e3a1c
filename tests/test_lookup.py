"""Names in rules: compared without case in ASCII, the nearest parent counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.lookup import folded, is_listed, nearest, parents


def test_only_ascii_is_compared_without_case() -> None:
    assert folded("Bücher-K") == "bücher-k"
    assert folded("Ü\N{KELVIN SIGN}A") == "Ü\N{KELVIN SIGN}a"


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("a.b.example", [".b.example", ".example"]),
        (".b.example", [".example"]),
        ("example", []),
        ("", []),
    ],
)
def test_parents(host: str, found: list[str]) -> None:
    assert list(parents(host)) == found


RULES = {"b.example": 1, ".b.example": 2, ".example": 3, "example": 4}


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("b.example", 1),
        ("a.b.example", 2),
        ("x.a.b.example", 2),
        ("c.example", 3),
        ("xb.example", 3),
        ("example", 4),
        ("example.org", None),
        ("", None),
    ],
)
def test_the_nearest_counts(host: str, found: int | None) -> None:
    assert nearest(RULES, host) == found
    assert is_listed(RULES.keys(), host) == (found is not None)


_HOST = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(".".join)


@given(st.sets(_HOST | _HOST.map(".".__add__)), _HOST)
def test_all_three_mean_the_same(listed: set[str], host: str) -> None:
    forms = [form for form in (host, *parents(host)) if form in listed]
    assert is_listed(listed, host) == bool(forms)
    assert nearest({name: name for name in listed}, host) == (forms[0] if forms else None)
