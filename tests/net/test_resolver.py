"""Three answers are kept apart: so it is, there is no such name, and it cannot be told now."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from qmtls.net.resolver import Resolver, is_ip, to_ascii
from tests.net.nameserver import Asked, ask, serving

QUESTIONS = [
    ("mx", "mx.test"),
    ("mx", "MX.test."),
    ("mx", "null.test"),
    ("mx", "empty.test"),
    ("mx", "nowhere.test"),
    ("mx", "broken.test"),
    ("mx", "sick.test"),
    ("mx", "many.test"),
    ("mx", "b\u00fccher.test"),
    ("mx", "alias.test"),
    ("addresses", "a.test"),
    ("addresses", "four.test"),
    ("addresses", "alias.test"),
    ("addresses", "empty.test"),
    ("addresses", "nowhere.test"),
    ("addresses", "broken.test"),
    ("addresses", "LOCALHOST."),
    ("mx", "a" * 64 + ".test"),
    ("mx", "a..test"),
    ("mx", "\u2024.test"),
]
SLOW = [("mx", "garbage.test"), ("mx", "silent.test"), ("addresses", "half.test")]  # asked until time is up


@pytest.fixture(scope="module")
def answers() -> tuple[dict[tuple[str, str], Any], Asked]:
    asked: Asked = []
    with serving(asked) as port:
        found = ask([("127.0.0.1", port)], QUESTIONS, lifetime=20.0)
        found += ask([("127.0.0.1", port)], SLOW, lifetime=2.0, together=True)
    return dict(zip(QUESTIONS + SLOW, found, strict=True)), asked


Answers = tuple[dict[tuple[str, str], Any], Asked]


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("mx", "mx.test", [[10, "a.test"], [20, "b.test"]]),
        ("mx", "MX.test.", [[10, "a.test"], [20, "b.test"]]),
        ("mx", "null.test", [[0, ""]]),
        ("mx", "empty.test", []),
        ("mx", "b\u00fccher.test", [[10, "a.test"]]),
        ("mx", "alias.test", []),
        ("addresses", "a.test", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("addresses", "four.test", ["192.0.2.4"]),
        ("addresses", "alias.test", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ("addresses", "empty.test", []),
        ("addresses", "nowhere.test", []),
        ("addresses", "LOCALHOST.", ["127.0.0.1", "::1"]),
        ("addresses", "half.test", ["192.0.2.7"]),  # one family in trouble is no reason not to use the other
    ],
)
def test_clear_answers(answers: Answers, kind: str, name: str, expected: Any) -> None:
    assert answers[0][kind, name] == expected


def test_a_name_that_does_not_exist(answers: Answers) -> None:
    assert answers[0]["mx", "nowhere.test"] == ["NoSuchName", "DNS: the name nowhere.test does not exist"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("mx", "broken.test"),
        ("mx", "sick.test"),
        ("mx", "garbage.test"),
        ("mx", "silent.test"),
        ("addresses", "broken.test"),
        ("mx", "a" * 64 + ".test"),
        ("mx", "a..test"),
        ("mx", "\u2024.test"),
    ],
)
def test_doubt(answers: Answers, kind: str, name: str) -> None:
    what, sentence = answers[0][kind, name]
    assert what == "DnsTrouble"
    assert name in sentence and "cannot be looked up now" in sentence


def test_a_truncated_answer_is_asked_for_again_over_tcp(answers: Answers) -> None:
    found, asked = answers
    assert len(found["mx", "many.test"]) == 100
    assert [t for t, name, _ in asked if name == "many.test."] == ["udp", "tcp"]


def test_answers_are_kept_for_their_lifetime(answers: Answers) -> None:
    _, asked = answers
    assert [q for q in asked if q[1] == "mx.test."] == [("udp", "mx.test.", "MX")]
    assert not [q for q in asked if q[1] == "localhost."]


def test_the_next_server_is_asked() -> None:
    asked: Asked = []
    with serving(asked) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.2", 0))
        dead = closed.getsockname()
        closed.close()
        found = ask([(dead[0], dead[1]), ("127.0.0.1", port)], [("mx", "mx.test")], lifetime=60.0)
    assert found == [[[10, "a.test"], [20, "b.test"]]]


def test_no_server_at_all() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()
        closed.close()
        found = ask([(dead[0], dead[1])], [("mx", "mx.test"), ("addresses", "a.test")], lifetime=60.0)
    # Told at once, not after a minute.
    assert [answer[0] for answer in found] == ["DnsTrouble", "DnsTrouble"]
    assert all("NoNameservers" in answer[1] for answer in found)


def test_other_servers_from_now_on() -> None:
    resolver = Resolver(None, [("192.0.2.53", 53)])
    before = resolver._resolver
    resolver.use([("192.0.2.53", 53)])
    assert resolver._resolver is before, "what was learnt is kept"
    resolver.use([("192.0.2.54", 5353), ("2001:db8::53", 53)])
    servers: list[Any] = list(resolver._resolver.nameservers)
    assert [(server.address, server.port) for server in servers] == [("192.0.2.54", 5353), ("2001:db8::53", 53)]
    assert resolver._resolver is not before


def test_two_servers_on_one_address_keep_their_ports() -> None:
    resolver = Resolver(None, [("127.0.0.1", 5301), ("127.0.0.1", 5302)])
    servers: list[Any] = list(resolver._resolver.nameservers)
    assert [server.answer_port() for server in servers] == [5301, 5302]


def test_names_and_addresses() -> None:
    assert to_ascii("plain.example") == "plain.example"
    assert to_ascii("b\u00fccher.example") == "xn--bcher-kva.example"
    with pytest.raises(ValueError):
        to_ascii("\u2024\u2024.example")
    assert is_ip("192.0.2.1") and is_ip("2001:db8::1")
    assert not is_ip("[192.0.2.1]") and not is_ip("a.example") and not is_ip("")
