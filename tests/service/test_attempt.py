"""One attempt's memory: what it gives back it reads again."""

from __future__ import annotations

import pytest

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.plan import NextHop
from qmtls.service.attempt import Attempt, Task
from qmtls.spool.api import NotInSpool
from qmtls.spool.memory import MemorySpool
from tests.spool.mail import BODY, ENVELOPE, store

ID = "0123456789abc00000000"


@pytest.fixture
def spool() -> MemorySpool:
    spool = MemorySpool("7")
    store(spool, ID, BODY)
    return spool


def test_what_is_remembered_is_not_read(spool: MemorySpool) -> None:
    attempt = Attempt(spool, ID, ENVELOPE, tried=False, remembered=b"as it came")
    assert attempt.loaded
    attempt.load()
    assert b"".join(attempt.chunks()) == b"as it came"
    assert attempt.size == 10
    assert attempt.key == ("7", ID)
    assert attempt.is_ascii()


def test_what_is_forgotten_is_read_again(spool: MemorySpool) -> None:
    attempt = Attempt(spool, ID, ENVELOPE, tried=False, remembered=BODY)
    attempt.forget()
    assert not attempt.loaded
    assert attempt.envelope is None and attempt.remembered is None
    attempt.load()
    assert attempt.loaded
    assert attempt.envelope == ENVELOPE
    assert b"".join(attempt.chunks()) == BODY == b"".join(attempt.chunks())
    assert attempt.size == len(BODY)
    assert attempt.arrived == ENVELOPE.arrival.time


def test_nothing_is_forgotten_while_it_is_in_hand(spool: MemorySpool) -> None:
    attempt = Attempt(spool, ID, ENVELOPE, tried=False, remembered=BODY)
    attempt.in_hand = 1
    attempt.forget()
    assert attempt.loaded


def test_a_message_that_is_gone(spool: MemorySpool) -> None:
    attempt = Attempt(spool, ID, ENVELOPE, tried=False)
    spool.remove([ID])
    with pytest.raises(NotInSpool):
        attempt.load()


def test_eight_bit_content_is_seen(spool: MemorySpool) -> None:
    assert not Attempt(spool, ID, ENVELOPE, tried=False, remembered=b"caf\xc3\xa9").is_ascii()


def test_what_is_known_without_the_disk(spool: MemorySpool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Attempt(spool, ID, ENVELOPE, tried=False, remembered=b"x").known_ascii() is True
    assert Attempt(spool, ID, ENVELOPE, tried=False, remembered=b"\xfc").known_ascii() is False
    attempt = Attempt(spool, ID, ENVELOPE, tried=False)
    assert attempt.known_ascii() is None
    attempt.load()
    assert attempt.known_ascii() is True


def test_one_outcome_for_all(spool: MemorySpool) -> None:
    got: list[dict[int, Outcome]] = []
    attempt = Attempt(spool, ID, ENVELOPE, tried=False)
    outcome = Outcome(Fate.DEFERRED, "later")
    Task(attempt, NextHop("a.example"), (0, 2), lambda task, outcomes: got.append(outcomes)).settle(outcome)
    assert got == [{0: outcome, 2: outcome}]
