"""Keys for DKIM signatures, by command."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from qmtls.control.compile import compile_control
from tests.cli.conftest import Cli


@pytest.mark.parametrize(("kind", "k"), [("rsa:2048", "rsa"), ("ed25519", "ed25519")])
def test_make(cli: Cli, home: Path, kind: str, k: str) -> None:
    made = cli("dkim", "make", "Example.ORG", "mail1", "--key", kind)
    path = home / "control/dkim/example.org.mail1.key"
    assert made.status == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (key,) = compile_control(home / "control").dkim["example.org"]
    name, text = key.record
    assert (name, text.split(" p=")[0]) == ("mail1._domainkey.example.org", f"v=DKIM1; k={k};")
    *_, line = made.out.splitlines()
    owner, strings = re.fullmatch(r"(\S+)\. IN TXT \((.*)\)", line).groups()  # type: ignore[union-attr]
    assert owner == name
    assert "".join(re.findall(r'"([^"]{1,255})"', strings)) == text
    again = cli("dkim", "make", "example.org", "mail1")
    assert again.status == 1
    assert "exists already" in again.err


def test_show(cli: Cli, home: Path) -> None:
    assert cli("dkim", "show").status == 1
    made = cli("dkim", "make", "example.org", "ed", "--key", "ed25519").out
    shown = cli("dkim", "show")
    assert shown.out.splitlines()[-1] == made.splitlines()[-1]
    (row,) = cli("dkim", "show", "--json").rows
    assert (row["domain"], row["selector"], row["kind"]) == ("example.org", "ed", "Ed25519")


def test_first_the_record(cli: Cli, home: Path) -> None:
    assert cli("dkim", "make", "example.org", "next", "--record-first").status == 0
    assert compile_control(home / "control").dkim == {}
    assert (home / "control/dkim/example.org.next.key.next").exists()


@pytest.mark.parametrize(
    "words",
    [["../x", "s"], ["example.org", "a.b"], ["example.org", "../s"], ["example.org", "s", "--key", "rsa:512"], ["x"]],
)
def test_wrong_usage(cli: Cli, home: Path, words: list[str]) -> None:
    assert cli("dkim", "make", *words).status == 2
    assert not (home / "control/dkim").exists() or not list((home / "control/dkim").iterdir())


def test_no_home(cli: Cli) -> None:
    assert cli("dkim", "make", "example.org", "s").status == 1
