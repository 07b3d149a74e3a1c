"""The crash tests open hundreds of bins; none of them stays open after its test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qmtls.spool.directories import Directories
from qmtls.spool.files import Files, OsFiles


@pytest.fixture(autouse=True)
def close_bins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[Directories] = []
    make = Directories.__init__

    def remember(self: Directories, path: Path, files: Files) -> None:
        made.append(self)
        make(self, path, files)

    monkeypatch.setattr(Directories, "__init__", remember)
    yield
    for bin in made:
        bin.files = OsFiles()  # the test's own may be stopped
        bin.close()
