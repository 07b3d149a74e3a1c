"""Postfix as the client at level dane, and qmtls as the server: TLSA records in a signed zone, right ones and others.

Postfix asks the resolver of resolv.conf. It gets one of its own, which names the test's unbound, in a mount namespace:
nobody else sees it. The hosts are on port 25 of loopback addresses, as MX records of that zone name them. Another qmtls
sends mail to each of them too, under the same levels: it must come to the same.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.conftest import NewHouse
from tests.system.dnssec import PLAIN, SIGNED, Names
from tests.system.house import House
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_demands import outcomes
from tests.system.outbound.test_hosts import fresh_address, may_bind_port_25
from tests.system.outbound.test_postfix_sends import became, main_of
from tests.system.pki import Authority
from tests.system.postfix import Postfix
from tests.system.waiting import wait_for

pytestmark = pytest.mark.skipif(not may_bind_port_25(), reason="port 25 of loopback addresses cannot be bound here")

NAMES = ("with", "without")
OTHER = "00" * 32
DANE, ONLY = ("smtp_tls_security_level=dane",), ("smtp_tls_security_level=dane-only",)


@dataclass(frozen=True, slots=True)
class Case:
    """`zone` and TLSA record ({key}: the server's, {ca}: its CA), options of Postfix, and what becomes of mail to a
    server with TLS and to one without: "TLS" with Postfix's word for it, "plaintext", or Postfix's words why not."""

    zone: str
    tlsa: str
    options: tuple[str, ...]
    with_tls: str
    without: str

    @property
    def becomes(self) -> dict[str, str]:
        return {"with": self.with_tls, "without": self.without}


NOT_OFFERED = "TLS is required, but was not offered by host"
CASES = {
    "right": Case(SIGNED, "3 1 1 {key}", DANE, "TLS Verified", NOT_OFFERED),
    "whole": Case(SIGNED, "3 0 1 {leaf}", DANE, "TLS Verified", NOT_OFFERED),
    "wrong": Case(SIGNED, f"3 1 1 {OTHER}", DANE, "Server certificate not verified", NOT_OFFERED),
    "ca": Case(SIGNED, "2 1 1 {ca}", DANE, "TLS Verified", NOT_OFFERED),
    "ca-name": Case(SIGNED, "2 1 1 {ca}", DANE, "Server certificate not verified", NOT_OFFERED),
    "other-ca": Case(SIGNED, f"2 1 1 {OTHER}", DANE, "Server certificate not verified", NOT_OFFERED),
    "unusable": Case(SIGNED, "1 1 1 {key}", DANE, "TLS Untrusted", NOT_OFFERED),
    "none": Case(SIGNED, "", DANE, "TLS Untrusted", "plaintext"),
    "unsigned": Case(PLAIN, f"3 1 1 {OTHER}", DANE, "TLS Untrusted", "plaintext"),
    "only": Case(SIGNED, "3 1 1 {key}", ONLY, "TLS Verified", NOT_OFFERED),
    "only-none": Case(SIGNED, "", ONLY, "no TLSA records found", "no TLSA records found"),
    "only-unsigned": Case(PLAIN, "3 1 1 {key}", ONLY, "non DNSSEC destination", "non DNSSEC destination"),
    "broken": Case(SIGNED, "3 1 1 {key}", DANE, "Host not found, try again", NOT_OFFERED),
}


def domain_of(case: str, name: str) -> str:
    return f"{case}-{name}.{CASES[case].zone}"


@pytest.fixture
def servers(new_house: NewHouse, authority: Authority) -> dict[str, tuple[House, str]]:
    """One with a certificate, one without, each with its address; both take mail for every case."""
    found = {}
    for name in NAMES:
        house, address = new_house(name), fresh_address()
        house.control("locals", "mx.test\n" + "".join(f"{domain_of(case, name)}\n" for case in CASES))
        listen = f"smtp tcp:{house.port}:interface=127.0.0.1\nsmtp tcp:25:interface={address}\n"
        house.control("listen", listen)
        found[name] = house, address
    shown = authority.server("mx.test", f"mx-ca-with.{SIGNED}", f"mx-other-ca-with.{SIGNED}")
    found["with"][0].control("servercert.pem", shown.bundle + authority.pem)
    found["without"][0].control("servercert.pem", None)
    found["without"][0].control("clientca.pem", None)
    for house, _ in found.values():
        house.start()
    return found


@pytest.fixture
def resolver(servers: dict[str, tuple[House, str]], authority: Authority, tmp_path: Path) -> Iterator[str]:
    """The address of one that knows all of them."""
    at = fresh_address()
    if not may_bind_port_53(at):
        pytest.skip("port 53 of loopback addresses cannot be bound here, and resolv.conf names no ports")
    house, _ = servers["with"]
    leaf = x509.load_pem_x509_certificates((house.home / "control/servercert.pem").read_bytes())[0]
    digests = {
        "key": key_digest(leaf),
        "leaf": sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
        "ca": key_digest(authority.certificate),
    }
    zones = {SIGNED: "", PLAIN: ""}
    for case, about in CASES.items():
        for name, (_, address) in servers.items():
            host = f"mx-{case}-{name}"
            zones[about.zone] += f"{case}-{name} IN MX 10 {host}\n{host} IN A {address}\n"
            if about.tlsa:
                zones[about.zone] += f"_25._tcp.{host} IN TLSA {about.tlsa.format(**digests)}\n"
    (tmp_path / "names").mkdir()
    with Names(tmp_path / "names", zones[SIGNED], zones[PLAIN], f"mx-broken-with.{SIGNED}.", at):
        yield at


def may_bind_port_53(address: str) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as probe:
            try:
                probe.bind((address, 53))
            except OSError:
                return False
    return True


def key_digest(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def with_resolver(path: Path, address: str) -> list[str]:
    """What runs a program with a resolv.conf of its own; skips the test where this system does not give that."""
    path.write_text(f"nameserver {address}\noptions trust-ad\n")
    path.chmod(0o644)
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare (util-linux): Postfix cannot have a resolv.conf of its own")
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    place = Path("/etc/resolv.conf").resolve()  # it may be a link
    command = [unshare, "--mount", "--propagation", "private", "sh", "-c", script, str(path), str(place)]
    seen = subprocess.run([*command, "cat", "/etc/resolv.conf"], check=False, capture_output=True, text=True)
    if seen.stdout != path.read_text():
        pytest.skip(f"Postfix cannot have a resolv.conf of its own: {seen.stderr.strip() or 'the mount has no effect'}")
    return command


@pytest.fixture
def postfix(resolver: str, authority: Authority, tmp_path: Path) -> Iterator[Postfix]:
    directory = tmp_path / "postfix"
    directory.mkdir()
    made = Postfix(directory, 9, authority.client("joe@a.test"), "unused.test")
    services, routes = "", ""
    for case, about in CASES.items():
        options = ("smtp_dns_support_level=dnssec", "smtp_tls_loglevel=1", f"syslog_name={case}", *about.options)
        services += f"{case} unix - - n - - smtp\n" + "".join(f"    -o {one}\n" for one in options)
        routes += "".join(f"{domain_of(case, name)} {case}:\n" for name in NAMES)
    with (directory / "master.cf").open("a") as file:
        file.write(services)
    (directory / "transport").write_text(routes)
    main = re.sub(r"(?m)^transport_maps = .*$", f"transport_maps = texthash:{directory}/transport", main_of(directory))
    (directory / "main.cf").write_text(main)
    try:
        made.start(*with_resolver(tmp_path / "resolv.conf", resolver))
        yield made
    finally:
        made.stop()


def said(log: Path, case: str, domain: str, found: str) -> str:
    """What became of mail, with Postfix's word for the connection, or its words why mail waits."""
    patterns = {
        "waits": rf"to=<postmaster@{re.escape(domain)}>.*status=deferred \((.*)\)",
        "TLS": rf"{case}/smtp\[.*: (\w+) TLS connection established to mx-{re.escape(domain)}\[",
    }
    if found not in patterns:
        return found
    shown = wait_for(lambda: re.search(patterns[found], log.read_text(errors="replace")), f"words about {domain}")
    return shown[1] if found == "waits" else f"TLS {shown[1]}"


@pytest.fixture
def sender(new_house: NewHouse, resolver: str) -> House:
    """A qmtls that asks the same resolver."""
    house = open_to_all(new_house("sender", me="sender.test"))
    house.control("dnsserver", f"{resolver}\n")
    levels = {case: about.options[0].partition("=")[2] for case, about in CASES.items()}
    house.control(
        "tlspolicy", "".join(f"{domain_of(case, n)} {level}\n" for case, level in levels.items() for n in NAMES)
    )
    return house.start()


def kind(outcome: str) -> str:
    """As `became` says it."""
    if outcome == "plain":
        return "plaintext"
    return "TLS" if outcome in ("dane", "dane-only") or outcome.endswith("(unverified)") else "waits"


def test_each_record_with_and_without_tls(
    servers: dict[str, tuple[House, str]], postfix: Postfix, sender: House, tmp_path: Path
) -> None:
    log = tmp_path / "postfix/maillog"
    expected = {domain_of(case, name): CASES[case].becomes[name] for case in CASES for name in NAMES}
    for domain in expected:
        postfix.send("ann@a.test", f"postmaster@{domain}", f"Subject: {domain}\n\nhello\n")
        hand_in(sender, f"postmaster@{domain}")
    ours = wait_for(lambda: outcomes(sender, len(expected)), "an outcome for each domain")
    wrong = {}
    for case in CASES:
        for name in NAMES:
            domain = domain_of(case, name)
            theirs = became(servers[name][0], domain, log)
            words = said(log, case, domain, theirs)
            print(f"{domain:<36} {kind(ours[domain]):<10} {words}")
            if expected[domain] not in words or kind(ours[domain]) != theirs:
                wrong[domain] = f"{words}, {ours[domain]}; not {expected[domain]}"
    assert not wrong
