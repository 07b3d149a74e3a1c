"""The table of levels and facts of docs/tls.md, each cell with the whole program and a TLS server over sockets.

One message for each cell; what became of it, and over how many connections, is printed as a table (pytest -s). The
rows `dane`, `dane-only` and `sts` are in test_evidence_table, with signed zones and a policy host. A handshake that
stalls takes half a minute; tests/net/test_outbound.py has those cells, without the wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_demands import outcomes, spki
from tests.system.pki import Authority, Credential
from tests.system.waiting import wait_for

NAME = "mx.peer.test"
NAMES = (NAME, "*.pin-ca.test")  # a CA in the pin file of a domain vouches for that domain's names only
PLAIN, AGAIN, TLS, WAITS = "plain", "plain, new connection", "TLS", "waits"

BROKEN = ("starttls-injected", "handshake-reset", "handshake-closed", "handshake-garbage")
WITHOUT = ("no-starttls", "starttls-454", "starttls-502")
UNTRUSTED = ("unknown-ca", "expired", "self-signed-name", "other-name", "no-name")
GOOD = ("good", "other-key")
FACTS = (*WITHOUT, *BROKEN, *UNTRUSTED, *GOOD)

OFFERED = {**dict.fromkeys(FACTS, TLS), **dict.fromkeys((*WITHOUT, *BROKEN), WAITS)}
VERIFIED = {**OFFERED, **dict.fromkeys(UNTRUSTED, WAITS)}
TABLE: dict[str, dict[str, str]] = {
    "none": dict.fromkeys(FACTS, PLAIN),
    "may": {**dict.fromkeys(FACTS, TLS), **dict.fromkeys(WITHOUT, PLAIN), **dict.fromkeys(BROKEN, AGAIN)},
    "encrypt": OFFERED,
    "verify": VERIFIED,
    "secure": VERIFIED,
    "pin": {**dict.fromkeys(FACTS, WAITS), "good": TLS},
    "pin-ca": {**VERIFIED, "other-key": TLS},
}


SCRIPTS = {
    "starttls-454": {"STARTTLS": Do(b"454 4.7.0 not now\r\n")},
    "starttls-502": {"STARTTLS": Do(b"502 5.5.1 what\r\n")},
    "starttls-injected": {"STARTTLS": Do(b"220 go\r\n250 mx.peer.test\r\n")},
    "handshake-reset": {"handshake": Do(then="reset")},
    "handshake-closed": {"handshake": Do(then="close")},
    "handshake-garbage": {"handshake": Do(b"no handshake at all\r\n", then="close")},
}


def credentials(authority: Authority, name: str, *more: str) -> dict[str, Credential]:
    """What the server of each fact shows where it shows anything; hosts are called `name`."""
    below = name.partition(".")[2]
    good = authority.server(name, *more)
    others = {
        "unknown-ca": Authority("nobody's CA").server(name, *more),
        "expired": authority.server(name, *more, days=-1),
        "self-signed-name": Authority(name).server(name, *more),
        "other-name": authority.server("else.test", f"deeper.mx.{below}", f"*.mx.{below}"),
        "no-name": authority.server(),
        "other-key": authority.server(name, *more),
    }
    return {fact: others.get(fact, good) for fact in FACTS}


@pytest.fixture
def hosts(authority: Authority, tmp_path: Path) -> Iterator[tuple[dict[str, FakeMx], str]]:
    """A server for each fact, and the key of the good one as a pin."""
    shown = credentials(authority, *NAMES)
    with ExitStack() as stack:
        made = {}
        for fact in FACTS:
            context = shown[fact].server_context(tmp_path / f"{fact}.pem") if fact != "no-starttls" else None
            made[fact] = stack.enter_context(FakeMx(SCRIPTS.get(fact), tls=context))
        yield made, spki(shown["good"])


def test_each_cell(house: House, hosts: tuple[dict[str, FakeMx], str], authority: Authority) -> None:
    servers, pin = hosts
    names = f"match={NAME} tafile=ca.crt"
    lines = {
        **dict.fromkeys(("verify", "secure"), names),
        "pin": f"match={pin}",
    }
    house.control("ca.crt", authority.pem)
    cells = [(level, fact) for level in TABLE for fact in FACTS]
    policy = [f"{fact}.{level}.test {level} {lines.get(level, '')}" for level, fact in cells if level != "pin-ca"]
    house.control("tlspolicy", "".join(f"{line}\n" for line in policy))
    for fact in FACTS:
        house.control(f"{fact}.pin-ca.test.pem", authority.pem)
    routes = [f"{fact}.{level}.test:127.0.0.1:{servers[fact].port}" for level, fact in cells]
    open_to_all(house, *routes).start()
    for level, fact in cells:
        hand_in(house, f"bob@{fact}.{level}.test")
    wait_for(lambda: len(outcomes(house, len(cells))) == len(cells), "an outcome for each cell")
    found: dict[str, dict[str, str]] = {level: {} for level in TABLE}
    for level, fact in cells:
        found[level][fact] = became(servers[fact], level, f"bob@{fact}.{level}.test")
    print(f"\n{'':<20}" + "".join(f"{level:<10}" for level in TABLE))
    for fact in FACTS:
        print(f"{fact:<20}" + "".join(f"{found[level][fact][:9]:<10}" for level in TABLE))
    assert found == TABLE


def became(server: FakeMx, level: str, recipient: str) -> str:
    for message in server.messages:
        if recipient in message.recipients:
            if message.session.tls:
                return TLS
            tried = level != "none" and server.tls is not None
            return AGAIN if tried and "STARTTLS" not in message.session.commands else PLAIN
    return WAITS
