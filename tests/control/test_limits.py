"""The file `limits`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qmtls.limits import DEFAULT, UNLIMITED, LimitRules
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Rate
from tests.control.directory import compiled, problems


def rules(control: Path, text: str, **files: str) -> LimitRules:
    return compiled(control, {"limits": text, **files}).limits


def test_without_the_file(tmp_path: Path) -> None:
    found = compiled(tmp_path, {"relaynetworks": "192.0.2.0/24"}).limits
    assert found.default == DEFAULT
    assert found.of("192.0.2.7") is UNLIMITED
    assert found.of("198.51.100.1") == DEFAULT


def test_what_is_not_named_is_as_in_the_default_line_wherever_that_stands(tmp_path: Path) -> None:
    found = rules(
        tmp_path,
        "# nobody else\n198.51.100.0/24 messages=100/h errors=3\ndefault connections=7 rate=2/s messages=9/d\n",
    )
    default = replace(
        DEFAULT,
        connections=7,
        rate=Rate(2, 1.0, "2/s"),
        messages=Rate(9, 86400.0, "9/d"),
        origin=Origin("control/limits", 3),
    )
    assert found.of("203.0.113.1") == default
    assert found.of("198.51.100.9") == replace(
        default, messages=Rate(100, 3600.0, "100/h"), errors=3, origin=Origin("control/limits", 2)
    )


def test_every_word(tmp_path: Path) -> None:
    line = "2001:db8::/32 connections=1 rate=2/s messages=3/m commands=4/h logins=5/d recipients=6 errors=7"
    found = rules(tmp_path, line).of("2001:db8::1")
    rates = (found.rate, found.messages, found.commands, found.logins)
    assert [rate.text for rate in rates if rate is not None] == ["2/s", "3/m", "4/h", "5/d"]
    assert (found.connections, found.recipients, found.errors) == (1, 6, 7)


def test_none_is_no_limit(tmp_path: Path) -> None:
    found = rules(tmp_path, "default messages=1/h\n192.0.2.1 connections=none messages=none logins=none")
    assert found.of("192.0.2.1").connections == 0
    assert found.of("192.0.2.1").messages is found.of("192.0.2.1").logins is None


def test_a_line_limits_our_own_networks_too(tmp_path: Path) -> None:
    found = rules(tmp_path, "192.0.2.1 connections=3\n127.0.0.1 errors=2", relaynetworks="192.0.2.0/24")
    assert found.of("192.0.2.1").connections == 3
    assert found.of("192.0.2.2") is UNLIMITED
    assert found.of("127.0.0.1").errors == 2
    assert found.of("127.0.0.2") is UNLIMITED


def test_the_sample_says_what_holds_without_it(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "etc/control/limits"
    found = rules(tmp_path, sample.read_text())
    assert replace(found.default, origin=DEFAULT.origin) == DEFAULT
    assert not found.lines


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("default", "limits nothing"),
        ("192.0.2.0/24 ", "limits nothing"),
        ("192.0.2.1/24 errors=1", "has host bits set; write 192.0.2.0/24"),
        ("example.org errors=1", "'example.org' is no network"),
        ("default speed=1", "'speed=1' is no limit; write connections, rate, messages,"),
        ("default connections", "'connections' is no limit"),
        ("default Connections=1", "is no limit"),
        ("default connections=", "'' is no whole number"),
        ("default connections=-1", "is no whole number"),
        ("default connections=0", "0 is out of range"),
        ("default connections=1 connections=2", "connections= is here twice"),
        ("default rate=100", "'100' is no rate"),
        ("default rate=0/s", "'0/s' is no rate"),
        ("default messages=1/y", "'1/y' is no rate"),
        ("default recipients=none", "'none' is no whole number"),
        ("default recipients=1001", "1001 is out of range"),
        ("default errors=0", "0 is out of range"),
        (
            "default errors=1\ndefault errors=2",
            "control/limits:2: default is here for the second time; control/limits:1",
        ),
        ("::1 errors=1\n0::1/128 errors=2", "control/limits:2: ::1/128 is here for the second time; control/limits:1"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, said: str) -> None:
    (problem,) = problems(tmp_path, {"limits": line})
    assert problem.startswith("control/limits:")
    assert said in problem


def test_all_problems_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, {"limits": "default x=1\n192.0.2.1 y=1\nz errors=1"})
    assert [problem[:16] for problem in found] == [f"control/limits:{line}" for line in (1, 2, 3)]
