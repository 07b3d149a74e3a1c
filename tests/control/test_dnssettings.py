from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.directory import compiled, problems


def test_servers_trust_and_the_names_to_try(tmp_path: Path) -> None:
    lines = "127.0.0.1\n192.0.2.1:5353 trusted\n[2001:db8::1]:53   trusted\n192.0.2.2\n"
    settings = compiled(tmp_path, {"dnsserver": lines, "dnscheck": "Example.ORG dnssec-failed.org.\nwhy\n"})
    assert settings.dns_servers == (
        ("127.0.0.1", 53),
        ("192.0.2.1", 5353),
        ("2001:db8::1", 53),
        ("192.0.2.2", 53),
    )
    assert settings.dns_trusted == {"192.0.2.1", "2001:db8::1"}
    assert settings.dns_check == ("example.org", "dnssec-failed.org")


def test_none_of_it(tmp_path: Path) -> None:
    settings = compiled(tmp_path, {})
    assert (settings.dns_servers, settings.dns_trusted, settings.dns_check) == ((), frozenset(), None)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("dnsserver", "192.0.2.1 secure", "is not understood"),
        ("dnsserver", "192.0.2.1 trusted trusted", "is not understood"),
        ("dnsserver", "dns.example trusted", "is no IP address"),
        ("dnscheck", "example.org", "is not two names"),
        ("dnscheck", "example.org a..b", "is no host name"),
        ("dnscheck", "", "first line is empty"),
    ],
)
def test_what_is_not_understood(tmp_path: Path, file: str, text: str, words: str) -> None:
    (problem,) = problems(tmp_path, {file: text})
    assert words in problem
