from __future__ import annotations

import os
from errno import EACCES
from pathlib import Path

import pytest

from qmtls.control.lists import BadValueError, ControlFiles, quote, read_regular
from tests.control.directory import reader


def told(files: ControlFiles) -> list[str]:
    return [str(problem) for problem in files.problems]


def test_lines_as_qmail_reads_them(tmp_path: Path) -> None:
    files = reader(tmp_path, {"list": "# comment\n\na  \t\n  \n #b\r\nc"})
    lines = files.lines("list")
    assert lines is not None
    assert [(line.text, str(line.origin)) for line in lines] == [
        ("a", "control/list:3"),
        (" #b", "control/list:5"),
        ("c", "control/list:6"),
    ]
    assert told(files) == []


def test_the_first_line_alone_counts(tmp_path: Path) -> None:
    files = reader(tmp_path, {"one": "value \t\r\nother\n# text"})
    line = files.first_line("one")
    assert line is not None and line.text == "value" and str(line.origin) == "control/one:1"


@pytest.mark.parametrize("content", ["", "\nvalue", "  \n"])
def test_an_empty_first_line_is_a_problem(tmp_path: Path, content: str) -> None:
    files = reader(tmp_path, {"one": content})
    assert files.first_line("one") is None
    assert told(files) == ["control/one:1: the first line is empty; write the value there, or remove the file"]


def test_missing_is_neither_value_nor_problem(tmp_path: Path) -> None:
    files = ControlFiles(tmp_path)
    assert (files.first_line("a"), files.lines("a"), files.entries("a"), files.read("a")) == (None, None, None, None)
    assert told(files) == []


@pytest.mark.parametrize("bad", [b"\xff", b"a\0b", b"a\x1bb", b"a\rb"])
def test_what_is_no_text_is_a_problem_of_its_line(tmp_path: Path, bad: bytes) -> None:
    files = reader(tmp_path, {"list": b"good\n# \xff comments may hold anything\n" + bad + b"\nalso good\n"})
    assert [line.text for line in files.lines("list") or ()] == ["good", "also good"]
    assert len(told(files)) == 1 and told(files)[0].startswith("control/list:3: ")


def test_what_is_no_file_is_a_problem_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    files = ControlFiles(tmp_path)
    for name in ("directory", "dangling", "loop", "fifo"):
        assert files.lines(name) is None
    assert [problem.split(";")[0] for problem in told(files)] == [
        "control/directory: is a directory",
        "control/dangling: is a link to a file that does not exist",
        "control/loop: cannot be opened (Too many levels of symbolic links)",
        "control/fifo: is not a regular file",
    ]


def test_a_link_is_the_file_it_points_to(tmp_path: Path) -> None:
    files = reader(tmp_path, {"real": "value"})
    (tmp_path / "link").symlink_to("real")
    content = files.read("link")
    assert content is not None and content.data == b"value" and content.mode == 0o640


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadValueError, match="larger than"):
        read_regular(tmp_path / "huge")


def test_an_unreadable_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(EACCES, "Permission denied")

    files = reader(tmp_path, {"list": "a"})
    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    assert files.lines("list") is None
    assert told(files) == ["control/list: cannot be opened (Permission denied); let the service read it"]


def test_entries_are_names_without_backups(tmp_path: Path) -> None:
    files = reader(tmp_path, {"dir/b": "", "dir/a~": "", "dir/.c": ""})
    assert files.entries("dir") == [".c", "b"]


def test_a_file_in_the_place_of_a_directory_is_a_problem(tmp_path: Path) -> None:
    files = reader(tmp_path, {"tlshosts": "x"})
    assert files.entries("tlshosts") is None
    assert told(files)[0].startswith("control/tlshosts: cannot be listed (Not a directory)")


def test_values_are_quoted_harmlessly() -> None:
    assert quote("a\n\x1b") == "'a??'"
    assert len(quote("x" * 1000)) < 100
