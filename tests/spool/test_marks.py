"""A mail reader renamed a message to ID:2,FLAGS, and two processes give it its name back at once.

Whoever is the slower one must take it neither for a stranger's file nor for a message that is gone: its log would
go, or what was delivered would not be written down, and its recipients would get it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmtls.spool.api import Attempt, Filing
from qmtls.spool.files import OsFiles
from qmtls.spool.maildir import MaildirSpool
from tests.spool.mail import store

DUE = 2e9
ATTEMPT = Attempt(1.0, done=(0,), deferred=(1, 2), reasons=((1, "no"), (2, "no")))


class Slow(OsFiles):
    """Behind every listing of `cur`, or before it, the other process is there."""

    def __init__(self, cur: Path, before: bool) -> None:
        super().__init__()
        self._cur = cur
        self._before = before

    def entries(self, path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) != self._cur:
            return super().entries(path)
        if self._before:
            self._rename()
        found = list(super().entries(path))
        self._rename()
        return iter([entry for entry in found if not self._before or entry.name != "id1"])

    def _rename(self) -> None:
        for marked in self._cur.glob("*:2,*"):
            marked.rename(self._cur / marked.name.partition(":")[0])


@pytest.fixture(params=[False, True], ids=["behind", "before"])
def spool(tmp_path: Path, request: pytest.FixtureRequest) -> MaildirSpool:
    spool = MaildirSpool(tmp_path / "1", Slow(tmp_path / "1/cur", request.param))
    store(spool, "id1")
    assert spool.record([Filing("id1", ATTEMPT, DUE)]) == [None]
    (tmp_path / "1/cur/id1").rename(tmp_path / "1/cur/id1:2,S")
    return spool


def test_it_is_recorded(spool: MaildirSpool) -> None:
    again = Attempt(2.0, done=(1,), deferred=(2,), reasons=((2, "no"),))
    assert spool.record([Filing("id1", again, DUE)]) == [None]
    assert spool.history("id1") == (ATTEMPT, again)


def test_it_is_removed(spool: MaildirSpool) -> None:
    spool.remove(["id1"])
    assert not [path for path in spool.path.rglob("id1*") if path.is_file()]


def test_it_is_taken_away(spool: MaildirSpool) -> None:
    assert spool.take_away(["id1"]) == {}
    assert not [path for path in spool.path.rglob("id1*") if path.is_file()]


def test_its_log_stays(spool: MaildirSpool) -> None:
    spool.prepare()
    for _ in range(3):
        spool.tidy()
    assert spool.history("id1") == (ATTEMPT,)


def test_it_is_no_stranger(tmp_path: Path) -> None:
    spool = MaildirSpool(tmp_path / "1", Slow(tmp_path / "1/cur", before=False))
    store(spool, "id1")
    assert spool.record([Filing("id1", ATTEMPT, DUE)]) == [None]
    (tmp_path / "1/cur/id1").rename(tmp_path / "1/cur/id1:2,S")
    assert [(waiting.id, waiting.due) for waiting in spool.scan()] == [("id1", DUE)]
    assert not list(spool.foreign())
