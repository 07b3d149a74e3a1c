"""`qmtls probe` and `qmtls policy explain` about relays that are spoken to in another way: TLS first and a login
(another qmtls), LMTP on a socket and over TCP (Dovecot)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import NewHouse
from tests.system.house import House
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.outbound.test_lmtp import Dovecot, dovecot  # noqa: F401 - a fixture for this module too
from tests.system.pki import Authority
from tests.system.waiting import free_port


@pytest.fixture
def relay(new_house: NewHouse) -> tuple[House, int]:
    """One that takes mail from a user with a password, and its port for TLS from the first octet."""
    other, port = new_house("relay", me="relay.test"), free_port()
    other.control(
        "listen",
        f"smtp tcp:{other.port}:interface=127.0.0.1\nsmtps tcp:{port}:interface=127.0.0.1\n",
    )
    other.qmtls("user", "add", "printer", stdin=b"a long secret\n")
    return other.start(), port


def stages(output: str) -> list[str]:
    return [line[2:18].strip() for line in output.splitlines() if line.startswith("  ")]


def test_tls_first_and_a_login(house: House, relay: tuple[House, int]) -> None:
    port = relay[1]
    house.control("ca.crt", relay[0].authority.pem)
    open_to_all(house, f"there.test:smtps:127.0.0.1:{port}")
    house.control("authroutes", f"127.0.0.1:{port} printer a long secret\n").chmod(0o600)

    # Nothing says who the relay is: the login is not said, and both commands and the service say why.
    why = f"the login of control/authroutes:1 for [127.0.0.1]:{port} goes over verified TLS only"
    explained = house.qmtls("policy", "explain", "there.test", status=1).stdout
    assert f"to the relay 127.0.0.1 port {port}, TLS from the first octet, by control/smtproutes:1" in explained
    assert "login: as printer (control/authroutes:1), once TLS has verified the relay" in explained
    assert f"=> mail waits: {why}" in explained
    probed = house.qmtls("probe", "there.test", status=1).stdout
    assert f"=> mail would wait: {why}" in probed and "connect" not in stages(probed)
    house.start()
    hand_in(house, "bob@there.test")
    assert why in wait_for_reasons(house)["bob@there.test"]["reason"]

    house.control("tlspolicy", f"[127.0.0.1]:{port} verify tafile=ca.crt\n")
    explained = house.qmtls("policy", "explain", f"smtps:127.0.0.1:{port}").stdout
    assert f"* control/tlspolicy:1 [127.0.0.1]:{port}: wins" in explained
    for asked in ("there.test", f"smtps:127.0.0.1:{port}"):
        probed = house.qmtls("probe", asked).stdout
        named = [name for name in stages(probed) if not name.startswith(("chain", "pin", "names", "verified"))]
        assert named == ["DNS", "rule", "login", "connect", "handshake", "EHLO under TLS", "AUTH", "verdict"]
        assert "AUTH             235" in probed
        assert "a long secret" not in probed

    house.control("authroutes", f"127.0.0.1:{port} printer another secret\n").chmod(0o600)
    probed = house.qmtls("probe", "there.test", status=1).stdout
    assert "AUTH !" in probed and "does not take the login of control/authroutes:1: 535" in probed.splitlines()[-1]


def test_lmtp(house: House, authority: Authority, dovecot: Dovecot) -> None:  # noqa: F811
    socket, port = dovecot.socket, dovecot.port
    open_to_all(house, f"there.test:lmtp:unix:{socket}", f"tcp.test:lmtp:127.0.0.1:{port}")
    house.control("tlspolicy", "there.test secure\ntcp.test encrypt\n")
    explained = house.qmtls("policy", "explain", "there.test").stdout
    assert f"there.test: to the socket {socket}, by LMTP, by control/smtproutes:1" in explained
    assert "wins: it travels no network, so no TLS is asked for" in explained and "=> plaintext" in explained
    probed = house.qmtls("probe", "there.test").stdout
    assert stages(probed) == ["DNS", "rule", "connect", "greeting, LHLO", "verdict"]
    assert house.qmtls("probe", f"lmtp:unix:{socket}").stdout.splitlines()[-1] == f"=> mail would go to {socket}"

    explained = house.qmtls("policy", "explain", "tcp.test").stdout
    assert f"to the relay 127.0.0.1 port {port}, by LMTP, by control/smtproutes:2" in explained
    assert "* control/tlspolicy:2 tcp.test: wins: TLS, whatever certificate" in explained
    probed = house.qmtls("probe", "tcp.test").stdout
    named = [name for name in stages(probed) if not name.startswith(("chain", "pin", "names"))]
    assert named == ["DNS", "rule", "connect", "greeting, LHLO", "STARTTLS", "handshake", "LHLO under TLS", "verdict"]


def test_a_socket_that_is_not_there(house: House, tmp_path: Path) -> None:
    probed = house.qmtls("probe", f"lmtp:unix:{tmp_path}/none", status=1).stdout
    assert "cannot be connected to: no such file or directory" in probed.splitlines()[-1]
