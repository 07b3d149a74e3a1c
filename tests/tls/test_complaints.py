from __future__ import annotations

import pytest

from qmtls.tls.complaints import ABOUT_LISTS, VERIFY_WORDS, verify_words, worst_words
from qmtls.tls.facts import ChainError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ChainError(10, 0, "x"), "expired"),
        (ChainError(10, 1, "x"), "expired, at a CA above it"),
        (ChainError(24, 1, "x"), "its issuer is no CA"),
        (ChainError(3, 0, "x"), "no revocation list of its CA"),
        (ChainError(3, 0, "x", "CN=Our CA"), "no revocation list of CN=Our CA"),
        (ChainError(12, 1, "x", "CN=Root"), "the revocation list of CN=Root has expired"),
        (ChainError(11, 0, "x", "CN=Ä\n"), "the revocation list of CN=?? is not yet valid"),
        (ChainError(10, 0, "x", "CN=Our CA"), "expired"),
        (ChainError(999, 0, "odd\r\ntext"), "odd??text"),
        (ChainError(999, 0, ""), "verify error 999"),
    ],
)
def test_words(error: ChainError, words: str) -> None:
    assert verify_words(error) == words


def test_the_most_telling_of_several() -> None:
    errors = [ChainError(code, 0, f"error {code}") for code in (999, 26, 3, 10, 20)]
    assert worst_words(errors) == "unknown issuer"
    assert worst_words([*errors, ChainError(23, 0, "")]) == "revoked"
    assert worst_words(errors[:1]) == "error 999"


def test_every_word_can_be_told_to_a_peer() -> None:
    assert all(words.isascii() and words.isprintable() for words in VERIFY_WORDS.values())
    assert set(VERIFY_WORDS) >= ABOUT_LISTS
