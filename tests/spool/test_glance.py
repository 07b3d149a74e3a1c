"""Many messages read together: as each by itself, with what is wrong or ruled out left to the others' advantage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient
from qmtls.spool.api import Attempt, Filing, Malformed
from qmtls.spool.files import OsFiles
from qmtls.spool.glance import FIRST, PORTION, Choice, Glance
from qmtls.spool.maildir import MaildirSpool
from tests.spool.mail import BODY, ENVELOPE, store

ATTEMPT = Attempt(1.0, done=(0,), deferred=(1, 2), reasons=((1, "no"), (2, "no")))
MANY = replace(ENVELOPE, recipients=tuple(Recipient(Address(f"user{n}", "b.example")) for n in range(500)))


@pytest.fixture
def spool(tmp_path: Path) -> MaildirSpool:
    spool = MaildirSpool(tmp_path / "1")
    store(spool, "id1")
    store(spool, "id2", envelope=MANY)
    store(spool, "id3", b"x" * 100_000)
    spool.record([Filing("id1", ATTEMPT, due=2e9)])
    return spool


def test_each_is_as_it_is_read_by_itself(spool: MaildirSpool) -> None:
    found = dict(spool.glances(["id3", "gone", "id1", "id2"]))
    assert list(found) == ["id3", "id1", "id2"]
    for id, glance in found.items():
        assert isinstance(glance, Glance)
        stored = glance.stored()
        assert stored.envelope == spool.envelope(id)
        assert stored.history == spool.history(id)
        assert stored.size == spool.content(id).size
        assert stored.waiting == spool.look(id)
    assert len(next(g.start for id, g in found.items() if isinstance(g, Glance) and id == "id2")) > FIRST


def test_a_log_longer_than_one_read(spool: MaildirSpool) -> None:
    for n in range(200):
        spool.record([Filing("id1", replace(ATTEMPT, time=float(n)), due=2e9)])
    ((_, glance),) = spool.glances(["id1"])
    assert isinstance(glance, Glance)
    assert len(glance.log) > 10_000
    assert glance.stored().history == spool.history("id1")


def test_one_that_is_wrong_is_named_in_its_place(spool: MaildirSpool, tmp_path: Path) -> None:
    (spool.path / "new/dir").mkdir()
    (spool.path / "new/link").symlink_to("/etc/passwd")
    (spool.path / "log/id3").mkdir()
    found = list(spool.glances(["id1", "dir", "link", "id3", "id2", "../id1"]))
    assert [id for id, _ in found] == ["id1", "dir", "link", "id3", "id2"]
    assert [isinstance(one, Malformed) for _, one in found] == [False, True, True, True, False]


def test_what_is_ruled_out_is_not_given_and_its_log_not_opened(spool: MaildirSpool) -> None:
    asked: list[bytes] = []

    def log(octets: bytes) -> bool:
        asked.append(octets)
        return b"no" in octets

    ids = ["id1", "id2", "id3"]
    assert [id for id, _ in spool.glances(ids, Choice(lambda start, length: length < 50_000, log))] == ["id1"]
    assert len(asked) == 2


class Counting(OsFiles):
    def __init__(self) -> None:
        super().__init__()
        self.open_now = self.most = 0

    def open(self, path: str) -> int:
        fd = super().open(path)
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        return fd

    def close(self, fd: int) -> None:
        self.open_now -= 1
        super().close(fd)


def test_files_open_at_once_are_few_and_all_are_closed(tmp_path: Path) -> None:
    files = Counting()
    spool = MaildirSpool(tmp_path / "1", files)
    ids = [f"id{n}" for n in range(2 * PORTION + 5)]
    for id in ids:
        store(spool, id)
    files.open_now = 0
    glances = spool.glances(ids)
    assert next(glances)[0] == "id0"
    assert files.open_now == 0, "not while somebody looks at them"
    assert [id for id, _ in glances] == ids[1:]
    assert files.most == PORTION


def test_a_message_that_goes_while_it_is_read(tmp_path: Path) -> None:
    """Never tried: its file may hold another message by then."""

    class Going(OsFiles):
        def size(self, fd: int) -> int:
            path = tmp_path / "1/new/id1"
            if path.exists():
                path.rename(tmp_path / "1/tmp/id1")
            return super().size(fd)

    spool = MaildirSpool(tmp_path / "1", Going())
    store(MaildirSpool(tmp_path / "1"), "id1", BODY)
    assert not list(spool.glances(["id1"]))
