"""Relays that are spoken to in another way: TLS first, LMTP, sockets of this host, and those that want a login."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from qmtls.delivery.plan import NextHop
from qmtls.delivery.routes import Scheme
from qmtls.net.channel import Channel
from qmtls.net.outbound import HostFailed
from qmtls.net.targets import Target
from tests.net.certs import authority
from tests.net.hosts import CLOSE, HANG, Host
from tests.net.house import Files
from tests.net.wayout import ADDRESS, WayOut

RELAY = "relay.example"
SMTPS = NextHop("there.example", RELAY, 465, scheme=Scheme.SMTPS)
LMTP = NextHop("there.example", RELAY, 24, scheme=Scheme.LMTP)
SOCKET = NextHop("there.example", "/run/lmtp", 0, scheme=Scheme.LMTP)
PLAIN = NextHop("there.example", RELAY, 587)
GOOD = authority().leaf(names=(RELAY,))


def way_to(path: Path, files: Files | None = None) -> WayOut:
    anchors = path / "anchors.pem"
    anchors.write_bytes(authority().pem)
    written: Files = {name: str(text).replace("ANCHORS", str(anchors)) for name, text in (files or {}).items()}
    return WayOut(path / "control", written)


def dial(way: WayOut, hop: NextHop) -> Channel | HostFailed:
    way.names.hosts[RELAY] = ADDRESS
    targets = way.targets(hop)
    assert isinstance(targets, list)
    found = way.dial(targets[0], hop)
    way.reactor.pass_time(120, 5)
    return found[0]


# ---------------------------------------------------------------- smtps:


def test_tls_comes_first(tmp_path: Path) -> None:
    way = way_to(tmp_path)
    host = way.host(Host(GOOD, implicit=True), port=465)
    channel = dial(way, SMTPS)
    assert isinstance(channel, Channel)
    assert "encrypt" in channel.tls and channel.tls.startswith("TLSv1.3")
    assert host.said() == ["EHLO"]
    assert host.visits[0].server_name == RELAY


@pytest.mark.parametrize("level", ["none", "may", "encrypt", "verify"])
def test_there_is_no_plaintext_to_fall_back_to(tmp_path: Path, level: str) -> None:
    way = way_to(tmp_path, {"tlspolicy": f"[{RELAY}]:465 {level}\n"})
    for host in (Host(), Host(GOOD, implicit=True, handshake=CLOSE), Host(GOOD, implicit=True, handshake=HANG)):
        way.host(host, port=465)
        failed = dial(way, SMTPS)
        assert isinstance(failed, HostFailed) and failed.tls
        assert (len(host.visits), host.said()) == (1, [])
    assert "smtps: in control/smtproutes" in str(failed) or level in ("encrypt", "verify")


def test_a_verdict_is_passed_there_too(tmp_path: Path) -> None:
    way = way_to(tmp_path, {"tlspolicy": f"[{RELAY}]:465 secure tafile=ANCHORS\n"})
    way.host(Host(GOOD, implicit=True), port=465)
    assert isinstance(dial(way, SMTPS), Channel)
    host = way.host(Host(authority().leaf(names=("else.example",)), implicit=True), port=465)
    failed = dial(way, SMTPS)
    assert isinstance(failed, HostFailed) and failed.tls
    assert host.said() == []


def test_requiretls_is_known_inside_tls(tmp_path: Path) -> None:
    way = way_to(tmp_path)
    way.host(Host(GOOD, implicit=True, ehlo=("there", "REQUIRETLS")), port=465)
    channel = dial(way, SMTPS)
    assert isinstance(channel, Channel) and "REQUIRETLS" in channel.session.extensions


# ---------------------------------------------------------------- lmtp:


def test_lmtp(tmp_path: Path) -> None:
    way = way_to(tmp_path)
    host = way.host(Host(GOOD, lmtp=True), port=24)
    channel = dial(way, LMTP)
    assert isinstance(channel, Channel)
    assert host.said() == ["LHLO", "STARTTLS", "LHLO"]
    assert host.visits[0].tls


def test_a_demand_holds_for_lmtp(tmp_path: Path) -> None:
    way = way_to(tmp_path, {"tlspolicy": f"[{RELAY}]:24 encrypt\n"})
    way.host(Host(lmtp=True), port=24)
    failed = dial(way, LMTP)
    assert isinstance(failed, HostFailed) and failed.tls


def test_a_socket_of_this_host(tmp_path: Path) -> None:
    way = way_to(tmp_path, {"tlsdefault": "encrypt\n", "there.example.pem": GOOD.pem.decode()})
    host = way.host(Host(lmtp=True), "/run/lmtp", 0)
    channel = dial(way, SOCKET)
    assert isinstance(channel, Channel)
    assert (channel.host, channel.tls, host.said()) == ("/run/lmtp", "plain", ["LHLO"])


def test_how_they_read() -> None:
    assert str(SMTPS) == "smtps:[relay.example]:465"
    assert str(SOCKET) == "lmtp:unix:/run/lmtp"
    assert str(LMTP) == "lmtp:[relay.example]:24"
    assert str(PLAIN) == "[relay.example]:587"
    assert str(Target("", "/run/lmtp", 0)) == "/run/lmtp"


# ---------------------------------------------------------------- logins

SECURE = f"[{RELAY}]:587 secure tafile=ANCHORS\n"


def relay(way: WayOut, **replies: str) -> Host:
    offers = ("there", "AUTH PLAIN LOGIN", "PIPELINING")
    return way.host(Host(GOOD, ehlo=offers, replies=dict(replies)), port=587)


def login(line: str = f"{RELAY} joe secret", policy: str = SECURE) -> Files:
    return {"authroutes": line + "\n", "tlspolicy": policy, "smtproutes": f":{RELAY}:587\n"}


def test_a_login_over_verified_tls(tmp_path: Path) -> None:
    way = way_to(tmp_path, login())
    host = relay(way)
    assert isinstance(dial(way, PLAIN), Channel)
    assert host.said() == ["EHLO", "STARTTLS", "EHLO", "AUTH"]
    assert host.visits[0].lines[-1] == "AUTH PLAIN " + b64encode(b"\0joe\0secret").decode()


@pytest.mark.parametrize("level", ["none", "may", "encrypt", "dane"])
def test_no_login_over_less(tmp_path: Path, level: str) -> None:
    way = way_to(tmp_path, login(policy=f"[{RELAY}]:587 {level}\n"))
    host = relay(way)
    failed = dial(way, PLAIN)
    assert isinstance(failed, HostFailed) and failed.tls and failed.status == "4.7.11"
    assert "control/authroutes:1" in str(failed) and f"`[{RELAY}]:587 verify`" in str(failed)
    assert "secret" not in str(failed)
    assert not host.visits


def test_no_login_where_the_verdict_is_bad(tmp_path: Path) -> None:
    way = way_to(tmp_path, login())
    host = way.host(Host(authority().leaf(names=("else.example",)), ehlo=("there", "AUTH PLAIN")), port=587)
    assert isinstance(dial(way, PLAIN), HostFailed)
    assert "AUTH" not in host.said()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("535 5.7.8 wrong", "4.7.8"),
        ("454 4.7.0 later", "4.7.8"),
        ("421 4.3.2 bye", "4.4.2"),
        ("999 what", "4.4.2"),
        (CLOSE, "4.4.2"),
        (HANG, "4.4.2"),
    ],
)
def test_a_login_that_is_not_taken(tmp_path: Path, answer: str, status: str) -> None:
    way = way_to(tmp_path, login())
    host = relay(way, AUTH=answer)
    failed = dial(way, PLAIN)
    assert isinstance(failed, HostFailed) and not failed.tls and failed.status == status
    assert "secret" not in str(failed)
    assert host.visits[0].lost


def test_endless_challenges(tmp_path: Path) -> None:
    way = way_to(tmp_path, login())
    host = relay(way, **{"AUTH": "334 Og==", "*": "501 5.7.0 cancelled"})
    failed = dial(way, PLAIN)
    assert isinstance(failed, HostFailed) and "501" in str(failed)
    assert host.said()[-1] == "QUIT" and "*" in host.said()


def test_a_relay_that_has_no_login_for_us(tmp_path: Path) -> None:
    way = way_to(tmp_path, login(f"{RELAY} *"))
    relay(way)
    failed = dial(way, PLAIN)
    assert isinstance(failed, HostFailed) and "EXTERNAL" in str(failed)


def test_external(tmp_path: Path) -> None:
    way = way_to(tmp_path, login(f"{RELAY} *"))
    host = way.host(Host(GOOD, ehlo=("there", "AUTH EXTERNAL")), port=587)
    assert isinstance(dial(way, PLAIN), Channel)
    assert host.visits[0].lines[-1] == "AUTH EXTERNAL ="


def test_tls_required_no_opens_no_password(tmp_path: Path) -> None:
    """What DANE or MTA-STS would verify is asked for all the same."""
    way = way_to(tmp_path, login(policy=""))
    loose = NextHop("there.example", RELAY, 587, tls_optional=True)
    assert way.policy(Target(RELAY, ADDRESS, 587), loose).level.value == "dane"
