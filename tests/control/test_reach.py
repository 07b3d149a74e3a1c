"""What `qmtls check` says of names that point nowhere."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import pytest

from qmtls.control.reach import describe_recipients
from tests.control.directory import compiled

FILES: dict[str, str | bytes] = {"me": "here.example\n", "rcpthosts": "here.example\nv.example\n.w.example\n"}
BOXES = frozenset({"postmaster", "joe"})


def findings(control: Path, boxes: Set[str] = BOXES, /, **files: str) -> list[str]:
    directory = control / str(len(list(control.iterdir())))
    return [str(finding) for finding in describe_recipients(compiled(directory, {**FILES, **files}), boxes)]


@pytest.mark.parametrize(
    "aliases",
    [
        "info: joe, x@else.example\nteam: info\n",
        "joe: joe, x@else.example\n",
        "shop-sales: joe\nall: sales@v.example\n",
        "shop: joe\nall: any@v.example\n",
    ],
)
def test_what_is_good_is_not_told(tmp_path: Path, aliases: str) -> None:
    files = {"aliases": aliases} | ({"virtualdomains": "v.example:shop\n"} if "v.example" in aliases else {})
    assert findings(tmp_path, **files) == []


def test_postmaster(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, frozenset({"joe"}))
    assert found.startswith("error: control/aliases: nobody takes mail to postmaster: it waits; run: qmtls mailbox add")
    assert findings(tmp_path, frozenset({"joe"}), aliases="postmaster: joe\n") == []
    assert len(findings(tmp_path, frozenset(), aliases="postmaster: joe\n")) == 2  # and the alias itself
    assert len(findings(tmp_path, frozenset(), locals="# none\n", virtualdomains="v.example:\n")) == 1
    assert findings(tmp_path, locals="# none\n") == []


@pytest.mark.parametrize(
    ("aliases", "words"),
    [
        (
            "info: nobody\n",
            "error: control/aliases:1: info points nowhere: there is no nobody@here.example; its mail is",
        ),
        (
            "info: joe, ann, bob\n",
            "warning: control/aliases:1: there is no ann@here.example, bob@here.example: left out",
        ),
        ("info: a, b, c, d, e\n", "a@here.example, b@here.example, c@here.example and 2 more; its mail is refused"),
        (
            "ann: ann, joe\n",
            "warning: control/aliases:1: there is no ann@here.example: left out of what ann stands for",
        ),
        ("team: x@v.example\n", "error: control/aliases:1: team points nowhere: there is no x@v.example"),
    ],
)
def test_aliases_that_point_nowhere(tmp_path: Path, aliases: str, words: str) -> None:
    lines = "joe@v.example:joe\n.v.example:\n" if "v.example" not in aliases else "v.example:shop-x\n"
    found = [line for line in findings(tmp_path, aliases=aliases, virtualdomains=lines) if "aliases" in line]
    assert len(found) == 1 and words in found[0]


def test_an_alias_behind_another(tmp_path: Path) -> None:
    found = findings(tmp_path, aliases="a: b\nb: nobody\n")
    assert [line.split(": ")[1] for line in found] == ["control/aliases:1", "control/aliases:2"]


@pytest.mark.parametrize(
    ("line", "boxes", "words"),
    [
        ("v.example:shop", "shop", ""),
        ("v.example:joe", "joe-ann", ""),
        ("x.w.example:joe", "joe-ann", ""),
        (".x.w.example:joe", "joe-ann", ""),
        ("u@v.example:shop", "shop-u", ""),
        ("v.example:", "", ""),
        ("here.example:nobody", "", ""),  # told as unused
        ("v.example:shop", "shopping", "there is no mailbox or alias shop, and none that begins with shop-"),
        ("u@v.example:shop", "shop-a", "run: qmtls mailbox add shop"),
        ("w.example:joe", "joe", "w.example is not in rcpthosts"),
        ("u@else.example:joe", "joe", "else.example is not in rcpthosts"),
    ],
)
def test_virtual_domains(tmp_path: Path, line: str, boxes: str, words: str) -> None:
    found = findings(tmp_path, (BOXES - {"joe"}) | {boxes}, virtualdomains=f"# text\n{line}\n")
    assert len(found) == bool(words)
    assert all(text.startswith("warning: control/virtualdomains:2: ") and words in text for text in found)


def test_a_domain_of_aliases_alone(tmp_path: Path) -> None:
    assert findings(tmp_path, virtualdomains="v.example:none\n", aliases="info@v.example: joe\n") == []
