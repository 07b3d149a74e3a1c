"""Which line of `destinations` counts."""

from __future__ import annotations

import pytest

from qmtls.delivery.terms import TermRules, Terms

ALL, A, BELOW, RELAY, ANY_PORT = (Terms(concurrency=n) for n in range(1, 6))
RULES = TermRules(ALL, {"a.example": A, ".example": BELOW, "[relay]:25": RELAY, "[relay]": ANY_PORT})


@pytest.mark.parametrize(
    ("domain", "route", "expected"),
    [
        ("a.example", "", A),
        ("b.example", "", BELOW),
        ("x.a.example", "", BELOW),
        ("example", "", ALL),
        ("", "[relay]:25", RELAY),
        ("", "[relay]:587", ANY_PORT),
        ("", "[other]:25", ALL),
    ],
)
def test_the_nearest_line_counts(domain: str, route: str, expected: Terms) -> None:
    assert RULES.of(domain, route) is expected


def test_no_line_exceeds_the_ceiling() -> None:
    assert [Terms(concurrency=n).lanes(20) for n in (0, 3, 30)] == [20, 3, 20]
    assert Terms(concurrency=3).lanes(0) == 0
