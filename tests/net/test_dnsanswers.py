"""What is kept: for how long, how many, and never the enormous."""

from __future__ import annotations

from qmtls.net.dnsanswers import MAX_TTL, Answer, KeptAnswers
from qmtls.tls.dane import Tlsa


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


def test_answers_are_kept_for_their_time_and_not_longer_than_a_day() -> None:
    clock = Clock()
    kept = KeptAnswers(10, clock)
    answer = Answer(True, "a.test")
    kept.put(("a.test", "A"), answer, 30)
    kept.put(("b.test", "A"), answer, 10**9)
    kept.put(("c.test", "A"), answer, 0)
    clock.time += 29
    assert kept.get(("a.test", "A")) is answer
    assert kept.get(("a.test", "MX")) is None and kept.get(("c.test", "A")) is None
    clock.time += 1
    assert kept.get(("a.test", "A")) is None
    clock.time = 100.0 + MAX_TTL
    assert kept.get(("b.test", "A")) is None
    assert len(kept) == 0


def test_of_too_many_those_not_asked_for_longest_go() -> None:
    kept = KeptAnswers(3, Clock())
    for name in ("a", "b", "c"):
        kept.put((name, "A"), Answer(True, name), 60)
    assert kept.get(("a", "A")) is not None
    kept.put(("d", "A"), Answer(True, "d"), 60)
    assert len(kept) == 3
    assert kept.get(("b", "A")) is None and kept.get(("a", "A")) is not None


def test_the_enormous_is_not_kept() -> None:
    kept = KeptAnswers(10, Clock())
    kept.put(("many", "MX"), Answer(True, "many", tuple((1, "a") for _ in range(101))), 60)
    kept.put(("text", "TXT"), Answer(True, "text", (b"x" * 5000,)), 60)
    kept.put(("cert", "TLSA"), Answer(True, "cert", (Tlsa(3, 0, 0, b"x" * 5000),)), 60)
    assert len(kept) == 0
    kept.put(("key", "TLSA"), Answer(True, "key", (Tlsa(3, 1, 1, b"x" * 32),)), 60)
    assert len(kept) == 1
