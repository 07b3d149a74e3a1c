"""Passwords, looked at in threads that the test plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from argon2 import PasswordHasher
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from qmtls.control.settings import User
from qmtls.control.users import password_hash
from qmtls.net import passwords as module
from qmtls.net.passwords import CannotTell, Passwords, make_hash, matches
from qmtls.tls.clients import ClientRule
from qmtls.tls.policy import Origin

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def users(**words: str) -> dict[str, User]:
    origin = Origin("control/users")
    return {name: User(CHEAP.hash(word), ClientRule("user", name, origin, name)) for name, word in words.items()}


USERS = users(joe="sesame", ann="r\xf6d")


class Threads:
    """Work waits until the test does it."""

    def __init__(self) -> None:
        self.work: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.work.append((work, done))
        return done

    def do_one(self) -> None:
        work, done = self.work.pop(0)
        try:
            result = work()
        except Exception:
            result = Failure()
        done.callback(result)


def verify(name: str, password: str, known: Mapping[str, User] = USERS) -> tuple[str | None, int]:
    """The rule's name, and how many looks it took."""
    threads, found = Threads(), list[ClientRule | None]()
    Passwords(threads).verify(known, name, password).addCallback(found.append)
    looks = len(threads.work)
    while threads.work:
        threads.do_one()
    (rule,) = found
    return (rule.name if rule is not None else None), looks


def test_who_knows_the_password_is_the_user() -> None:
    assert verify("joe", "sesame") == ("joe", 1)
    assert verify("JOE", "sesame") == ("joe", 1)
    assert verify("\u212aim", "sesame", users(kim="sesame")) == (None, 1)  # the Kelvin sign is no k


@pytest.mark.parametrize("password", ["Sesame", "sesame ", "", "sesam", "sesame\0", "x" * 100_000, "\udcff"])
def test_everything_else_is_wrong(password: str) -> None:
    assert verify("joe", password) == (None, 1)


@pytest.mark.parametrize("password", ["r\xf6d", "ro\u0308d"])
def test_letters_count_however_they_were_typed(password: str) -> None:
    assert verify("ann", password) == ("ann", 1)


def test_who_does_not_exist_costs_the_same_look_and_never_gets_in() -> None:
    for name in ("nobody", "", "jo", "\udcff", "root"):
        for password in ("sesame", "r\xf6d"):
            assert verify(name, password) == (None, 1)
    assert verify("joe", "sesame", {}) == (None, 0)


def test_the_hash_for_nobody_is_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or different costs of the users' hashes would show in the spread of times."""
    seen: list[str] = []
    monkeypatch.setattr(module, "matches", lambda hash, password: seen.append(hash))
    for _ in range(5):
        verify("nobody", "x")
    assert len(seen) == 5 and len(set(seen)) == 1


def test_few_at_a_time_and_a_line_that_has_an_end() -> None:
    threads, told = Threads(), list[str]()
    passwords = Passwords(threads, at_a_time=2, in_line=3)
    for number in range(6):
        looking = passwords.verify(USERS, "joe", "sesame" if number % 2 else "wrong")
        looking.addCallbacks(
            lambda rule, number=number: told.append(f"{number} {rule is not None}"),
            lambda failure, number=number: told.append(f"{number} {failure.type.__name__}"),
        )
    assert told == ["5 CannotTell"]
    assert len(threads.work) == 2
    for left in (2, 2, 2, 1, 0):
        threads.do_one()
        assert len(threads.work) == left
    assert told[1:] == ["0 False", "1 True", "2 False", "3 True", "4 False"]
    passwords.verify(USERS, "joe", "sesame").addCallback(lambda rule: told.append("again"))
    threads.do_one()
    assert told[-1] == "again"


def test_trouble_of_ours_is_no_wrong_password() -> None:
    threads, told = Threads(), list[Failure]()
    passwords = Passwords(threads)
    passwords.verify(USERS, "joe", "sesame").addErrback(told.append)
    threads.work[0] = (lambda: 1 / 0, threads.work[0][1])
    threads.do_one()
    assert told[0].type is CannotTell
    origin = Origin("control/users")
    broken = {"joe": User("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA\x7f", ClientRule("user", "joe", origin, "joe"))}
    passwords.verify(broken, "joe", "sesame").addErrback(told.append)
    threads.do_one()
    assert told[1].type is CannotTell


def test_a_hash_that_we_make_is_one_that_we_take() -> None:
    hash = make_hash("sesame")
    assert password_hash(hash) == hash
    assert hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert matches(hash, "sesame") and not matches(hash, "sesam")
    assert make_hash("sesame") != hash
