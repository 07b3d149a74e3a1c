"""Each level and attribute of tlspolicy with Postfix as the next hop: one instance, a domain for each line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.house import House
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.peers import running
from tests.system.outbound.sink import Sink
from tests.system.outbound.test_demands import outcomes, sha256, spki
from tests.system.pki import Authority
from tests.system.waiting import wait_for


@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_each_level(house: House, authority: Authority, tmp_path: Path, name: str) -> None:
    server, other = authority.server("localhost", "verify.test"), authority.server("localhost")
    lines = {
        "none.test none": "plain",
        "may.test may": "may (unverified)",
        "encrypt.test encrypt": "encrypt (unverified)",
        "verify.test verify tafile=ca.crt": "verify",
        "nexthop.test verify tafile=ca.crt match=nexthop": "verify",  # with a route that is the relay
        "domain.test verify tafile=ca.crt match=domain.test": "demands domain.test",
        "system.test verify": "cannot be trusted",
        "secure.test secure tafile=ca.crt match=verify.test": "secure",
        f"pin.test pin match={spki(server)}": "pin",
        f"backup.test fingerprint match=sha256:{sha256(other)}|sha256:{sha256(server)}": "pin",
        f"other.test fingerprint match={sha256(other)}": "does not pin",
        "old.test encrypt protocols=TLSv1.2": "encrypt (unverified)",
        "new.test encrypt protocols=>=TLSv1.3 ciphers=high exclude=CHACHA20": "encrypt (unverified)",
        "groups.test encrypt groups=P-256 tickets=no": "encrypt (unverified)",
        "sni.test encrypt servername=else.test connection_reuse=no": "encrypt (unverified)",
        "dane.test dane": "may (unverified)",
        "only.test dane-only": "must be verified by DANE",
        "sts.test sts": "must be named by an MTA-STS policy",
        # The OpenSSL that Debian 12 gives to others knows no hybrid group.
        "pq.test encrypt pq=require": "no hybrid post-quantum one",
    }
    expected = {line.split()[0]: text for line, text in lines.items()}
    with Sink() as sink, running(name, server, tmp_path / "peer", sink.port) as peer:
        open_to_all(house, f":localhost:{peer.port}").control("ca.crt", authority.pem)
        house.control("tlspolicy", "".join(f"{line}\n" for line in lines))
        house.start()
        for domain in expected:
            hand_in(house, f"bob@{domain}")
        found = wait_for(lambda: outcomes(house, len(expected)), "an outcome for each domain")
        wrong = {d: f"{found.get(d)}, not {text}" for d, text in expected.items() if text not in found.get(d, "")}
        assert not wrong
        waiting = {domain for domain, text in expected.items() if " " in text and "(" not in text}
        sink.wait_for(len(expected) - len(waiting))
    said = house.log()
    assert 'tls="TLSv1.2 ' in said and "x25519 " in said and "secp256r1 " in said
