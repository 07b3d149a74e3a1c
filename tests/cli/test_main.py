"""The command line as a whole: help for everything, statuses, and where home is."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmtls import __version__
from qmtls.cli.main import build_parser
from tests.cli.conftest import Cli


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words
    for action in below:
        for name, inner in action.choices.items():
            yield from commands(inner, (*words, name))


ALL = sorted(commands(build_parser()))


def test_the_commands() -> None:
    assert [" ".join(words) for words in ALL] == [
        *(
            "cert issue",
            "cert request",
            "cert revoke",
            "cert show",
            "check",
            "clients revoke",
            "dkim make",
            "dkim show",
            "import postfix",
            "import qmail",
            "import sqmail",
            "init",
        ),
        *("mailbox add", "mailbox list", "mailbox remove"),
        *("policy explain", "probe"),
        *("queue bounce", "queue hold", "queue list", "queue pause", "queue release", "queue remove"),
        *("queue resume", "queue retry", "queue show", "queue stat", "send", "sendmail"),
        *("tlsrpt send", "tlsrpt show"),
        *("user add", "user list", "user remove"),
    ]


@pytest.mark.parametrize("words", ALL)
def test_help_has_examples(cli: Cli, words: tuple[str, ...]) -> None:
    result = cli(*words, "--help")
    assert result.status == 0
    assert f"qmtls {' '.join(words)}" in result.out
    assert "examples:\n  " in result.out


@pytest.mark.parametrize(
    "words", [(), ("nothing",), ("cert",), ("queue", "nothing"), ("queue", "list", "--unknown"), ("--x",)]
)
def test_wrong_usage_is_status_2(cli: Cli, words: tuple[str, ...]) -> None:
    result = cli(*words)
    assert result.status == 2
    assert "usage: qmtls" in result.err
    assert not result.out


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"qmtls {__version__}\n"


def test_home_option_wins_over_the_environment(cli: Cli, home: Path, tmp_path: Path) -> None:
    assert cli("init", tmp_path / "other", "--me", "other.test").status == 0
    assert str(tmp_path / "other/mail/joe") in cli("--home", tmp_path / "other", "mailbox", "add", "joe").out
    assert not (home / "mail/joe").exists()


def test_a_closed_pipe_is_no_traceback(home: Path) -> None:
    """`qmtls queue list | head`, with the reader gone before the first line."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "qmtls.cli.main", "--home", str(home), "mailbox", "list"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_sendmail_starts_without_what_it_does_not_need() -> None:
    """It is run for every mail of every script."""
    code = """if True:
        import sys
        from qmtls.cli.main import main
        try:
            main(["--home", "/nowhere", "sendmail", "--help"])
        except SystemExit:
            pass
        heavy = {name.partition(".")[0] for name in sys.modules} & {"twisted", "OpenSSL", "cryptography"}
        print(sorted(heavy), file=sys.stderr)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_help_lists_every_command(cli: Cli) -> None:
    result = cli("--help")
    for words in ALL:
        assert words[0] in result.out
