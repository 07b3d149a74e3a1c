"""Lines of limits: the one for everyone, what each adds to it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.limitlines import LimitFile, count, rate
from qmtls.control.lists import ControlFiles
from qmtls.delivery.terms import NO_TERMS, Terms
from qmtls.tls.scope import Rate

FILE: LimitFile[Terms, str] = LimitFile(
    name="bounds",
    everyone="*",
    built_in=NO_TERMS,
    key=str.lower,
    attributes={"rate": ("rate", rate), "at-a-time": ("concurrency", count)},
)


def read(directory: Path, text: str) -> tuple[ControlFiles, Terms, dict[str, Terms]]:
    (directory / "bounds").write_text(text)
    files = ControlFiles(directory)
    return files, *FILE.read(files)


def test_without_the_file_all_is_built_in(tmp_path: Path) -> None:
    assert FILE.read(ControlFiles(tmp_path)) == (NO_TERMS, {})


def test_what_a_line_does_not_name_is_everyones(tmp_path: Path) -> None:
    files, default, lines = read(tmp_path, "A at-a-time=3\n* rate=10/m at-a-time=2\nb rate=none\n")
    assert not files.problems
    assert (default.concurrency, default.rate, default.messages) == (2, Rate(10, 60.0, "10/m"), 0)
    assert {key: (terms.concurrency, terms.rate) for key, terms in lines.items()} == {
        "a": (3, default.rate),
        "b": (2, None),
    }
    assert (lines["a"].origin.line, lines["b"].origin.line) == (1, 3)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a\n", 1, "limits nothing"),
        ("a at-a-time\n", 1, "no limit"),
        ("a concurrency=1\n", 1, "no limit"),
        ("a at-a-time=0\n", 1, "0"),
        ("a rate=1/m rate=2/m\n", 1, "twice"),
        ("a rate=1/m\nA rate=2/m\n", 2, "second time"),
        ("* rate=1/m\n* rate=1/m\n", 2, "second time"),
    ],
)
def test_what_is_not_understood_is_a_problem(tmp_path: Path, text: str, line: int, what: str) -> None:
    files, _, _ = read(tmp_path, text)
    (problem,) = files.problems
    assert problem.origin.line == line
    assert what in problem.what
