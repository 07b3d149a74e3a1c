"""Where everything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.service.places import places


def test_below_home(tmp_path: Path) -> None:
    found = places(str(tmp_path))
    assert (found.control, found.queue, found.state, found.mail) == tuple(
        tmp_path / part for part in ("control", "queue", "state", "mail")
    )


def test_parts_that_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = places(str(tmp_path / "home"), control="/var/qmail/control", queue="q")
    assert str(found.control) == "/var/qmail/control"
    assert found.queue == tmp_path / "q"
    assert found.state == tmp_path / "home/state"


def test_home_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QMTLS_HOME", str(tmp_path))
    assert places(None).home == tmp_path
    assert places("/elsewhere").home == Path("/elsewhere")
    monkeypatch.delenv("QMTLS_HOME")
    assert places(None).home == Path("/var/qmtls")
