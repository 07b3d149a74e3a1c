"""qmail's schedule, attempt by attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.schedule import JITTER, MOST_RETEST, Lifetimes, expired, next_due, retest_wait

WEEK = 604800.0
ARRIVED = 1_700_000_000.0

# Age of attempt n in hours, minutes, seconds: a selection of qmail's table.
KNOWN = {
    1: (0, 6, 40),
    2: (0, 26, 40),
    3: (1, 0, 0),
    9: (9, 0, 0),
    10: (11, 6, 40),
    15: (25, 0, 0),
    18: (36, 0, 0),
    27: (81, 0, 0),
    36: (144, 0, 0),
    38: (160, 26, 40),
    39: (169, 0, 0),
}


def ages(chance: float) -> list[float]:
    """The ages of all attempts of a message that is never delivered, the last one included."""
    now = ARRIVED
    found = [0.0]
    while not expired(ARRIVED, now, WEEK):
        now = next_due(ARRIVED, now, chance)
        found.append(now - ARRIVED)
    return found


def test_forty_attempts_the_last_an_hour_after_a_week() -> None:
    found = ages(0.0)
    assert found == [400.0 * n * n for n in range(40)]
    assert len(found) == 40 and found[-1] == WEEK + 3600
    for n, (hours, minutes, seconds) in KNOWN.items():
        assert found[n] == hours * 3600 + minutes * 60 + seconds


def test_the_stretch_is_a_tenth_of_the_wait_at_most() -> None:
    for age in (0.0, 400.0, 90_000.0):
        now = ARRIVED + age
        plain = next_due(ARRIVED, now, 0.0) - now
        longest = next_due(ARRIVED, now, 1.0) - now
        assert abs(longest - plain * (1 + JITTER)) < 1e-3
        assert plain < next_due(ARRIVED, now, 0.5) - now < longest
    assert 36 <= len(ages(1.0)) <= 40


def test_the_last_attempt_is_the_first_whose_age_exceeds_the_lifetime() -> None:
    assert not expired(0.0, WEEK, WEEK)
    assert expired(0.0, WEEK + 0.5, WEEK)


def test_a_clock_that_was_set_back_does_not_stop_mail() -> None:
    assert next_due(ARRIVED, ARRIVED - 30_000_000, 0.0) == ARRIVED - 30_000_000 + 400
    assert not expired(ARRIVED, ARRIVED - 30_000_000, WEEK)


@given(
    st.floats(0, 4e9, allow_nan=False),
    st.floats(0, 4e9, allow_nan=False),
    st.floats(0, 1, allow_nan=False),
)
def test_the_next_attempt_is_never_in_the_past(arrived: float, now: float, chance: float) -> None:
    assert next_due(arrived, now, chance) >= now + 399


def test_what_waits_for_tls_has_its_own_time() -> None:
    lifetimes = Lifetimes(100.0, 300.0)
    assert lifetimes.of(Outcome(Fate.DEFERRED, "it is down")) == 100.0
    assert lifetimes.of(Outcome(Fate.DEFERRED, "it has no TLS", unmet="it has no TLS")) == 300.0


def test_probes_from_five_minutes_to_an_hour() -> None:
    assert [retest_wait(300.0, failed, 0.0) for failed in range(6)] == [300, 600, 1200, 2400, 3600, 3600]


@given(st.floats(1, 1e6), st.integers(0, 10**9), st.floats(0, 1))
def test_probes_never_come_sooner_and_never_stop(first: float, failed: int, chance: float) -> None:
    wait = retest_wait(first, failed, chance)
    assert first <= wait <= first * MOST_RETEST * (1 + JITTER)
    assert retest_wait(first, failed + 1, 0.0) >= retest_wait(first, failed, 0.0)
    assert retest_wait(first, failed, 0.0) <= wait
