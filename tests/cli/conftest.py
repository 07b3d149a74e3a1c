"""Commands run in this process, as `qmtls` would run them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qmtls.cli.main import main


@dataclass(frozen=True, slots=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """cli("queue", "list", stdin=b"") with QMTLS_HOME at tmp_path/home; wrong usage is a status like any other."""
    monkeypatch.setenv("QMTLS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*args: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as end:
            assert isinstance(end.code, int)
            status = end.code
        printed = capsys.readouterr()
        return Result(status, printed.out, printed.err)

    return run


@pytest.fixture
def home(cli: Cli, tmp_path: Path) -> Path:
    """A home as `qmtls init` makes it, for mx.test."""
    path = tmp_path / "home"
    assert cli("init", path, "--me", "mx.test").status == 0
    return path
