"""Mailboxes by command."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_add_list_remove(cli: Cli, home: Path) -> None:
    assert cli("mailbox", "add", "Joe").status == 0
    box = home / "mail/joe"
    assert stat.S_IMODE(box.stat().st_mode) == 0o700
    (box / "new/1").write_text("mail")
    rows = cli("mailbox", "list", "--json").rows
    assert [(row["user"], row["new"], row["seen"]) for row in rows] == [("joe", 1, 0), ("postmaster", 0, 0)]
    assert "joe\t1 new, 0 seen" in cli("mailbox", "list").out
    kept = cli("mailbox", "remove", "joe")
    assert kept.status == 1
    assert "holds 1 message;" in kept.err
    assert box.is_dir()
    assert cli("mailbox", "remove", "joe", "--with-mail").status == 0
    assert not box.exists()


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "-x", "a b", "a\x00b", "x" * 65])
def test_names_that_are_none(cli: Cli, home: Path, name: str) -> None:
    before = sorted(home.rglob("*"))
    for verb in ("add", "remove"):
        assert cli("mailbox", verb, "--", name).status == 1
    assert sorted(home.rglob("*")) == before


def test_twice_and_unknown(cli: Cli, home: Path) -> None:
    assert cli("mailbox", "add", "postmaster").status == 1
    assert cli("mailbox", "remove", "nobody").status == 1


def test_without_a_home(cli: Cli) -> None:
    for command in (("add", "joe"), ("list",)):
        result = cli("mailbox", *command)
        assert result.status == 1
        assert "/home" in result.err
