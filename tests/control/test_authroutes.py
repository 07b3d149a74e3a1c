"""`authroutes`: logins at relays, and a file that only the service may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.compile import compile_control
from qmtls.control.settings import ControlError
from qmtls.smtp.login import Login, login_for
from tests.control.directory import compiled, problems, warnings

ROUTES = "a.example:relay.example\nb.example:smtps:other.example\n"


def test_logins(tmp_path: Path) -> None:
    text = "relay.example  joe\tpass word \n# a note\nOther.Example:465 ann *\n[192.0.2.1]:587 *\n"
    logins = compiled(tmp_path, {"smtproutes": ROUTES + ":192.0.2.1:587\n", "authroutes": text}).logins
    assert dict(logins) == {
        ("relay.example", 0): Login("joe", "pass word", "control/authroutes:1"),
        ("other.example", 465): Login("ann", "*", "control/authroutes:3"),
        ("192.0.2.1", 587): Login("", None, "control/authroutes:4"),
    }
    assert login_for(logins, "relay.example", 2525) == logins["relay.example", 0]
    assert login_for(logins, "other.example", 25) is None


def test_none(tmp_path: Path) -> None:
    assert compiled(tmp_path, {}).logins == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("relay.example", "is no relay with a name"),
        ("re_lay! joe x", "no host name"),
        ("relay.example joe " + "x" * 1025, "the login for 'relay.example' is too long"),
        ("relay.example joe x\nRelay.example ann y", "has the same relay as control/authroutes:1"),
    ],
)
def test_a_bad_line(tmp_path: Path, line: str, words: str) -> None:
    (problem,) = problems(tmp_path, {"smtproutes": ROUTES, "authroutes": line + "\n"})
    assert words in problem and "secret" not in problem


def test_a_line_for_nothing_is_told(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"smtproutes": ROUTES, "authroutes": "relay.example:587 joe secret\n"}
    (warning,) = warnings(tmp_path, files)
    assert "no line of smtproutes leads there" in warning and "secret" not in warning


def test_others_must_not_read_it(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"smtproutes": ROUTES, "authroutes": "relay.example joe x\n"}
    compiled(tmp_path, files)
    (tmp_path / "authroutes").chmod(0o644)
    with pytest.raises(ControlError, match=f"chmod 0640 {tmp_path}/authroutes"):
        compile_control(tmp_path)
    (tmp_path / "authroutes").write_text("# no line yet\n")
    assert compile_control(tmp_path).logins == {}
