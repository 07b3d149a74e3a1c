"""Logs without a message go, a few at a time; every other log stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.spool.api import Attempt, Filing
from qmtls.spool.directories import Directories
from qmtls.spool.maildir import MaildirSpool
from tests.spool.mail import store

ATTEMPT = Attempt(1.0, done=(0,), deferred=(1, 2), reasons=((1, "no"), (2, "no")))


@pytest.fixture
def spool(tmp_path: Path) -> MaildirSpool:
    spool = MaildirSpool(tmp_path / "1")
    for id in ("id1", "id2", "id3"):
        store(spool, id)
    spool.record([Filing("id1", ATTEMPT, due=2e9), Filing("id2", ATTEMPT, due=2e9)])
    return spool


def logs(spool: MaildirSpool) -> set[str]:
    return {path.name for path in (spool.path / "log").iterdir()}


def test_logs_without_a_message_are_dropped(spool: MaildirSpool) -> None:
    (spool.path / "log/gone").write_bytes(b"{}\n")
    (spool.path / "log/Not.Ours").write_bytes(b"{}\n")
    spool.prepare()
    spool.tidy()
    assert "gone" in logs(spool), "it is looked at twice"
    spool.tidy()
    assert logs(spool) == {"id1", "id2", "Not.Ours"}
    assert spool.history("id1") == (ATTEMPT,)
    (spool.path / "log/later").touch()
    spool.tidy()
    assert "later" in logs(spool), "one pass"


def test_a_few_at_a_time(spool: MaildirSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmtls.spool.leftovers.AT_ONCE", 3)
    for n in range(10):
        (spool.path / f"log/gone{n}").touch()
    spool.prepare()
    left = []
    for _ in range(6):
        spool.tidy()
        left.append(len(logs(spool)))
    assert left[0] == 12
    assert left[1] >= 12 - 3
    assert left[-1] == 2


@pytest.mark.parametrize("when", ["before", "between"])
def test_the_log_of_a_message_that_a_mail_reader_renamed_stays(spool: MaildirSpool, when: str) -> None:
    renamed = spool.path / "cur/id1:2,S"
    spool.prepare()
    if when == "before":
        (spool.path / "cur/id1").rename(renamed)
    spool.tidy()
    if when == "between":
        (spool.path / "cur/id1").rename(renamed)
    spool.tidy()
    spool.tidy()
    assert "id1" in logs(spool)
    assert renamed.exists(), "only the listing takes the mark off"


def test_what_was_removed_or_recorded_meanwhile_is_as_it_should_be(spool: MaildirSpool) -> None:
    (spool.path / "log/id3").touch()
    spool.prepare()
    spool.tidy()
    spool.remove(["id1"])
    spool.record([Filing("id3", ATTEMPT, due=2e9)])
    spool.tidy()
    assert logs(spool) == {"id2", "id3"}


def test_a_disk_that_does_not_say_ends_it(spool: MaildirSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    (spool.path / "log/gone").touch()
    spool.prepare()

    def broken(self: Directories, id: str) -> bool:
        raise OSError(5, "trouble")

    monkeypatch.setattr(Directories, "has", broken)
    spool.tidy()
    spool.tidy()
    assert logs(spool) == {"id1", "id2", "gone"}
