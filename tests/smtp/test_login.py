"""What a client says to log in, mechanism by mechanism."""

from __future__ import annotations

from base64 import b64decode

import pytest

from qmtls.smtp.login import Exchange, Login, NoMechanism

JOE = Login("joe", "sécret", "control/authroutes:1")


def test_plain_goes_first_and_in_one_line() -> None:
    exchange = Exchange(JOE, {"AUTH": "LOGIN plain XOAUTH2"})
    words = exchange.first().split()
    assert words[:2] == [b"AUTH", b"PLAIN"]
    assert b64decode(words[2]) == "\0joe\0sécret".encode()
    assert exchange.answer() == b"*"


def test_login() -> None:
    exchange = Exchange(JOE, {"AUTH": "LOGIN"})
    assert exchange.first() == b"AUTH LOGIN"
    assert [b64decode(exchange.answer()) for _ in range(2)] == [b"joe", "sécret".encode()]
    assert exchange.answer() == b"*"


@pytest.mark.parametrize(("user", "response"), [("", b"="), ("joe", b"am9l")])
def test_external(user: str, response: bytes) -> None:
    assert Exchange(Login(user, None), {"AUTH": "PLAIN EXTERNAL"}).first() == b"AUTH EXTERNAL " + response


def test_what_is_too_long_for_a_command_waits_for_the_challenge() -> None:
    exchange = Exchange(Login("joe", "x" * 600), {"AUTH": "PLAIN"})
    assert exchange.first() == b"AUTH PLAIN"
    assert b64decode(exchange.answer()) == b"\0joe\0" + b"x" * 600


@pytest.mark.parametrize(
    ("login", "offered", "words"),
    [
        (JOE, {}, "it offers no AUTH, and not PLAIN or LOGIN"),
        (JOE, {"AUTH": "CRAM-MD5 EXTERNAL"}, "it offers AUTH CRAM-MD5 EXTERNAL, and not PLAIN or LOGIN"),
        (Login("", None), {"AUTH": "PLAIN"}, "it offers AUTH PLAIN, and not EXTERNAL"),
    ],
)
def test_nothing_that_would_do(login: Login, offered: dict[str, str], words: str) -> None:
    with pytest.raises(NoMechanism) as caught:
        Exchange(login, offered)
    assert str(caught.value) == words


def test_the_password_is_never_shown() -> None:
    assert "cret" not in repr(JOE)
