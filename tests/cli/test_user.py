"""Users with a password, by command."""

from __future__ import annotations

import getpass
import io
import stat
import sys
from pathlib import Path

import pytest

from qmtls.cli.main import main
from qmtls.control.compile import compile_control
from qmtls.net.passwords import matches
from tests.cli.conftest import Cli


def test_add_list_remove(cli: Cli, home: Path) -> None:
    users = home / "control/users"
    added = cli("user", "add", "Joe", "from=@a.example,<>", "rate=5/h", stdin=b"sesame 1\n")
    assert added.status == 0
    assert added.out == f"{users}: joe added; AUTH is offered under TLS\n"
    assert stat.S_IMODE(users.stat().st_mode) == 0o640
    assert cli("user", "add", "ann@a.example", stdin="r\xf6de W\xf6rter".encode()).status == 0
    known = compile_control(home / "control").users
    assert matches(known["joe"].hash, "sesame 1")
    assert matches(known["ann@a.example"].hash, "r\xf6de W\xf6rter")
    assert known["joe"].rule.scope.rate is not None
    rows = cli("user", "list", "--json").rows
    assert rows == [
        {"user": "joe", "scope": "from=@a.example,<> rate=5/h", "line": 1},
        {"user": "ann@a.example", "scope": "", "line": 2},
    ]
    assert cli("user", "list").out == "joe\tfrom=@a.example,<> rate=5/h\nann@a.example\n"
    assert cli("user", "remove", "JOE").status == 0
    assert list(compile_control(home / "control").users) == ["ann@a.example"]
    gone = cli("user", "remove", "joe")
    assert (gone.status, gone.out) == (1, f"{users}: no such user\n")


def test_no_password_is_ever_printed(cli: Cli, home: Path) -> None:
    for result in (
        cli("user", "add", "joe", stdin=b"sesame 1\n"),
        cli("user", "add", "joe", stdin=b"sesame 1\n"),
        cli("user", "list", "--json"),
        cli("user", "remove", "joe"),
    ):
        assert "sesame" not in result.out + result.err and "argon2" not in result.out + result.err


def test_what_else_is_in_the_file_stays(cli: Cli, home: Path) -> None:
    users = home / "control/users"
    cli("user", "add", "joe", stdin=b"sesame 1\n")
    line = users.read_text()
    users.write_text(f"# the office\n\n{line}# a bad line\nx y\n")
    assert cli("user", "add", "joe", "label=new", "--replace", stdin=b"sesame 2\n").status == 0
    found = users.read_text().splitlines()
    assert (found[:2], found[3:]) == (["# the office", ""], ["# a bad line", "x y"])
    assert found[2].startswith("joe $argon2id$") and found[2].endswith(" label=new")
    assert matches(found[2].split()[1], "sesame 2")
    assert cli("user", "remove", "x").status == 0
    assert users.read_text().splitlines() == [*found[:3], "# a bad line"]
    assert [path.name for path in (home / "control").iterdir() if "users" in path.name] == ["users"]


def test_who_exists_is_not_changed_by_accident(cli: Cli, home: Path) -> None:
    cli("user", "add", "joe", stdin=b"sesame 1\n")
    before = (home / "control/users").read_text()
    again = cli("user", "add", "JOE", stdin=b"sesame 2\n")
    assert again.status == 1
    assert "joe exists already; --replace" in again.err
    assert (home / "control/users").read_text() == before


def test_a_file_that_others_can_read_is_closed(cli: Cli, home: Path) -> None:
    users = home / "control/users"
    users.write_text("# none yet\n")
    users.chmod(0o664)
    assert cli("user", "add", "joe", stdin=b"sesame 1\n").status == 0
    assert stat.S_IMODE(users.stat().st_mode) == 0o660
    assert "joe" in compile_control(home / "control").users


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("joe",), b"", "8 characters at least"),
        (("joe",), b"short\n", "8 characters at least"),
        (("joe",), b"x" * 256, "255 octets at most"),
        (("joe",), "\xe9".encode() * 128, "255 octets at most"),
        (("joe",), b"sesame\x07 open\n", "control characters"),
        (("joe",), b"\xff\xfe sesame\n", "no UTF-8"),
        (("-", "x"), b"sesame 1\n", "'-' cannot be a user"),
        (("a b",), b"sesame 1\n", "cannot be a user"),
        (("joe", "sesame"), b"sesame 1\n", "'sesame' is no scope"),
        (("joe", "rate=x"), b"sesame 1\n", "is no rate"),
    ],
)
def test_bad_words(cli: Cli, home: Path, arguments: tuple[str, ...], stdin: bytes, said: str) -> None:
    result = cli("user", "add", "--", *arguments, stdin=stdin)
    assert result.status == 1
    assert said in result.err
    assert not (home / "control/users").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("second", "status"), [("sesame 1", 0), ("sesame 2", 1)])
def test_on_a_terminal_it_is_asked_for_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], second: str, status: int
) -> None:
    answers = ["sesame 1", second]
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return answers.pop(0)

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", ask)
    assert main(["user", "add", "joe"]) == status
    assert asked == ["New password for joe: ", "Again: "]
    assert (home / "control/users").exists() == (status == 0)


def test_without_a_home(cli: Cli) -> None:
    for words in (("add", "joe"), ("list",), ("remove", "joe")):
        result = cli("user", *words, stdin=b"sesame 1\n")
        assert result.status == 1
        assert "/home/control" in result.err
