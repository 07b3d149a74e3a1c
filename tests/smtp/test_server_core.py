"""The rule of `server_core.py`: what all steps share is assigned in one place."""

from __future__ import annotations

import ast
from pathlib import Path

from qmtls.smtp import server_core

ITS_OWN = {("server_auth", "exchange"), ("server_content", "intake")}


def assigned(source: str) -> set[str]:
    """The attributes of `core`, at any depth, that a module assigns to."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)
        if ast.unparse(node.value).split(".")[0] in ("core", "self._core", "dialogue", "budget")
    }


def test_steps_assign_only_what_is_theirs() -> None:
    directory = Path(server_core.__file__).parent
    found = {
        (path.stem, name)
        for path in directory.glob("server*.py")
        if path.stem != "server_core"
        for name in assigned(path.read_text())
    }
    assert found == ITS_OWN


def test_an_assignment_is_seen() -> None:
    assert assigned("core.phase = 1\ncore.dialogue.helo = ''\ncore.tls += 1\nx = core.user") == {"phase", "helo", "tls"}
