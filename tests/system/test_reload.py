"""A change of the control directory takes effect without a restart, as a whole or not at all."""

from __future__ import annotations

import re
import ssl
from signal import SIGHUP

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.pki import Authority
from tests.system.waiting import wait_for

ELSEWHERE = "ann@elsewhere.test"


def rcpt(house: House, context: ssl.SSLContext) -> int:
    with SmtpClient(house.port) as client:
        client.starttls(context)
        client.command("MAIL FROM:<joe@client.test>", 250)
        return client.command(f"RCPT TO:<{ELSEWHERE}>").code


def shown_certificate(house: House) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with SmtpClient(house.port) as client:
        client.starttls(context)
        assert isinstance(client.socket, ssl.SSLSocket)
        return client.socket.getpeercert(binary_form=True) or b""


def test_rules_come_and_go(house: House, as_joe: ssl.SSLContext) -> None:
    house.control("concurrencyremote", "0\n")
    house.start()
    assert rcpt(house, as_joe) == 553
    house.control("tlsclients", "joe@client.test\n")
    wait_for(lambda: rcpt(house, as_joe) == 250, "the new rule, by itself")
    house.control("tlsclients", "eve@client.test\n")
    house.reload()
    assert rcpt(house, as_joe) == 553
    house.control("tlsclients", None)
    wait_for(lambda: len(re.findall("reloaded ", house.log())) >= 3, "the reload after a removed file")
    assert rcpt(house, as_joe) == 553


def test_broken_files_leave_the_old_settings(house: House, as_joe: ssl.SSLContext) -> None:
    house.control("concurrencyremote", "0\n")
    house.control("tlsclients", "joe@client.test\n")
    house.start()
    control = house.home / "control"
    broken = {
        "tlspolicy": ("dest.test may\nother.test maybe\n", "control/tlspolicy:2: "),
        "tlsclients": ("joe@client.test\nnonsense\n", "control/tlsclients:2: "),
        "databytes": ("many\n", "control/databytes:1: "),
        "relaynetworks": ("# ours\n127.0.0.1/8\n", "control/relaynetworks:2: "),
        "servercert.pem": ("garbage\n", "control/servercert.pem: "),
        "clientca.pem": ("", "control/clientca.pem: "),
        "me": ("\n", "control/me"),
    }
    for name, (text, place) in broken.items():
        path = control / name
        good = path.read_bytes() if path.exists() else None
        after = len(house.log())
        house.control(name, text)
        house.signal(SIGHUP)
        house.wait_for_log("reload failed, the old settings stay: " + re.escape(place) + ".+", after=after)
        assert rcpt(house, as_joe) == 250
        house.control(name, good)
        house.reload()
        assert rcpt(house, as_joe) == 250


def test_certificate_replaced(house: House, authority: Authority, as_joe: ssl.SSLContext) -> None:
    house.start()
    with SmtpClient(house.port) as open_before:
        open_before.starttls(as_joe)
        new = authority.server("mx.test")
        house.control("servercert.pem", new.bundle)
        wait_for(lambda: shown_certificate(house) == new_der(new.pem), "the new certificate")
        open_before.command("NOOP", 250)
    # A key that does not belong to the certificate: the pair from before stays.
    after = len(house.log())
    house.control("servercert.pem", authority.server("mx.test").key_pem + new.pem)
    house.wait_for_log(r"reload failed, the old settings stay: control/servercert.pem: its private key ", after=after)
    assert shown_certificate(house) == new_der(new.pem)


def test_key_that_others_can_read(house: House) -> None:
    path = house.home / "control/servercert.pem"
    path.chmod(0o644)
    done = house.try_to_start()
    assert done.returncode != 0
    assert f"chmod 0640 {path}" in done.stderr
    path.chmod(0o600)
    house.start()
    before = shown_certificate(house)
    path.chmod(0o644)
    house.wait_for_log(r"reload failed, the old settings stay: .*servercert.pem.*chmod 0640")
    assert shown_certificate(house) == before
    after = len(house.log())
    path.chmod(0o640)
    house.wait_for_log("reloaded ", after=after)


def new_der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())
