from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.aliases import MAX_REACH, MOST_LOOPS, read_aliases
from qmtls.control.lists import ControlFiles
from qmtls.recipients import Recipients, VirtualDomains
from tests.control.directory import reader

OURS = Recipients(
    frozenset({"here.example", "too.example"}),
    virtual=VirtualDomains({"v.example": "v", ".w.example": "w"}),
    postmaster_host="here.example",
)


def read(control: Path, text: str, ours: Recipients = OURS) -> tuple[dict[str, str], ControlFiles]:
    """The targets by name, in words, and what is wrong."""
    files = reader(control, {"aliases": text})
    found = read_aliases(files, ours)
    assert (found.locals, found.virtual, found.postmaster_host) == (ours.locals, ours.virtual, ours.postmaster_host)
    return {name: " ".join(map(str, alias.targets)) for name, alias in found.aliases.items()}, files


@pytest.mark.parametrize(
    ("text", "name", "targets"),
    [
        ("info: joe, ann@else.example", "info", "joe@here.example ann@else.example"),
        ("Info:Joe,Ann@Else.EXAMPLE,", "info", "joe@here.example Ann@else.example"),
        ("info : JOE@Too.Example", "info", "joe@too.example"),
        ("info@Too.example: joe", "info@too.example", "joe@here.example"),
        ("info@v.example: any@v.example", "info@v.example", "any@v.example"),
        ("info@x.w.example: joe", "info@x.w.example", "joe@here.example"),
        ("info: joe,\n\tann,\n  bob\n", "info", "joe@here.example ann@here.example bob@here.example"),
        ("info: joe, JOE, joe@here.example", "info", "joe@here.example"),
        ("info:\n joe", "info", "joe@here.example"),
        ("info: joe\n# text\n ann", "info", "joe@here.example ann@here.example"),
        ("joe: joe, ann", "joe", "joe@here.example ann@here.example"),
        ("o'neil+x: joe", "o'neil+x", "joe@here.example"),
    ],
)
def test_a_line(tmp_path: Path, text: str, name: str, targets: str) -> None:
    found, files = read(tmp_path, text)
    assert not files.problems, files.problems
    assert found == {name: targets}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("info joe", "has no colon"),
        ("info:", "has no target"),
        ("info: ,", "has no target"),
        (": joe", "cannot stand before the @"),
        ("in fo: joe", "cannot stand before the @"),
        ("info@else.example: joe", "neither locals nor virtualdomains hold"),
        ("info@: joe", "is no host name"),
        ("info: j oe", "cannot stand before the @"),
        ("info: a@b@c", "is no address"),
        ("info: ann@else..example", "is no address"),
        ("info: änn@else.example", "is not ASCII"),
        ("info: |/bin/program", "mailboxes and other hosts only"),
        ('info: "|/bin/program"', "mailboxes and other hosts only"),
        ("info: /var/mail/x", "mailboxes and other hosts only"),
        ("info: :include:/etc/list", "mailboxes and other hosts only"),
        ("OK: joe", "'ok' is in control/aliases:1 already"),
    ],
)
def test_a_bad_line_is_a_problem_of_its_own(tmp_path: Path, line: str, words: str) -> None:
    found, files = read(tmp_path, f"ok: joe\n{line}\n")
    assert found == {"ok": "joe@here.example"}
    (problem,) = files.problems
    assert str(problem.origin) == "control/aliases:2" and words in problem.what


def test_a_first_line_with_a_blank_goes_on_with_nothing(tmp_path: Path) -> None:
    found, files = read(tmp_path, " joe\nbad\n ann\nok: joe\n")
    assert found == {"ok": "joe@here.example"}
    assert [problem.origin.line for problem in files.problems] == [1, 2, 3]


def test_a_name_needs_a_local_domain(tmp_path: Path) -> None:
    ours = Recipients(virtual=VirtualDomains({"v.example": "v"}))
    found, files = read(tmp_path, "info@v.example: joe@v.example\nteam@v.example: joe\n", ours)
    assert found == {"info@v.example": "joe@v.example"}
    assert "has no domain, and locals are empty" in files.problems[0].what


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("a: b\nb: a\n", 2, "a -> b -> a"),
        ("x: a\na: joe, b\nb: c, ann\nc: a@too.example\n", 4, "a -> b -> c -> a"),
        ("a@v.example: v-b\nv-b: A@v.example\n", 2, "a@v.example -> v-b -> a@v.example"),
        ("v: any@v.example, b\nb: other@v.example\n", 2, "v -> b -> v"),
    ],
)
def test_a_loop_is_a_problem_of_the_line_that_closes_it(tmp_path: Path, text: str, line: int, shown: str) -> None:
    _, files = read(tmp_path, text)
    (problem,) = files.problems
    assert problem.origin.line == line
    assert problem.what == f"closes a loop: {shown}"


def test_what_is_no_loop(tmp_path: Path) -> None:
    _, files = read(tmp_path, "a: a, b, c\nb: c\nc: joe, c@else.example\nd: a, b, c\n")
    assert not files.problems


def test_many_loops_are_cut_short(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(60)]
    _, files = read(tmp_path, "".join(f"{name}: {', '.join(names)}\n" for name in names))
    assert MOST_LOOPS <= len(files.problems) < MOST_LOOPS + 60
    assert all(str(problem).isprintable() and len(str(problem)) < 300 for problem in files.problems)


def test_a_name_that_leads_to_too_many(tmp_path: Path) -> None:
    lines = ["a0: x@else.example"]
    lines += [f"a{number + 1}: a{number}, b{number}\nb{number}: a{number}" for number in range(40)]
    _, files = read(tmp_path, "\n".join(reversed(lines)))
    assert "'a14' leads to more than" in files.problems[0].what
    assert 2**13 <= MAX_REACH < 2**14
    assert len(files.problems) < 5


def test_a_chain_as_long_as_the_file(tmp_path: Path) -> None:
    _, files = read(tmp_path, "".join(f"a{number}: a{number + 1}\n" for number in range(3000)))
    assert not files.problems
