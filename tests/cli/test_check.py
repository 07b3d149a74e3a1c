"""`qmtls check`: the status that scripts look at, and findings with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_a_new_home_is_good(cli: Cli, home: Path) -> None:
    result = cli("check")
    assert result.status == 0
    assert result.out.splitlines()[-1] == f"{home}/control: good"
    assert {row["level"] for row in cli("check", "--json").rows} <= {"note"}


def test_a_problem_has_its_place(cli: Cli, home: Path) -> None:
    (home / "control/listen").write_text("# comment\nsmpt tcp:25\n")
    result = cli("check")
    assert result.status == 1
    assert "listen:2" in result.out
    assert "does not start" in result.out
    rows = cli("check", "--json").rows
    assert [(row["level"], row["line"]) for row in rows] == [("error", 2)]
    assert str(rows[0]["file"]).endswith("listen")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("listen", "smtp tcp:26\nadmin tcp:8080\n", "listen:2: the role admin is not supported by this version"),
        ("listen", "smtp tcp:smtp\n", 'listen:1: "tcp:smtp" is no server endpoint'),
        ("listen", "smtp tcp:26 tcp:27\n", 'listen:1: "tcp:26 tcp:27" is no server endpoint'),
        ("tlsserverciphers", "NONSENSE\n", "tlsserverciphers: OpenSSL knows no such cipher list"),
        ("tlsclientciphers", "NONSENSE\n", "OpenSSL knows no such cipher list"),
    ],
)
def test_what_only_the_service_would_find(cli: Cli, home: Path, file: str, text: str, said: str) -> None:
    (home / "control" / file).write_text(text)
    result = cli("check")
    assert result.status == 1
    assert said in result.out
    assert "1 error; the service does not start" in result.out
    assert not cli("check", "--json").err


def test_sockets_of_systemd_are_for_the_service_to_check(cli: Cli, home: Path) -> None:
    (home / "control/listen").write_text("smtp systemd:domain=INET:index=0\n")
    assert cli("check").status == 0


def test_an_unusable_pin_fails_the_check(cli: Cli, home: Path) -> None:
    (home / "control/dest.test.pem").write_text("")
    result = cli("check")
    assert result.status == 1
    assert "dest.test.pem" in result.out


def test_a_readable_key_is_refused(cli: Cli, home: Path) -> None:
    (home / "control/servercert.pem").chmod(0o644)
    result = cli("check")
    assert result.status == 1
    assert "chmod" in result.out


def test_another_directory(cli: Cli, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "qmail"
    other.mkdir()
    assert cli("check", "--control", other).status == 1
    (other / "me").write_text("mx.test\n")
    assert cli("check", "--control", other).status == 0
    assert cli("check", "--control", tmp_path / "none").status == 1


def test_names_that_point_nowhere(cli: Cli, home: Path) -> None:
    assert cli("check").status == 0
    (home / "control/aliases").write_text("info: nobody\nteam: postmaster, ann\n")
    result = cli("check")
    assert result.status == 1
    assert "error: control/aliases:1: info points nowhere" in result.out
    assert "warning: control/aliases:2: there is no ann@mx.test" in result.out
    assert result.out.index("error:") < result.out.index("warning:") < result.out.index("note:")
    assert "1 error" in result.out and "does not start" not in result.out
    assert cli("check", "--control", home / "control").status == 0  # another directory: its mailboxes are not known
    for user in ("nobody", "ann"):
        cli("mailbox", "add", user)
    assert cli("check").status == 0


def test_nobody_takes_mail_to_postmaster(cli: Cli, home: Path) -> None:
    (home / "mail/postmaster").rename(home / "mail/joe")
    result = cli("check")
    assert result.status == 1
    assert "nobody takes mail to postmaster" in result.out
    (home / "control/aliases").write_text("postmaster: joe\n")
    assert cli("check").status == 0
