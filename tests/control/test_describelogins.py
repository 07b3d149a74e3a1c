"""Logins that no relay will ever be told, as the check says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.test_describe import findings
from tests.tls.pki import host, key_pem, pem

LOGIN = "relay.example joe secret\n"
TO_RELAY = "there.example:relay.example:587\n"


def of(path: Path, files: dict[str, str | bytes]) -> list[str]:
    return [text for text in findings(path, files) if "control/authroutes" in text.split(": ")[1]]


@pytest.mark.parametrize("level", ["none", "may", "encrypt"])
def test_a_rule_that_does_not_say_who_the_relay_is(tmp_path: Path, level: str) -> None:
    files: dict[str, str | bytes] = {"smtproutes": TO_RELAY, "authroutes": LOGIN, "tlspolicy": f".example {level}\n"}
    (text,) = of(tmp_path, files)
    assert text.startswith("error: control/authroutes:1: the login of control/authroutes:1 for [relay.example]:587")
    assert f"control/tlspolicy:1 (.example {level})" in text
    assert "write a line `[relay.example]:587 verify`" in text and text.endswith("(mail for there.example)")


@pytest.mark.parametrize("line", ["[relay.example]:587 verify", "[relay.example] dane-only", "there.example secure"])
def test_a_rule_that_does(tmp_path: Path, line: str) -> None:
    assert not of(tmp_path, {"smtproutes": TO_RELAY, "authroutes": LOGIN, "tlspolicy": f"{line}\n"})


def test_without_a_line_it_depends_on_the_relays_records(tmp_path: Path) -> None:
    (text,) = of(tmp_path, {"smtproutes": TO_RELAY, "authroutes": LOGIN})
    assert text.startswith("warning: ") and "verifies [relay.example]:587 by TLSA records alone" in text


def test_an_address_has_no_such_records(tmp_path: Path) -> None:
    (text,) = of(tmp_path, {"smtproutes": ":192.0.2.1:587\n", "authroutes": "192.0.2.1 joe secret\n"})
    assert text.startswith("error: ") and "does not say who the relay is" in text
    assert text.endswith("(mail for all other domains)")


def test_one_line_for_a_domain_may_be_the_weak_one(tmp_path: Path) -> None:
    policy = "[relay.example] verify\nold.example may\nelse.example may\n"
    files: dict[str, str | bytes] = {
        "smtproutes": ":relay.example\nelse.example:\n.below.example:relay.example\n",
        "authroutes": LOGIN,
        "tlspolicy": policy + ".below.example encrypt\n",
    }
    found = of(tmp_path, files)
    assert [text.rpartition("(")[2] for text in found] == ["mail for any.below.example)", "mail for old.example)"]


def test_external_needs_a_certificate(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "smtproutes": TO_RELAY,
        "authroutes": "relay.example *\n",
        "tlspolicy": "[relay.example] verify\n",
    }
    (text,) = of(tmp_path, files)
    assert text.startswith("error: ") and "EXTERNAL needs a certificate of ours" in text
    assert not of(tmp_path, {**files, "clientcert.pem": pem(host("client.example")) + key_pem("host")})
    (text,) = of(tmp_path, {**files, "clientcerts/relay.example.pem": "none\n"})
    assert "none is shown to [relay.example]:587" in text
