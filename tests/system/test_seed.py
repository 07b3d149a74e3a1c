"""The openssl steps of the qmail STARTTLS patch's own notes, as typed there, give files that work here."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.system.house import House
from tests.system.waiting import PATIENCE

# What OpenSSL's own configuration asks, so that the test does not depend on a distribution's.
CONFIGURATION = """\
[ req ]
default_bits = 2048
distinguished_name = asked
[ asked ]
countryName = Country Name (2 letter code)
organizationName = Organization Name (eg, company)
commonName = Common Name (e.g. server FQDN or YOUR name)
emailAddress = Email Address
[ ca ]
default_ca = ours
[ ours ]
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
default_days = 30
policy = anything
email_in_dn = yes
[ anything ]
countryName = optional
organizationName = optional
commonName = supplied
emailAddress = optional
[ v3_ca ]
basicConstraints = critical, CA:true
"""
MAKE_CA = """
openssl req -new -x509 -nodes -out ca.crt -keyout ca.key -days 30 -extensions v3_ca -subj "/O=Any CA/CN=any CA"
touch index.txt; echo 01 >serial
"""
REQUEST = """
openssl req -new -nodes -out qmail.csr -keyout qmail.key
"""
# The notes leave the signing to "any CA": by either of openssl's ways, with text before the certificate or without.
SIGN = {
    "x509": "openssl x509 -req -in qmail.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out qmail.crt",
    "x509-text": "openssl x509 -req -in qmail.csr -CA ca.crt -CAkey ca.key -CAcreateserial -text -out qmail.crt",
    "ca": "openssl ca -batch -in qmail.csr -cert ca.crt -keyfile ca.key -out qmail.crt",
}
SERVER = """
cat qmail.key qmail.crt > "$CONTROL/servercert.pem"
chmod 400 "$CONTROL/servercert.pem"
"""
LINK = """
ln "$CONTROL/servercert.pem" "$CONTROL/clientcert.pem"
cp ca.crt "$CONTROL/clientca.pem"
"""
CLIENT = """
cat qmail.key qmail.crt > client.pem
"""


def shell(directory: Path, control: Path, script: str, typed: str = "") -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: scripts/system-packages")
    (directory / "openssl.cnf").write_text(CONFIGURATION)
    environment = {"PATH": "/usr/bin:/bin", "CONTROL": str(control), "OPENSSL_CONF": str(directory / "openssl.cnf")}
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=directory,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", SIGN)
def test_seed_steps(house: House, tmp_path: Path, way: str) -> None:
    control = house.home / "control"
    for name in ("servercert.pem", "clientca.pem"):
        (control / name).unlink()
    shell(tmp_path, control, MAKE_CA)
    shell(tmp_path, control, REQUEST, "DE\nUs\nmx.test\npostmaster@mx.test\n")
    shell(tmp_path, control, SIGN[way] + SERVER + LINK)
    blurb = (control / "servercert.pem").read_text().partition("-----END PRIVATE KEY-----\n")[2]
    assert blurb.startswith("Certificate:\n") is (way != "x509")
    shell(tmp_path, control, REQUEST, "DE\nClients\nJoe\nJoe@Client.Test\n")
    shell(tmp_path, control, SIGN[way] + CLIENT)
    house.control("tlsclients", "joe@client.test\n")
    house.control("concurrencyremote", "0\n")
    house.start()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tmp_path / "ca.crt")
    context.check_hostname = False  # the notes ask for no subjectAltName, and nobody believes commonNames any more
    context.load_cert_chain(tmp_path / "client.pem")
    with smtplib.SMTP("127.0.0.1", house.port, "client.test", timeout=PATIENCE) as client:
        assert client.docmd("STARTTLS") == (220, b"ready for tls")
        assert client.sock is not None
        client.sock = context.wrap_socket(client.sock)
        client.file = None
        client.ehlo()
        client.sendmail("joe@client.test", ["ann@elsewhere.test"], "Subject: x\r\n\r\nx\r\n")
    (message,) = house.messages()
    assert b"(cert joe@client.test)" in message.read_bytes()
    assert house.qmtls("check", status=None).returncode in (0, 1)
    assert "servercert.pem" not in house.qmtls("check", status=None).stderr
