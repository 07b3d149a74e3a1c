"""Postfix as the client at each of its TLS levels, and qmtls as the server: with TLS, and without a certificate.

What Postfix demands is met or not by what qmtls shows; the Received field of what came says how it came. `dane` and
`dane-only` are in test_postfix_dane, with a signed zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.conftest import NewHouse
from tests.system.house import House
from tests.system.pki import Authority
from tests.system.postfix import Postfix
from tests.system.waiting import wait_for

VERIFY, SECURE = "smtp_tls_verify_cert_match", "smtp_tls_secure_cert_match"
CA, KEY = "smtp_tls_CAfile={ca}", "smtp_tls_fingerprint_cert_match={key}"

# Level, options of Postfix, and what becomes of mail to a server with TLS, and to one without.
CASES: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "none": ("none", (), "plaintext", "plaintext"),
    "may": ("may", (), "TLS", "plaintext"),
    "encrypt": ("encrypt", (), "TLS", "waits"),
    "old": ("encrypt", ("smtp_tls_mandatory_protocols=<=TLSv1.2",), "TLS", "waits"),
    "fingerprint": ("fingerprint", (KEY,), "TLS", "waits"),
    "other-key": ("fingerprint", (f"smtp_tls_fingerprint_cert_match={'00' * 32}",), "waits", "waits"),
    "verify": ("verify", (CA,), "TLS", "waits"),
    "verify-name": ("verify", (CA, f"{VERIFY}=mx.test"), "TLS", "waits"),
    "verify-other": ("verify", (CA, f"{VERIFY}=else.test"), "waits", "waits"),
    "no-anchor": ("verify", (), "waits", "waits"),
    "secure": ("secure", (CA,), "TLS", "waits"),
    "secure-other": ("secure", (CA, f"{SECURE}=.else.test"), "waits", "waits"),
}


@pytest.fixture
def servers(new_house: NewHouse) -> tuple[House, House]:
    """One with a certificate, one without; both take mail for every case."""
    found = []
    for name in ("with", "without"):
        house = new_house(name)
        house.control("locals", "mx.test\n" + "".join(f"{case}.{name}.test\n" for case in CASES))
        found.append(house)
    found[1].control("servercert.pem", None)
    found[1].control("clientca.pem", None)
    return found[0].start(), found[1].start()


@pytest.fixture
def postfix(servers: tuple[House, House], authority: Authority, tmp_path: Path) -> Iterator[Postfix]:
    directory = tmp_path / "postfix"
    directory.mkdir()
    made = Postfix(directory, 9, authority.client("joe@a.test"), "unused.test")
    (directory / "ca.crt").write_bytes(authority.pem)
    (directory / "ca.crt").chmod(0o644)
    shown = x509.load_pem_x509_certificates((servers[0].home / "control/servercert.pem").read_bytes())[0]
    key = sha256(shown.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    services, routes = "", ""
    for case, (level, options, *_) in CASES.items():
        given = [one.format(ca=directory / "ca.crt", key=key) for one in options]
        given = [f"smtp_tls_security_level={level}", "smtp_tls_fingerprint_digest=sha256", *given]
        services += f"{case} unix - - n - - smtp\n" + "".join(f"    -o {one}\n" for one in given)
        for house, name in zip(servers, ("with", "without"), strict=True):
            routes += f"{case}.{name}.test {case}:[localhost]:{house.port}\n"
    with (directory / "master.cf").open("a") as file:
        file.write(services)
    (directory / "transport").write_text(routes)
    main = re.sub(r"(?m)^transport_maps = .*$", f"transport_maps = texthash:{directory}/transport", main_of(directory))
    (directory / "main.cf").write_text(f"{main}smtp_host_lookup = native\n")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def main_of(directory: Path) -> str:
    return (directory / "main.cf").read_text()


def became(house: House, domain: str, log: Path) -> str:
    """What became of the message to this domain."""

    def found() -> str:
        for mail in house.delivered():
            if f"Subject: {domain}\r\n".encode() in mail or f"Subject: {domain}\n".encode() in mail:
                received = mail.partition(b"by mx.test")[2].partition(b"\nReceived:")[0]
                return "TLS" if b"with ESMTPS" in received else "plaintext" if b"with ESMTP" in received else "?"
        text = log.read_text(errors="replace") if log.exists() else ""
        return "waits" if re.search(rf"to=<postmaster@{re.escape(domain)}>.*status=deferred", text) else ""

    return wait_for(found, f"what becomes of mail to {domain}")


def test_each_level_with_and_without_tls(servers: tuple[House, House], postfix: Postfix, tmp_path: Path) -> None:
    log = tmp_path / "postfix/maillog"
    names = ("with", "without")
    for case in CASES:
        for name in names:
            postfix.send("ann@a.test", f"postmaster@{case}.{name}.test", f"Subject: {case}.{name}.test\n\nhello\n")
    found, expected = {}, {}
    for case, (*_, with_tls, without) in CASES.items():
        for house, name, wanted in zip(servers, names, (with_tls, without), strict=True):
            found[case, name] = became(house, f"{case}.{name}.test", log)
            expected[case, name] = wanted
        print(f"{case:<14} {found[case, 'with']:<10} {found[case, 'without']}")
    assert found == expected
