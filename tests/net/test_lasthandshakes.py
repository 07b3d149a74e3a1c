"""What is told of while hosts are tried, whether or not there are TLS reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qmtls.delivery.plan import NextHop
from qmtls.ledger.handshakes import Handshake
from qmtls.net.targets import Target
from tests.net import certs
from tests.net.certs import authority
from tests.net.hosts import CLOSE, Host
from tests.net.wayout import ADDRESS, HOP, TARGET, WayOut

DOMAIN, MX = HOP.domain, "mx.there.example"
GOOD = authority().leaf("mx", names=[MX], use=certs.SERVER)


def shown(path: Path, host: Host, level: str, *, hop: NextHop = HOP, target: Target = TARGET) -> list[Handshake]:
    way = WayOut(path / "control", {"tlsdefault": f"{level}\n"})
    found: list[Handshake] = []
    way.dialer = replace(way.dialer, show=found.append)
    way.host(host)
    way.dial(target, hop)
    return found


@pytest.mark.parametrize(
    ("host", "level", "met", "words"),
    [
        (Host(GOOD), "may", True, "TLSv1.3, certificate not asked for"),
        (Host(GOOD), "encrypt", True, "TLSv1.3, certificate not asked for"),
        (Host(GOOD), "verify", False, "a certificate that cannot be trusted"),
        (Host(), "may", True, "plaintext (STARTTLS is not offered)"),
        (Host(), "encrypt", False, "STARTTLS is not offered, but control/tlsdefault:1 (encrypt) demands TLS"),
        (Host(GOOD, replies={"STARTTLS": "454 no"}), "may", True, "plaintext (STARTTLS was answered 454 no)"),
        (Host(GOOD, replies={"STARTTLS": "454 no"}), "encrypt", False, "STARTTLS was answered 454 no"),
        (Host(GOOD, replies={"STARTTLS": CLOSE}), "encrypt", False, "at STARTTLS"),
        (Host(GOOD, handshake=CLOSE), "may", True, "hung up after our hello"),
        (Host(GOOD, handshake=CLOSE), "encrypt", False, "hung up after our hello"),
    ],
)
def test_each_try_once(tmp_path: Path, host: Host, level: str, met: bool, words: str) -> None:
    (one,) = shown(tmp_path, host, level)
    assert (one.host, one.port, one.address, one.domain) == (MX, 25, ADDRESS, DOMAIN)
    assert (one.time, one.met) == (certs.NOW.timestamp(), met)
    assert words in one.text
    assert one.tls.startswith("TLSv1.3 ") == ("certificate" in one.text)


def test_relays_and_literals_too(tmp_path: Path) -> None:
    (relay,) = shown(tmp_path, Host(GOOD), "may", hop=replace(HOP, relay=MX))
    assert (relay.host, relay.domain) == (MX, DOMAIN)
    (literal,) = shown(tmp_path, Host(GOOD), "may", hop=NextHop(f"[{ADDRESS}]"), target=replace(TARGET, name=""))
    assert literal.host == ADDRESS


@pytest.mark.parametrize(
    ("host", "level"), [(Host(greeting="554 no"), "may"), (Host(greeting=CLOSE), "encrypt"), (Host(GOOD), "none")]
)
def test_without_a_verdict_about_tls_nothing_is_told(tmp_path: Path, host: Host, level: str) -> None:
    assert shown(tmp_path, host, level) == []
    assert host.visits


def test_a_fault_in_telling_keeps_no_mail(tmp_path: Path, failures: list[Any]) -> None:
    def broken(_: Handshake) -> None:
        raise ZeroDivisionError

    way = WayOut(tmp_path / "control", {})
    way.dialer = replace(way.dialer, show=broken)
    way.host(Host(GOOD))
    (channel,) = way.dial()
    assert not isinstance(channel, Exception)
    assert failures.pop()["log_failure"].check(ZeroDivisionError)
