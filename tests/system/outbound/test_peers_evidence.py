"""Levels dane, dane-only and sts with Postfix and Exim as the next hop: TLSA records of a signed zone, a policy host.

The servers are relays of smtproutes, on whatever port: their TLSA records count, and an MTA-STS policy where a line of
tlspolicy asks for one.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.system.dnssec import SIGNED, Names
from tests.system.house import House
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.peers import running
from tests.system.outbound.sink import Sink
from tests.system.outbound.test_demands import outcomes
from tests.system.outbound.test_evidence import context_of, policy_host, spki
from tests.system.outbound.test_hosts import fresh_address, pytestmark  # noqa: F401 - port 443 is as privileged
from tests.system.pki import Authority
from tests.system.waiting import wait_for

OTHER = "00" * 32
# Name: level, TLSA record, hosts of its MTA-STS policy, and what becomes of its mail.
LINES = {
    "right": ("dane", "3 1 1 {key}", "", "dane"),
    "wrong": ("dane", f"3 1 1 {OTHER}", "", "matches no TLSA record"),
    "ca": ("dane", "2 0 0 {ca}", "", "dane"),
    "caname": ("dane", "2 0 0 {ca}", "", "showed a certificate for"),
    "unusable": ("dane", "1 1 1 {key}", "", "encrypt (unverified)"),
    "none": ("dane", "", "", "may (unverified)"),
    "only": ("dane-only", "3 1 1 {key}", "", "dane-only"),
    "onlywrong": ("dane-only", f"3 1 1 {OTHER}", "", "matches no TLSA record"),
    "onlynone": ("dane-only", "", "", "must be verified by DANE"),
    "sts": ("sts", "", f"sts.{SIGNED}", "sts"),
    "stsname": ("sts", "", f"*.{SIGNED}", "showed a certificate for"),
    "stsmx": ("sts", "", "mx.else.test", "is passed over"),
    "stsnone": ("sts", "", "", "there is no MTA-STS record"),
}
MET = {name for name, (*_, text) in LINES.items() if " " not in text or "(" in text}


def zone_of(port: int, web: str, digests: dict[str, str]) -> str:
    """Each name is a domain and the relay of its mail."""
    zone = ""
    for name, (_, tlsa, policy, _) in LINES.items():
        zone += f"{name} IN A 127.0.0.1\n"
        if tlsa:
            zone += f"_{port}._tcp.{name} IN TLSA {tlsa.format(**digests)}\n"
        if policy:
            zone += f'_mta-sts.{name} IN TXT "v=STSv1; id=one;"\nmta-sts.{name} IN A {web}\n'
    return zone


@pytest.mark.parametrize("program", ["postfix", "exim"])
def test_each_record_and_policy(house: House, authority: Authority, tmp_path: Path, program: str) -> None:
    server = authority.server(f"ca.{SIGNED}", f"sts.{SIGNED}")
    root = authority.certificate.public_bytes(Encoding.DER)  # the servers do not show it, so the record holds it
    digests = {"key": spki(server), "ca": root.hex()}
    policies = {
        f"mta-sts.{name}.{SIGNED}": f"version: STSv1\nmode: enforce\nmx: {mx}\nmax_age: 86400\n"
        for name, (_, _, mx, _) in LINES.items()
        if mx
    }
    (tmp_path / "names").mkdir()
    (tmp_path / "system.crt").write_bytes(authority.pem)
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        peer = stack.enter_context(running(program, server, tmp_path / "peer", sink.port))
        web = fresh_address()
        context = context_of(tmp_path / "web.pem", authority.server(*policies), authority)
        stack.enter_context(policy_host(web, context, policies))
        names = stack.enter_context(Names(tmp_path / "names", zone_of(peer.port, web, digests), "", ""))
        open_to_all(house, *(f"{name}.{SIGNED}:{name}.{SIGNED}:{peer.port}" for name in LINES))
        house.control("dnsserver", f"{names.server[0]}:{names.server[1]}\n")
        house.control("tlspolicy", "".join(f"{name}.{SIGNED} {level}\n" for name, (level, *_) in LINES.items()))
        house.start(environment={"SSL_CERT_FILE": str(tmp_path / "system.crt")})
        for name in LINES:
            hand_in(house, f"bob@{name}.{SIGNED}")
        found = wait_for(lambda: outcomes(house, len(LINES)), "an outcome for each domain")
        sink.wait_for(len(MET))
    wrong = {}
    for name, (level, *_, text) in LINES.items():
        said = found[f"{name}.{SIGNED}"]
        print(f"{level:<10} {name:<10} {said}")
        if text not in said or (name in MET) is not (text == said):
            wrong[name] = f"{said}, not {text}"
    assert not wrong
