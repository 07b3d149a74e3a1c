"""The life of a client's certificate with a real home: requested, issued, used, renewed, revoked in an open session.

What the commands make is shown to openssl: it must agree about chains, order, purposes and revocation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system.client import SmtpClient, client_context
from tests.system.conftest import NewHouse
from tests.system.house import House
from tests.system.waiting import wait_for

OPENSSL = shutil.which("openssl")
JOE = "joe@client.test"
ELSEWHERE = "ann@elsewhere.test"

needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


@pytest.fixture
def made(new_house: NewHouse) -> House:
    """A home as `qmtls init` makes it; remote mail is held, so that nobody is connected to."""
    house = new_house(bare=True)
    house.qmtls("init", str(house.home), "--me", house.me)
    house.control("listen", f"smtp tcp:{house.port}:interface=127.0.0.1\n")
    house.control("concurrencyremote", "0\n")
    return house


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert OPENSSL is not None
    return subprocess.run([OPENSSL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30)


def issue(house: House, *request: str, out: str) -> Path:
    house.qmtls("cert", "request", *request, "--out", out)
    house.qmtls("cert", "issue", f"{out}.csr")
    return house.home / f"{out}.pem"


def rcpt(house: House, certificate: Path) -> str:
    with SmtpClient(house.port) as client:
        client.starttls(client_context(house.home / "clients/ca.pem", certificate))
        client.command(f"MAIL FROM:<{JOE}>", 250)
        return str(client.command(f"RCPT TO:<{ELSEWHERE}>"))


def clients(house: House) -> list[dict[str, Any]]:
    return [json.loads(line) for line in house.qmtls("clients", "--json").stdout.splitlines()]


@needs_openssl
@pytest.mark.parametrize("kind", ["ec", "rsa:2048", "ed25519"])
def test_openssl_agrees(made: House, kind: str) -> None:
    """Chain, purposes and revocation, before and after."""
    joe, ann = (issue(made, "--email", f"{name}@client.test", "--key", kind, out=name) for name in ("joe", "ann"))
    server = issue(made, "mx2.test", "--key", "ec", out="mx2")
    ca, crl = made.home / "state/ca/ca.pem", made.home / "control/clientcrl.pem"
    assert openssl("verify", "-purpose", "sslclient", "-CAfile", ca, joe).returncode == 0
    assert openssl("verify", "-purpose", "sslserver", "-CAfile", ca, joe).returncode != 0
    assert (
        openssl("verify", "-purpose", "sslserver", "-verify_hostname", "mx2.test", "-CAfile", ca, server).returncode
        == 0
    )
    assert stat.S_IMODE(joe.stat().st_mode) == 0o600

    def revoked(certificate: Path) -> bool:
        done = openssl("verify", "-crl_check", "-x509_strict", "-CAfile", ca, "-CRLfile", crl, certificate)
        assert done.returncode == 0 or "error 23 at 0 depth lookup: certificate revoked" in done.stderr, done.stderr
        return done.returncode != 0

    made.qmtls("cert", "revoke")
    assert [revoked(one) for one in (joe, ann, server)] == [False, False, False]
    made.qmtls("cert", "revoke", str(joe), "--reason", "key")
    assert [revoked(one) for one in (joe, ann, server)] == [True, False, False]
    serial = openssl("x509", "-in", ann, "-noout", "-serial").stdout.strip().partition("=")[2]
    made.qmtls("cert", "revoke", serial)
    assert [revoked(one) for one in (joe, ann, server)] == [True, True, False]
    text = openssl("crl", "-in", crl, "-noout", "-text", "-CAfile", ca)
    assert "verify OK" in text.stderr
    assert re.search(r"X509v3 CRL Number: *\n *3\n", text.stdout)
    made.qmtls("check")


@needs_openssl
def test_an_openssl_ca_and_its_intermediate(made: House, tmp_path: Path) -> None:
    """A CA of openssl's making signs here: leaf first, then what stands between it and the root."""
    ca = tmp_path / "ca"
    ca.mkdir()
    extensions = ca / "extensions"
    extensions.write_text("basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n")
    new = ("req", "-new", "-newkey", "rsa:2048", "-nodes")
    root, middle = ca / "root.pem", ca / "middle.pem"
    assert openssl(*new, "-x509", "-subj", "/CN=root", "-keyout", ca / "root.key", "-out", root).returncode == 0
    assert openssl(*new, "-subj", "/CN=middle", "-keyout", ca / "ca.key", "-out", ca / "csr").returncode == 0
    signing = ("-req", "-in", ca / "csr", "-CA", root, "-CAkey", ca / "root.key", "-CAcreateserial", "-days", "30")
    assert openssl("x509", *signing, "-extfile", extensions, "-out", middle).returncode == 0
    (ca / "ca.pem").write_bytes(middle.read_bytes() + root.read_bytes())
    (ca / "ca.key").chmod(0o600)
    made.qmtls("cert", "request", "mx3.test")
    made.qmtls("cert", "issue", "mx3.test.csr", "--ca", str(ca))
    bundle = made.home / "mx3.test.pem"
    assert bundle.read_text().count("BEGIN CERTIFICATE") == 2
    assert openssl("verify", "-CAfile", root, "-untrusted", bundle, bundle).returncode == 0
    made.qmtls("cert", "show", str(bundle))


def test_a_certificate_from_request_to_revocation(made: House) -> None:
    """Known at once, renewed without a word, shut out at the next MAIL of the session that is open."""
    made.start()
    joe = issue(made, "--email", JOE, out="joe")
    rules = made.home / "control/tlsclients"
    assert rcpt(made, joe).endswith("not in my list of tlsclients")
    made.control("tlsclients", f"{rules.read_text()}{JOE}\n")
    made.reload()
    assert rcpt(made, joe).startswith("250 ")

    made.qmtls("cert", "request", "--renew", "keep", str(joe), "--out", "renewed")
    made.qmtls("cert", "issue", "renewed.csr", "--key", str(joe))
    renewed = made.home / "renewed.pem"
    assert rcpt(made, renewed).startswith("250 ")

    context = client_context(made.home / "clients/ca.pem", joe)
    with SmtpClient(made.port) as client:
        client.starttls(context)
        assert client.mail(JOE, ELSEWHERE).code == 250
        said = made.qmtls("cert", "revoke", str(joe)).stdout
        assert "revoked" in said
        made.reload()
        client.command(f"MAIL FROM:<{JOE}>", 250)
        assert str(client.command(f"RCPT TO:<{ELSEWHERE}>")).endswith("; no valid cert for gatewaying: revoked")
    assert "revoked" in rcpt(made, joe)
    assert rcpt(made, renewed).startswith("250 ")  # another certificate
    assert made.stop() == 0
    assert "Traceback" not in made.log()


@pytest.mark.parametrize("workers", ["1", "3"])
def test_clients_after_real_mail(made: House, workers: str) -> None:
    joe = issue(made, "--email", JOE, out="joe")
    rules = made.home / "control/tlsclients"
    made.control("tlsclients", f"{rules.read_text()}{JOE} label=joe\n")
    assert [(row["rule"], row["messages"]) for row in clients(made)] == [("example@mx.test", 0), (JOE, 0)]
    made.start("--workers", workers)
    context = client_context(made.home / "clients/ca.pem", joe)
    for _ in range(12):  # connections, so that several workers write
        with SmtpClient(made.port) as client:
            client.starttls(context)
            assert client.mail(JOE, ELSEWHERE).code == 250
            assert client.mail(JOE, "postmaster@mx.test").code == 250  # nobody had to let that in
    wait_for(lambda: clients(made)[0]["messages"] == 12, "twelve messages in the ledger")
    seen, never = clients(made)
    shown = json.loads(made.qmtls("cert", "show", str(joe), "--json").stdout)
    assert (seen["rule"], seen["identity"], seen["addresses"]) == (JOE, JOE, ["127.0.0.1"])
    assert (seen["certificate"], seen["not_after"]) == (shown["sha256"], shown["not_after"])
    assert seen["octets"] > 12 * 10
    assert (never["rule"], never["last_seen"]) == ("example@mx.test", None)

    assert f"tlsclients:4: {JOE} label=joe: revoked" in made.qmtls("clients", "revoke", "joe").stdout
    wait_for(lambda: rcpt(made, joe).endswith("not in my list of tlsclients"), "the rule to be gone")
    assert clients(made)[0]["in_force"] is False
    made.qmtls("clients", "revoke", JOE, status=1)
    assert made.stop() == 0
    assert stat.S_IMODE((made.home / "state/ledger.db").stat().st_mode) == 0o600
    assert "Traceback" not in made.log()


def test_a_ledger_that_cannot_be_written_stops_no_mail(made: House) -> None:
    """Said once; what was seen meanwhile is written when it is mended."""
    ledger = made.home / "state/ledger.db"
    ledger.write_bytes(b"garbage" * 500)
    made.start()
    context = client_context(made.home / "clients/ca.pem", made.home / "clients/example.pem")

    def send() -> None:
        with SmtpClient(made.port) as client:
            client.starttls(context)
            assert client.mail(JOE, ELSEWHERE).code == 250

    send()
    made.wait_for_log(r"ledger trouble error=.*not a database: history may be lost, mail is not")
    send()
    ledger.unlink()
    assert made.stop() == 0  # which tries once more
    assert made.log().count("ledger trouble") == 1
    assert [row["messages"] for row in clients(made)] == [2]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has somebody else's files")
def test_what_root_does_leaves_the_home_to_its_owner(made: House) -> None:
    joe = issue(made, "--email", JOE, out="joe")
    ledger = made.home / "state/ledger.db"
    sqlite3.connect(ledger).close()
    for path in (made.home, *made.home.rglob("*")):
        os.chown(path, 65534, 65534)
    made.qmtls("cert", "revoke", str(joe))
    made.qmtls("clients", "revoke", "example@mx.test")
    made.qmtls("clients")
    for directory in (made.home / "control", made.home / "state"):
        assert {path.stat().st_uid for path in directory.iterdir()} == {65534}
