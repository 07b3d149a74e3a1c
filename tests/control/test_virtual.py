from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.virtual import read_virtual
from tests.control.directory import reader

LOCALS = frozenset({"here.example"})


@pytest.mark.parametrize(
    ("line", "key", "prepend"),
    [
        ("v.example:joe", "v.example", "joe"),
        ("V.Example.:Joe-List", "v.example", "joe-list"),
        (".v.example:joe", ".v.example", "joe"),
        ("User@V.example:joe", "user@v.example", "joe"),
        ("v.example:", "v.example", ""),
        ("user@v.example:", "user@v.example", ""),
        (":joe", "", "joe"),
    ],
)
def test_a_line(tmp_path: Path, line: str, key: str, prepend: str) -> None:
    files = reader(tmp_path, {"virtualdomains": f"# text\n{line}\n"})
    assert read_virtual(files, LOCALS).prepends == {key: prepend}
    assert not files.problems and not files.warnings


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("v.example", "has no colon"),
        ("@v.example:joe", "has no user before the @"),
        ("v example:joe", "is no host name"),
        ("joe@:joe", "is no host name"),
        ("v.example:.joe", "can be the beginning of no mailbox's name"),
        ("v.example:a/b", "can be the beginning of no mailbox's name"),
        ("v.example: joe", "can be the beginning of no mailbox's name"),
        ("v.example:joe:ann", "can be the beginning of no mailbox's name"),
    ],
)
def test_a_bad_line_is_a_problem_of_its_own(tmp_path: Path, line: str, words: str) -> None:
    files = reader(tmp_path, {"virtualdomains": f"ok.example:joe\n{line}\n"})
    assert read_virtual(files, LOCALS).prepends == {"ok.example": "joe"}
    (problem,) = files.problems
    assert str(problem.origin) == "control/virtualdomains:2" and words in problem.what


@pytest.mark.parametrize("line", ["a.example:two", "here.example:joe", "joe@Here.example:joe"])
def test_what_does_not_count_is_told(tmp_path: Path, line: str) -> None:
    files = reader(tmp_path, {"virtualdomains": f"a.example:one\n{line}\n"})
    prepends = read_virtual(files, LOCALS).prepends
    assert prepends["a.example"] == ("two" if line.startswith("a.") else "one")
    (warning,) = files.warnings
    assert str(warning.origin) == "control/virtualdomains:2"


def test_no_file(tmp_path: Path) -> None:
    assert read_virtual(reader(tmp_path, {}), LOCALS).prepends == {}
