"""What servers say they can do, and how much of it."""

from __future__ import annotations

import pytest

from qmtls.smtp.offers import NO_LIMITS, Limits, read_limits, read_offers


def test_offers() -> None:
    lines = ["pipelining", "SIZE  1000 ", "SIZE 5", "AUTH=LOGIN", "AUTH PLAIN LOGIN", "", " X", "8BITMIME"]
    assert read_offers(lines) == {"PIPELINING": "", "SIZE": "1000", "AUTH": "PLAIN LOGIN", "8BITMIME": ""}


@pytest.mark.parametrize(
    ("parameters", "limits"),
    [
        ("RCPTMAX=100", Limits(recipients=100)),
        ("rcptmax=100 MAILMAX=7", Limits(recipients=100, messages=7)),
        ("X=1 RCPTDOMAINMAX=1 Y", Limits(domains=1)),
        ("RCPTMAX=0 MAILMAX=-1", NO_LIMITS),
        ("RCPTMAX=1234567", NO_LIMITS),
        ("RCPTMAX=1x RCPTMAX", NO_LIMITS),
        ("", NO_LIMITS),
    ],
)
def test_limits(parameters: str, limits: Limits) -> None:
    assert read_limits({"LIMITS": parameters}) == limits


def test_no_limits() -> None:
    assert read_limits({"SIZE": "1"}) == NO_LIMITS
