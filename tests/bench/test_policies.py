"""The directory of the policy benchmark is one that compiles, and its decisions are the ones it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import policies
from qmtls.control.compile import compile_control
from qmtls.tls.policy import Level, find_policy


@pytest.mark.parametrize("lines", [5, 12])
def test_each_decision_comes_from_the_line_that_it_names(tmp_path: Path, lines: int) -> None:
    rules = compile_control(policies.control(tmp_path, lines, "127.0.0.1:5353")).tls
    assert len(rules.lines) == lines
    found = {what: find_policy(rules, domain, "mx.example").level for what, domain in policies.hops(lines)}
    assert list(found.values()) == [Level.PIN, Level.ENCRYPT, Level.DANE, Level.DANE]


def test_the_zone_signs_one_domain_only() -> None:
    assert policies.zone("_25._tcp.mx.dane.example", "TLSA").records
    assert policies.zone("dane.example", "MX").secure and not policies.zone("plain.example", "MX").secure
    assert not policies.zone("_mta-sts.plain.example", "TXT").exists
