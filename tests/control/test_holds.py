"""`holds`: what a line holds, and which lines are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.describe import describe
from qmtls.control.holds import load_holds
from qmtls.control.settings import ControlError
from qmtls.delivery.holds import Holds
from qmtls.smtp.address import parse_address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from tests.control.directory import compiled, problems

NOW = 1_790_000_000.0  # 2026-09-21


def envelope(*to: str, sender: str = "joe@a.example", client: str = "192.0.2.7", identity: str = "") -> Envelope:
    return Envelope(
        parse_address(sender) if sender else None,
        tuple(Recipient(parse_address(path)) for path in to),
        Arrival(NOW, client, identity=identity),
    )


def holds(tmp_path: Path, text: str) -> Holds:
    return compiled(tmp_path / "control", {"holds": text}).holds


@pytest.mark.parametrize(
    ("line", "message", "held"),
    [
        ("to=@b.example", envelope("x@b.example", "x@c.example", "y@B.example"), [0, 2]),
        ("domain=b.example", envelope("x@b.example", "x@s.b.example"), [0]),
        ("domain=.b.example,c.example", envelope("x@b.example", "x@s.b.example", "x@c.example"), [1, 2]),
        ("destination=b.example", envelope("x@b.example", "x@c.example"), [0]),
        ("from=@a.example", envelope("x@b.example"), [0]),
        ("from=<>", envelope("x@b.example", sender=""), [0]),
        ("from=<>", envelope("x@b.example"), []),
        ("from=@a.example to=x@b.example", envelope("x@b.example", "y@b.example"), [0]),
        ("from=@other.example to=x@b.example", envelope("x@b.example"), []),
        ("client=192.0.2.0/24", envelope("x@b.example"), [0]),
        ("client=2001:db8::/32", envelope("x@b.example", client="2001:db8::1%eth0"), [0]),
        ("client=192.0.2.0/24", envelope("x@b.example", client="::ffff:192.0.2.7"), [0]),
        ("client=192.0.2.0/24", envelope("x@b.example", client=""), []),
        ("client=192.0.2.0/24", envelope("x@b.example", client="unix"), []),
        ("client=Alice@a.example,192.0.9.1", envelope("x@b.example", identity="alice@A.example"), [0]),
        ("client=root", envelope("x@b.example", client="", identity="root"), [0]),
        ("to=@b.example until=2026-09-21", envelope("x@b.example"), [0]),
        ("to=@b.example until=2026-09-20", envelope("x@b.example"), []),
    ],
)
def test_who_is_held(tmp_path: Path, line: str, message: Envelope, held: list[int]) -> None:
    found = holds(tmp_path, f"# a note\n{line}\n").held(message, range(len(message.recipients)), NOW)
    assert list(found) == held


def test_the_sentence_names_the_line_and_its_reason(tmp_path: Path) -> None:
    made = holds(tmp_path, '\nto=@b.example reason="they move, until Monday"\nfrom=@a.example\n')
    first, second = made.rules
    assert first.sentence == "held by control/holds:2 (to=@b.example): they move, until Monday"
    assert second.sentence == "held by control/holds:3 (from=@a.example)"
    assert made.held(envelope("x@b.example"), [0], NOW) == {0: first}, "the first line counts"
    assert made.sentences(NOW) == {first.sentence, second.sentence}


def test_hosts(tmp_path: Path) -> None:
    made = holds(tmp_path, "destination=mx.b.example until=2026-09-21\ndestination=[192.0.2.9]\n")
    assert made.of_host("MX.b.example.", NOW) == made.rules[0]
    assert made.of_host("MX.b.example.", NOW + 2 * 86400) is None
    assert made.of_host("192.0.2.9", NOW) == made.rules[1]
    assert made.of_host("mx2.b.example", NOW) is None
    others = holds(tmp_path, "to=@a.example\n")
    assert others.of_host("", NOW) is None, "a socket has no name, and is none of those without a destination"
    assert not holds(tmp_path, "# nothing\n")
    assert not made.held(envelope("x@b.example"), [0], NOW)


def test_the_check_tells_of_them(tmp_path: Path) -> None:
    settings = compiled(tmp_path / "control", {"holds": "to=@b.example until=2026-09-20\nto=@c.example\n"})
    found = {
        (f.level.value, f.origin.line): f.text for f in describe(settings, NOW) if f.origin.file == "control/holds"
    }
    assert found == {
        ("warning", 1): "to=@b.example until=2026-09-20: that day has passed; remove the line",
        ("note", 2): "to=@c.example: such mail stays in the queue",
    }


@pytest.mark.parametrize(
    "line",
    [
        "until=2027-01-01",
        "reason=why",
        "to=@b.example to=@c.example",
        "to=@b.example domain=c.example",
        "destination=b.example from=@a.example",
        "to=b.example",
        "to=<>",
        "to=",
        "everything",
        "size=10M",
        "to=@b.example until=tomorrow",
        "client=192.0.2.7/24",
        "domain=@b.example",
        "destination=two words",
        'to=@b.example reason="open',
    ],
)
def test_a_line_that_is_not_understood_is_a_problem(tmp_path: Path, line: str) -> None:
    (problem,) = problems(tmp_path / "control", {"holds": f"to=@fine.example\n{line}\n"})
    assert problem.startswith("control/holds:2: ")
    with pytest.raises(ControlError):
        load_holds(tmp_path / "control")
