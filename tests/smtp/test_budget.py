"""Each account has an end, and a message clears those that it should."""

from __future__ import annotations

from qmtls.smtp.budget import REFUSALS, UNSEEN, Budget


def test_the_last_error_is_one_too_many() -> None:
    budget = Budget(3, 5, 10)
    assert [budget.error() for _ in range(3)] == [True, True, False]


def test_commands_without_a_message() -> None:
    budget = Budget(3, 2, 10)
    assert [budget.idle() for _ in range(3)] == [True, True, False]
    budget.message()
    assert budget.idle()


def test_refused_recipients() -> None:
    budget = Budget(3, 2, 10)
    for _ in range(3 * REFUSALS):
        assert budget.may_try
        budget.refusal()
    assert not budget.may_try
    budget.message()
    assert not budget.may_try


def test_what_is_unseen_has_an_end_too() -> None:
    budget = Budget(0, 0, 2)
    assert [budget.unseen() for _ in range(2 * UNSEEN + 1)] == [True] * (2 * UNSEEN) + [False]


def test_no_limit() -> None:
    budget = Budget(0, 0, 2)
    for _ in range(10_000):
        budget.refusal()
        assert budget.error() and budget.idle() and budget.may_try
