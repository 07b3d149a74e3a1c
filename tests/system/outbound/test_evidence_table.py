"""The table of levels and facts again, for what DNS and MTA-STS demand: each cell with the whole program.

Signed zones of nsd behind a validating unbound, a policy host, and the servers of test_table on port 25. What became of
the message of each cell, and over how many connections, is printed as a table (pytest -s). Stalls, which take half a
minute, are in tests/net/test_outbound_evidence.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.dnssec import PLAIN as UNSIGNED
from tests.system.dnssec import SIGNED, Names
from tests.system.house import House
from tests.system.mx import FakeMx
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_demands import outcomes
from tests.system.outbound.test_evidence import context_of, policy_host, spki
from tests.system.outbound.test_hosts import fresh_address, pytestmark  # noqa: F401 - port 25 for this module too
from tests.system.outbound.test_table import (
    AGAIN,
    BROKEN,
    FACTS,
    OFFERED,
    PLAIN,
    SCRIPTS,
    TLS,
    VERIFIED,
    WAITS,
    WITHOUT,
    became,
    credentials,
)
from tests.system.pki import Authority, Credential
from tests.system.waiting import wait_for

OTHER = "00" * 32
ANY = {**dict.fromkeys(FACTS, TLS), **dict.fromkeys(WITHOUT, PLAIN), **dict.fromkeys(BROKEN, AGAIN)}
NEVER = dict.fromkeys(FACTS, WAITS)
PINNED = {**NEVER, "good": TLS}


@dataclass(frozen=True, slots=True)
class Row:
    """What becomes of mail for each fact. `tlsa`: {good} is the key of the good server, {own} that of each, {ca} the
    authority's. `level`: that of a line in tlspolicy, "" for the default. `mode`: that of an MTA-STS policy."""

    expected: dict[str, str]
    tlsa: str = ""
    level: str = ""
    mode: str = ""
    zone: str = SIGNED
    bogus: bool = False


ROWS = {
    "absent": Row(ANY),
    "unsigned": Row(ANY, f"3 1 1 {OTHER}", zone=UNSIGNED),
    "unusable": Row(OFFERED, "1 1 1 {good}"),
    "key": Row(PINNED, "3 1 1 {good}"),
    "own-key": Row(OFFERED, "3 1 1 {own}"),  # neither dates nor names nor authorities count
    "ca": Row(VERIFIED, "2 1 1 {ca}"),
    "bogus": Row(NEVER, "3 1 1 {own}", bogus=True),
    "o-key": Row(PINNED, "3 1 1 {good}", "dane-only"),
    "o-own": Row(OFFERED, "3 1 1 {own}", "dane-only"),
    "o-ca": Row(VERIFIED, "2 1 1 {ca}", "dane-only"),
    "o-unus": Row(NEVER, "1 1 1 {good}", "dane-only"),
    "o-none": Row(NEVER, "", "dane-only"),
    "o-bogus": Row(NEVER, "3 1 1 {own}", "dane-only", bogus=True),
    "enforce": Row(VERIFIED, mode="enforce"),
    "testing": Row(ANY, mode="testing"),
    "no-mode": Row(ANY, mode="none"),
    "s-test": Row(VERIFIED, level="sts", mode="testing"),
    "s-none": Row(NEVER, level="sts"),
    "u-enf": Row(VERIFIED, "1 1 1 {good}", mode="enforce"),
    "u-test": Row(OFFERED, "1 1 1 {good}", mode="testing"),
    "k-enf": Row(PINNED, "3 1 1 {good}", mode="enforce"),
    "own-enf": Row(OFFERED, "3 1 1 {own}", mode="enforce"),  # DANE alone decides
}
CELLS = [(row, fact) for row in ROWS for fact in FACTS]


def domain(row: str, fact: str) -> str:
    return f"{row}-{fact}.{ROWS[row].zone}"


@dataclass(frozen=True, slots=True)
class World:
    servers: dict[str, FakeMx]
    resolver: tuple[str, int]


@pytest.fixture
def world(authority: Authority, tmp_path: Path) -> Iterator[World]:
    """A server for each fact, a host that leads to it for each cell, and the policies."""
    shown = credentials(authority, f"*.{SIGNED}")
    shown["self-signed-name"] = Authority(f"mx.{SIGNED}").server(f"*.{SIGNED}")
    addresses = {fact: fresh_address() for fact in FACTS}
    web = fresh_address()
    zones = zones_of(authority, shown, addresses, web)
    broken = " ".join(f"_25._tcp.mx-{domain(row, fact)}." for row, fact in CELLS if ROWS[row].bogus)
    with_policy = [(row, fact) for row, fact in CELLS if ROWS[row].mode]
    policies = {f"mta-sts.{domain(row, fact)}": policy(row, fact) for row, fact in with_policy}
    context = context_of(tmp_path / "web.pem", authority.server(*policies), authority)
    (tmp_path / "names").mkdir()
    with ExitStack() as stack:
        servers = {}
        for fact in FACTS:
            tls = context_of(tmp_path / f"{fact}.pem", shown[fact], authority) if fact != "no-starttls" else None
            servers[fact] = stack.enter_context(FakeMx(SCRIPTS.get(fact), tls=tls, host=addresses[fact], port=25))
        stack.enter_context(policy_host(web, context, policies))
        names = stack.enter_context(Names(tmp_path / "names", zones[SIGNED], zones[UNSIGNED], broken))
        yield World(servers, names.server)


def policy(row: str, fact: str) -> str:
    return f"version: STSv1\nmode: {ROWS[row].mode}\nmx: mx-{domain(row, fact)}\nmax_age: 86400\n"


def zones_of(authority: Authority, shown: dict[str, Credential], addresses: dict[str, str], web: str) -> dict[str, str]:
    """By zone, its records."""
    root = authority.certificate.public_key()
    fixed = {
        "good": spki(shown["good"]),
        "ca": sha256(root.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest(),
    }
    zones = {SIGNED: "", UNSIGNED: ""}
    for row, fact in CELLS:
        about, name = ROWS[row], f"{row}-{fact}"
        records = f"{name} IN MX 10 mx-{name}\nmx-{name} IN A {addresses[fact]}\n"
        if about.tlsa:
            records += f"_25._tcp.mx-{name} IN TLSA {about.tlsa.format(own=spki(shown[fact]), **fixed)}\n"
        if about.mode:
            records += f'_mta-sts.{name} IN TXT "v=STSv1; id=one;"\nmta-sts.{name} IN A {web}\n'
        zones[about.zone] += records
    return zones


def test_each_cell(house: House, world: World, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "system.crt").write_bytes(authority.pem)
    open_to_all(house).control("dnsserver", f"{world.resolver[0]}:{world.resolver[1]}\n")
    lines = [f"{domain(row, fact)} {ROWS[row].level}\n" for row, fact in CELLS if ROWS[row].level]
    house.control("tlspolicy", "".join(lines))
    house.start(environment={"SSL_CERT_FILE": str(tmp_path / "system.crt")})
    for row, fact in CELLS:
        hand_in(house, f"bob@{domain(row, fact)}")
    said = wait_for(lambda: outcomes(house, len(CELLS)), "an outcome for each cell", 120)
    found: dict[str, dict[str, str]] = {row: {} for row in ROWS}
    for row, fact in CELLS:
        found[row][fact] = became(world.servers[fact], row, f"bob@{domain(row, fact)}")
    print(f"\n{'':<18}" + "".join(f"{row:<9}" for row in ROWS))
    for fact in FACTS:
        print(f"{fact:<18}" + "".join(f"{found[row][fact][:8]:<9}" for row in ROWS))
    wrong = {
        domain(row, fact): f"{found[row][fact]}, not {ROWS[row].expected[fact]}: {said[domain(row, fact)]}"
        for row, fact in CELLS
        if found[row][fact] != ROWS[row].expected[fact]
    }
    assert not wrong
    for row, fact in CELLS:
        if found[row][fact] == WAITS:
            words = ("nobody can tell",) if ROWS[row].bogus else ("DANE", "TLSA record", "MTA-STS policy")
            assert any(text in said[domain(row, fact)] for text in words), said[domain(row, fact)]
