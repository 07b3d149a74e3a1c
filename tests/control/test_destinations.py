"""The file `destinations`."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.delivery.terms import NO_TERMS, TermRules, Terms
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Rate
from tests.control.directory import compiled, problems, warnings


def rules(control: Path, text: str, **files: str) -> TermRules:
    return compiled(control, {"destinations": text, **files}).terms


def test_without_the_file(tmp_path: Path) -> None:
    assert compiled(tmp_path, {}).terms.of("a.example") is NO_TERMS


def test_all_that_a_line_may_say(tmp_path: Path) -> None:
    line = "A.Example concurrency=3 connections=4 rate=100/m messages-per-connection=50\n"
    found = rules(tmp_path, line).of("a.example")
    assert found == Terms(3, 4, Rate(100, 60.0, "100/m"), 50, Origin("control/destinations", 1))


def test_what_is_not_named_is_as_in_the_line_for_all_wherever_that_stands(tmp_path: Path) -> None:
    found = rules(tmp_path, "# first\n.a.example rate=none\n[192.0.2.1]:2525 connections=1\n* rate=9/h concurrency=2\n")
    rate = Rate(9, 3600.0, "9/h")
    assert found.default == Terms(2, rate=rate, origin=Origin("control/destinations", 4))
    assert found.of("x.a.example") == Terms(2, origin=Origin("control/destinations", 2))
    assert found.of("", "[192.0.2.1]:2525") == Terms(2, 1, rate, origin=Origin("control/destinations", 3))
    assert found.of("a.example") is found.default


def test_the_sample_limits_nothing(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "etc/control/destinations"
    assert rules(tmp_path, sample.read_text()) == TermRules()


def test_the_lines_of_the_sample_work(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "etc/control/destinations"
    lines = [line[6:] for line in sample.read_text().splitlines() if line.startswith("#     ")]
    assert len(rules(tmp_path, "\n".join(lines)).lines) == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.example", "limits nothing; write concurrency connections rate messages-per-connection behind it"),
        ("* ", "limits nothing"),
        ("a.example rate", "'rate' is no limit; write concurrency, connections"),
        ("a.example lanes=3", "'lanes=3' is no limit"),
        ("a.example concurrency=0", "0 is out of range"),
        ("a.example rate=5", "'5' is no rate"),
        ("a.example rate=1/s rate=2/s", "rate= is here twice"),
        ("a.example:25 rate=1/s", "'a.example:25' is no next hop; write [host]:port"),
        ("a..b concurrency=1", "is no host name"),
        ("* rate=1/s\n* rate=2/s", "control/destinations:2: * is here for the second time; control/destinations:1"),
        ("a.example rate=1/s\nA.example rate=2/s", "a.example is here for the second time"),
    ],
)
def test_what_is_not_understood_is_a_problem(tmp_path: Path, line: str, said: str) -> None:
    (found,) = problems(tmp_path, {"destinations": f"{line}\n"})
    assert said in found


def test_lines_that_have_no_effect_are_told(tmp_path: Path) -> None:
    found = warnings(
        tmp_path,
        {
            "smtproutes": "a.example:relay.example:2525\nb.example:\n",
            "destinations": "a.example concurrency=30\nb.example concurrency=20\n[relay.example]:2525 rate=1/s\n",
        },
    )
    routed, high = found
    assert "mail for a.example goes to the relay of control/smtproutes:1, by the relay's line" in routed
    assert "write [relay.example]:2525" in routed
    assert high.startswith("control/destinations:1: concurrency=30 is more than concurrencyremote, which is 20")
