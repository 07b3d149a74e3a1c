"""What every Spool promises: one suite, run on both implementations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qmtls.spool.api import Attempt, Filing, NotInSpool, Spool, Waiting, ordered_back, pending
from qmtls.spool.incoming import FLUSH_AT
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.memory import MemorySpool
from tests.spool.mail import BODY, ENVELOPE, cuts, ids, octets, receive, store

MAKERS: list[Callable[[Path], Spool]] = [lambda path: MaildirSpool(path / "queue" / "1"), lambda path: MemorySpool()]
FIRST = Attempt(1000.5, done=(0,), deferred=(1, 2), reasons=((1, "mx said 451"), (2, "mx said 451")))
SECOND = Attempt(2000.5, failed=(1,), deferred=(2,), reasons=((1, "mx said 550"), (2, "no connection")))


@pytest.fixture(params=MAKERS, ids=["maildir", "memory"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Spool:
    made: Spool = request.param(tmp_path)
    return made


def test_what_is_committed_is_listed_and_read_back(spool: Spool) -> None:
    store(spool, "id1")
    assert list(spool.scan()) == [Waiting("id1", 0.0)]
    assert spool.envelope("id1") == ENVELOPE
    assert spool.history("id1") == ()
    content = spool.content("id1")
    assert content.size == len(BODY)
    assert b"".join(content.chunks()) == BODY
    assert b"".join(content.chunks()) == BODY  # any number of times


def test_a_batch_is_stored_whole(spool: Spool) -> None:
    batch = [receive(spool, f"id{n}", b"%d\r\n" % n) for n in range(30)]
    assert spool.commit(batch) == [None] * 30
    assert ids(spool) == sorted(f"id{n}" for n in range(30))
    assert octets(spool, "id7") == b"7\r\n"


def test_nothing_is_listed_before_its_commit(spool: Spool) -> None:
    incoming = receive(spool, "id1")
    incoming.flush()
    assert ids(spool) == []
    with pytest.raises(NotInSpool):
        spool.envelope("id1")


def test_empty_content(spool: Spool) -> None:
    assert spool.commit([spool.begin("id1", ENVELOPE)]) == [None]
    assert spool.content("id1").size == 0
    assert octets(spool, "id1") == b""


def test_big_content_asks_to_be_flushed_and_comes_back_in_small_chunks(spool: Spool) -> None:
    text = bytes(range(256)) * 4096  # 1 MiB
    incoming = spool.begin("id1", ENVELOPE)
    flushes = 0
    for chunk in cuts(text, 10_000):
        if incoming.write(chunk):
            incoming.flush()
            flushes += 1
    assert flushes >= len(text) // FLUSH_AT - 1
    assert incoming.size == len(text)
    assert spool.commit([incoming]) == [None]
    assert spool.content("id1").size == len(text)
    assert octets(spool, "id1") == text
    assert spool.envelope("id1") == ENVELOPE


def test_flush_at_the_very_end_or_twice_changes_nothing(spool: Spool) -> None:
    incoming = receive(spool, "id1")
    incoming.flush()
    incoming.flush()
    assert spool.commit([incoming]) == [None]
    assert octets(spool, "id1") == BODY


def test_content_that_looks_like_our_own_head_stays_content(spool: Spool) -> None:
    for n, text in enumerate((b" folded\r\n", b"}\r\n}\r\n", b'X-Qmtls-Envelope: {"version":1}\r\n', b"\0\xff")):
        store(spool, f"id{n}", text)
        assert octets(spool, f"id{n}") == text


def test_an_aborted_message_leaves_nothing_and_cannot_be_committed(spool: Spool) -> None:
    for flushed in (False, True):
        incoming = receive(spool, "id1")
        if flushed:
            incoming.flush()
        incoming.abort()
        incoming.abort()
        (error,) = spool.commit([incoming])
        assert error is not None
        assert not error.full
    assert ids(spool) == []


def test_one_bad_message_of_a_batch_does_not_touch_the_others(spool: Spool) -> None:
    batch = [receive(spool, f"id{n}") for n in range(3)]
    batch[1].abort()
    first, second, third = spool.commit(batch)
    assert (first, third) == (None, None)
    assert second is not None
    assert ids(spool) == ["id0", "id2"]


def test_abort_after_commit_is_harmless(spool: Spool) -> None:
    incoming = receive(spool, "id1")
    spool.commit([incoming])
    incoming.abort()
    assert octets(spool, "id1") == BODY


def test_recorded_attempts_come_back_in_order_and_set_the_time(spool: Spool) -> None:
    store(spool, "id1")
    assert spool.record([Filing("id1", FIRST, due=1_800_000_000.5)]) == [None]
    assert list(spool.scan()) == [Waiting("id1", 1_800_000_000.5)]
    assert spool.record([Filing("id1", SECOND, due=1_800_000_400.0)]) == [None]
    assert list(spool.scan()) == [Waiting("id1", 1_800_000_400.0)]
    assert spool.history("id1") == (FIRST, SECOND)
    assert pending(3, spool.history("id1")) == (2,)
    assert octets(spool, "id1") == BODY
    assert spool.envelope("id1") == ENVELOPE


def test_a_batch_of_filings(spool: Spool) -> None:
    for n in range(5):
        store(spool, f"id{n}")
    assert spool.record([Filing(f"id{n}", FIRST, due=1_800_000_000.0 + n) for n in range(4)]) == [None] * 4
    assert sorted(w.due for w in spool.scan()) == [0.0, *(1_800_000_000.0 + n for n in range(4))]


def test_held_and_released(spool: Spool) -> None:
    store(spool, "id1")
    hold, release = Attempt(1.0, event="hold"), Attempt(2.0, event="release")
    spool.record([Filing("id1", hold, due=0.0, held=True)])
    assert list(spool.scan()) == [Waiting("id1", 0.0, held=True)]
    spool.record([Filing("id1", release, due=1_800_000_000.0)])
    assert list(spool.scan()) == [Waiting("id1", 1_800_000_000.0)]
    assert spool.history("id1") == (hold, release)
    assert pending(3, spool.history("id1")) == (0, 1, 2)


@pytest.mark.parametrize(
    ("event", "waiting"),
    [
        ("hold", Waiting("id1", 0.0, held=True)),
        ("bounce", Waiting("id1", 0.0, returning=True)),
    ],
)
@pytest.mark.parametrize("tried", [False, True])
def test_an_order_outlasts_the_attempt_that_was_under_way(
    spool: Spool, event: str, waiting: Waiting, tried: bool
) -> None:
    store(spool, "id1")
    if tried:
        spool.record([Filing("id1", FIRST, due=1_800_000_000.0)])
    spool.record([Filing("id1", Attempt(1.0, event=event), 0.0, held=event == "hold", returning=event == "bounce")])
    spool.record([Filing("id1", SECOND, due=1_800_000_400.0)])
    assert list(spool.scan()) == [waiting]
    assert spool.look("id1") == waiting
    assert spool.history("id1")[-1] == SECOND
    spool.record([Filing("id1", Attempt(3.0, event="release"), due=1_800_000_500.0)])
    assert spool.look("id1") == Waiting("id1", 1_800_000_500.0)


def test_a_look_at_one_message(spool: Spool) -> None:
    assert spool.look("id1") is None
    assert spool.look("../new/id1") is None
    store(spool, "id1")
    assert spool.look("id1") == Waiting("id1", 0.0)
    spool.record([Filing("id1", FIRST, due=1_800_000_000.5)])
    assert spool.look("id1") == Waiting("id1", 1_800_000_000.5)
    spool.remove(["id1"])
    assert spool.look("id1") is None


def test_the_last_order_counts() -> None:
    bounce, hold = Attempt(1.0, event="bounce"), Attempt(2.0, event="hold")
    assert ordered_back([FIRST]) is None
    assert ordered_back([FIRST, bounce, SECOND]) == bounce
    assert ordered_back([bounce, hold]) is None
    assert ordered_back([hold, bounce]) == bounce


def test_recording_a_message_that_is_gone_is_no_error_and_leaves_nothing(spool: Spool) -> None:
    assert spool.record([Filing("gone", FIRST, due=1_800_000_000.0)]) == [None]
    assert spool.history("gone") == ()
    assert ids(spool) == []


def test_a_message_is_there_from_commit_to_remove(spool: Spool) -> None:
    assert not spool.has("id1") and not spool.has("../id1")
    store(spool, "id1")
    assert spool.has("id1")
    spool.record([Filing("id1", Attempt(1.0, deferred=(0,)), due=2e9)])
    assert spool.has("id1")
    spool.remove(["id1"])
    assert not spool.has("id1")


def test_remove_takes_message_and_log_and_ignores_the_unknown(spool: Spool) -> None:
    for id in ("id1", "id2", "id3"):
        store(spool, id)
    spool.record([Filing("id2", FIRST, due=1_800_000_000.0)])
    spool.remove(["id1", "id2", "unknown", "../../etc/passwd"])
    assert ids(spool) == ["id3"]
    assert spool.history("id2") == ()
    for read in (spool.envelope, spool.content):
        with pytest.raises(NotInSpool):
            read("id2")


@pytest.mark.parametrize("id", ["", ".", "..", "../new/id1", "ID1", "id 1", "id/1", "id\0", "x" * 65, "é", "id1\n"])
def test_names_that_are_no_ids_never_reach_the_disk(spool: Spool, id: str) -> None:
    with pytest.raises(ValueError, match="queue id"):
        spool.begin(id, ENVELOPE)
    with pytest.raises(NotInSpool):
        spool.envelope(id)
    with pytest.raises(NotInSpool):
        spool.content(id)
    assert spool.history(id) == ()
    assert spool.record([Filing(id, FIRST, due=1_800_000_000.0)]) == [None]
    assert list(spool.foreign()) == []
