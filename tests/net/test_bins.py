"""Bins and their locks. Locks are per process, so the other owner is a child."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qmtls.net.bins import INJECT_TMP_AGE, Bins
from qmtls.spool.api import SpoolError
from qmtls.spool.bins import poke
from qmtls.spool.maildir import MaildirSpool
from tests.spool.mail import ids, store

HOLD = """
import sys, pathlib
from qmtls.net.bins import Bins
bins = Bins(pathlib.Path(sys.argv[1]))
own = bins.acquire_own()
print(own.name, *(spool.name for spool in bins.adopt()), flush=True)
sys.stdin.read()
"""


@contextmanager
def other_worker(queue: Path) -> Iterator[list[str]]:
    """A process with bins of its own, killed at the end; the names of what it took."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(queue)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().split()
    finally:
        child.kill()
        child.communicate()


def test_the_first_worker_makes_the_queue(tmp_path: Path) -> None:
    bins = Bins(tmp_path / "queue")
    spool = bins.acquire_own()
    assert spool.name == "1"
    assert (tmp_path / "queue/1/owner").read_text().endswith(f" {os.getpid()}\n")
    assert [s.name for s in bins.adopt()] == ["inject"]
    assert bins.adopt() == []
    assert bins.warnings == []
    bins.release_all()


def test_a_held_bin_is_left_to_its_owner_and_taken_over_after_its_death(tmp_path: Path) -> None:
    bins = Bins(tmp_path / "queue")
    with other_worker(tmp_path / "queue") as taken:
        assert taken == ["1", "inject"]
        store(MaildirSpool(tmp_path / "queue/1"), "id1")
        assert bins.acquire_own().name == "2"
        assert bins.adopt() == []
    adopted = bins.adopt()
    assert sorted(s.name for s in adopted) == ["1", "inject"]
    assert [ids(s) for s in adopted if s.name == "1"] == [["id1"]]
    assert str(os.getpid()) in (tmp_path / "queue/1/owner").read_text()
    bins.release_all()


def test_a_new_worker_takes_the_first_free_bin_even_an_empty_one(tmp_path: Path) -> None:
    first = Bins(tmp_path / "queue")
    first.acquire_own()
    first.release_all()
    again = Bins(tmp_path / "queue")
    assert again.acquire_own().name == "1"
    again.release_all()


def test_empty_bins_are_not_adopted(tmp_path: Path) -> None:
    MaildirSpool(tmp_path / "queue/1")
    store(MaildirSpool(tmp_path / "queue/2"), "id1")
    MaildirSpool(tmp_path / "queue/3")
    bins = Bins(tmp_path / "queue")
    assert bins.acquire_own().name == "1"
    assert [s.name for s in bins.adopt()] == ["inject", "2"]
    bins.release_all()


def test_a_released_bin_can_be_taken_by_others(tmp_path: Path) -> None:
    bins = Bins(tmp_path / "queue")
    own = bins.acquire_own()
    with other_worker(tmp_path / "queue") as taken:
        assert taken[0] == "2"
    bins.release(own)
    with other_worker(tmp_path / "queue") as taken:
        assert taken[0] == "1"


def test_taking_a_bin_clears_it_up_but_spares_young_files_in_inject(tmp_path: Path) -> None:
    for name in ("1", "inject"):
        spool = MaildirSpool(tmp_path / "queue" / name)
        for file, age in (("old", INJECT_TMP_AGE + 5), ("young", 5.0)):
            (spool.path / "tmp" / file).touch()
            os.utime(spool.path / "tmp" / file, (1e9 - age, 1e9 - age))
    bins = Bins(tmp_path / "queue", now=lambda: 1e9)
    bins.acquire_own()
    bins.adopt()
    assert list((tmp_path / "queue/1/tmp").iterdir()) == []
    assert [path.name for path in (tmp_path / "queue/inject/tmp").iterdir()] == ["young"]
    bins.release_all()


def test_what_is_no_bin_is_named_once_and_left_alone(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    (queue / "mess").mkdir(parents=True)
    (queue / "lock").write_text("")
    (queue / "3").write_text("a file, not a bin")
    (queue / "0").mkdir()
    bins = Bins(queue)
    assert bins.acquire_own().name == "1"
    bins.adopt()
    bins.adopt()
    assert [line.split(":")[0] for line in bins.warnings] == [str(queue / name) for name in ("0", "3", "lock", "mess")]
    assert list((queue / "mess").iterdir()) == []
    bins.release_all()


def test_a_broken_bin_does_not_keep_the_others_from_being_adopted(tmp_path: Path) -> None:
    store(MaildirSpool(tmp_path / "queue/2"), "id1")
    store(MaildirSpool(tmp_path / "queue/3"), "id2")
    (tmp_path / "queue/2/owner").mkdir()
    bins = Bins(tmp_path / "queue")
    bins._take("1")
    assert [s.name for s in bins.adopt()] == ["inject", "3"]
    bins.adopt()
    (warning,) = bins.warnings
    assert "queue/2/owner" in warning
    bins.release_all()


def test_a_queue_that_cannot_be_made_is_trouble(tmp_path: Path) -> None:
    with pytest.raises(SpoolError):
        Bins(tmp_path / "absent" / "queue").acquire_own()


def test_others_mail_and_pokes_are_noticed(tmp_path: Path) -> None:
    bins = Bins(tmp_path / "queue")
    own = bins.acquire_own()
    os.utime(own.path / "owner", (1e9, 1e9))
    assert bins.poked() == [own]  # also between the lock and the first look
    (inject,) = bins.adopt()
    assert bins.poked() == []
    store(own, "id1")
    assert bins.poked() == []  # our own mail is no news
    os.utime(inject.path / "new", (1e9, 1e9))
    assert bins.poked() == [inject]
    assert bins.poked() == []
    os.utime(own.path / "owner", (2e9, 2e9))
    assert bins.poked() == [own]
    poke(own.path)
    assert bins.poked() == [own]
    bins.release_all()
