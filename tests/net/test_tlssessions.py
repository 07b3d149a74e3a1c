"""What is counted for TLS reports while hosts are tried: one session for each, by the policy that its domain has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qmtls.delivery.plan import NextHop
from qmtls.net.channel import Channel
from qmtls.net.outbound import HostFailed
from qmtls.net.targets import Target
from qmtls.tls.dane import Tlsa
from qmtls.tls.pin import key_digest
from qmtls.tls.results import TlsSession
from qmtls.tls.resulttypes import TlsResult
from qmtls.tls.sts import StsMode, StsPolicy
from tests.net import certs
from tests.net.certs import authority
from tests.net.hosts import CLOSE, Host
from tests.net.house import Files
from tests.net.wayout import ADDRESS, HOP, TARGET, WayOut

DOMAIN, MX = HOP.domain, "mx.there.example"
GOOD = authority().leaf("mx", names=[MX], use=certs.SERVER)
REPORTS: Files = {"tlsrpt": "from=tlsrpt@here.example\n", "tlsdefault": "may\n"}


def counted(
    path: Path, host: Host, *, hop: NextHop = HOP, target: Target = TARGET, files: Files = REPORTS
) -> list[TlsSession]:
    way = WayOut(path / "control", files)
    found: list[TlsSession] = []
    way.dialer = replace(way.dialer, count=found.append)
    way.host(host)
    way.dial(target, hop)
    return found


@pytest.mark.parametrize(
    ("host", "result"),
    [
        (Host(GOOD), "success"),
        (Host(), "starttls-not-supported"),
        (Host(GOOD, replies={"STARTTLS": "454 no"}), "starttls-not-supported"),
        (Host(GOOD, replies={"STARTTLS": CLOSE}), "validation-failure"),
        (Host(GOOD, handshake=CLOSE), "validation-failure"),
    ],
)
@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_each_host_once(tmp_path: Path, host: Host, result: str, level: str) -> None:
    (session,) = counted(tmp_path, host, files={**REPORTS, "tlsdefault": f"{level}\n"})
    assert (session.domain, session.mx, session.receiving_ip) == (DOMAIN, MX, ADDRESS)
    assert session.sending_ip and session.helo == "there"
    assert (session.policy_type.value, session.result.value) == ("no-policy-found", result)


@pytest.mark.parametrize(
    ("hop", "files"),
    [
        (HOP, {"tlsdefault": "may\n"}),
        (replace(HOP, tls_optional=True), REPORTS),  # as reports are
        (replace(HOP, relay=MX), REPORTS),
        (NextHop(f"[{ADDRESS}]"), REPORTS),
        (HOP, {**REPORTS, "tlsdefault": "none\n"}),
    ],
)
def test_what_is_not_counted(tmp_path: Path, hop: NextHop, files: Files) -> None:
    host = Host(GOOD)
    assert counted(tmp_path, host, hop=hop, files=files) == []
    assert host.visits


@pytest.mark.parametrize("host", [Host(GOOD, greeting="554 no"), Host(GOOD, greeting=CLOSE)])
def test_what_ends_before_tls_is_no_session(tmp_path: Path, host: Host) -> None:
    assert counted(tmp_path, host) == []


def test_by_the_policy_that_was_found(tmp_path: Path) -> None:
    way = WayOut(tmp_path / "control", {**REPORTS, "tlsdefault": "dane\n"})
    found: list[TlsSession] = []
    way.dialer = replace(way.dialer, count=found.append)
    way.names.mail[DOMAIN] = [(10, MX)]
    way.names.hosts[MX] = ADDRESS
    way.policies.known[DOMAIN] = StsPolicy(StsMode.TESTING, 86400, ("*.there.example",))
    way.host(Host(GOOD))
    for _ in range(2):
        targets = way.targets()
        assert isinstance(targets, list)
        way.dial(targets[0])
        way.names.secure |= {DOMAIN, MX, f"_25._tcp.{MX}"}
        way.names.tlsa[f"_25._tcp.{MX}"] = (Tlsa(3, 1, 1, key_digest(GOOD.cert)),)
    first, second = found
    assert (first.policy_type.value, first.mx_patterns, first.result.value) == (
        "sts",
        ("*.there.example",),
        "certificate-not-trusted",
    )
    assert (second.policy_type.value, second.result.value) == ("tlsa", "success")
    assert second.policy_strings == (f"3 1 1 {key_digest(GOOD.cert).hex()}",)


def test_both_policies_where_no_record_can_be_used(tmp_path: Path) -> None:
    way = WayOut(tmp_path / "control", {**REPORTS, "tlsdefault": "dane\n"})
    found: list[TlsSession] = []
    way.dialer = replace(way.dialer, count=found.append)
    way.names.mail[DOMAIN] = [(10, MX)]
    way.names.hosts[MX] = ADDRESS
    way.names.secure |= {DOMAIN, MX, f"_25._tcp.{MX}"}
    way.names.tlsa[f"_25._tcp.{MX}"] = (Tlsa(1, 1, 1, key_digest(GOOD.cert)),)
    way.policies.known[DOMAIN] = StsPolicy(StsMode.ENFORCE, 86400, (MX,))
    way.host(Host(GOOD))
    targets = way.targets()
    assert isinstance(targets, list)
    (failed,) = way.dial(targets[0])
    assert isinstance(failed, HostFailed) and "MTA-STS policy" in str(failed), "no authority of ours has issued it"
    assert [(one.policy_type.value, one.result.value) for one in found] == [
        ("tlsa", "tlsa-invalid"),
        ("sts", "certificate-not-trusted"),
    ]


def test_a_policy_that_cannot_be_had(tmp_path: Path) -> None:
    way = WayOut(tmp_path / "control", {**REPORTS, "tlsdefault": "dane\n"})
    found: list[TlsSession] = []
    way.dialer = replace(way.dialer, count=found.append)
    way.policies.cannot_be_had[DOMAIN] = TlsResult.STS_POLICY_FETCH_ERROR
    way.host(Host(GOOD))
    assert way.dial()
    (session,) = found
    assert (session.policy_type.value, session.result.value) == ("sts", "sts-policy-fetch-error")


def test_a_fault_in_counting_keeps_no_mail(tmp_path: Path, failures: list[Any]) -> None:
    def broken(session: TlsSession) -> None:
        raise ZeroDivisionError

    way = WayOut(tmp_path / "control", REPORTS)
    way.dialer = replace(way.dialer, count=broken)
    way.host(Host(GOOD))
    (channel,) = way.dial()
    assert isinstance(channel, Channel)
    assert failures.pop()["log_failure"].check(ZeroDivisionError)
