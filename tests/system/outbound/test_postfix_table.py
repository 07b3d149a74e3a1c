"""One TLS policy table, given to Postfix as it is and to qmtls by `qmtls import`: equal decisions about twenty peers.

Each peer has a certificate, or a fault, of its own, and each gets one message from either. The table of what became of
them is printed (pytest -s) and compared cell by cell.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.house import House
from tests.system.mx import FakeMx
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.pki import Authority, Credential
from tests.system.postfix import Postfix
from tests.system.waiting import wait_for

MAIN = """
transport_maps = texthash:{directory}/transport
relayhost =
smtp_tls_policy_maps = texthash:{directory}/tls_policy
smtp_tls_security_level = may
smtp_tls_CAfile =
smtp_host_lookup = native
smtp_tls_fingerprint_digest = sha256
smtp_connection_cache_on_demand = no
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """`policy` is its line without the key; `credential` None: no STARTTLS. It is known as `host`, port as it comes."""

    name: str
    policy: str
    credential: Credential | None
    becomes: str  # "TLS", "plaintext", "waits"
    host: str = "localhost"
    oldest_and_newest: ssl.TLSVersion | None = None


def peers(authority: Authority, ca: Path) -> list[Peer]:
    good, other = authority.server("localhost"), authority.server("mx.example.test")
    strange, expired = Authority("nobody's CA").server("localhost"), authority.server("localhost", days=-1)
    wild, parent = authority.server("*.example.test"), authority.server("example.test")
    address = authority.server("127.0.0.1")
    many = authority.server("a.test", "b.test", "localhost")
    pinned = Authority("its own CA").server("z.test")
    tafile = f"tafile={ca}"
    return [
        Peer("none", "none", good, "plaintext"),
        Peer("may-strange", "may", strange, "TLS"),
        Peer("may-expired", "may", authority.server("localhost", days=-3), "TLS"),
        Peer("may-without", "may", None, "plaintext"),
        Peer("encrypt-strange", "encrypt", authority.server("x.test"), "TLS"),
        Peer("encrypt-expired", "encrypt", expired, "TLS"),
        Peer("encrypt-without", "encrypt", None, "waits"),
        Peer(
            "encrypt-old",
            "encrypt protocols=>=TLSv1.3",
            authority.server("old.test"),
            "waits",
            oldest_and_newest=ssl.TLSVersion.TLSv1_2,
        ),
        Peer("verify-good", f"verify {tafile}", many, "TLS"),
        Peer("verify-other", f"verify {tafile}", other, "waits"),
        Peer("verify-strange", f"verify {tafile}", Authority("another CA").server("localhost"), "waits"),
        Peer("verify-expired", f"verify {tafile}", authority.server("localhost", days=-2), "waits"),
        Peer("verify-wildcard", f"verify match=mx.example.test {tafile}", wild, "TLS"),
        Peer("verify-deeper", f"verify match=a.mx.example.test {tafile}", authority.server("*.example.test"), "waits"),
        Peer("secure-nexthop", f"secure {tafile}", authority.server("localhost"), "TLS"),
        Peer("secure-below", f"secure match=.example.test {tafile}", authority.server("mx.example.test"), "TLS"),
        Peer("secure-not-below", f"secure match=.example.test {tafile}", parent, "waits"),
        Peer("pin-certificate", f"fingerprint match={colons(certificate(address))}", address, "TLS", "127.0.0.1"),
        Peer("pin-key", f"fingerprint match={colons(key(wild))}", wild, "TLS"),
        Peer("pin-backup", f"fingerprint match={certificate(good)}|{certificate(expired)}", expired, "TLS"),
        Peer("pin-strange", f"fingerprint match={certificate(pinned)}", pinned, "TLS"),
        Peer("pin-other", f"fingerprint match={certificate(good)}", authority.server("localhost"), "waits"),
    ]


def certificate(credential: Credential) -> str:
    return credential.sha256


def key(credential: Credential) -> str:
    public = credential.certificate.public_key()
    return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def colons(digits: str) -> str:
    return ":".join(digits[n : n + 2] for n in range(0, len(digits), 2)).upper()


@pytest.fixture
def known(authority: Authority, tmp_path: Path) -> list[Peer]:
    ca = tmp_path / "ca.crt"  # where Postfix's own user can read it
    ca.write_bytes(authority.pem)
    return peers(authority, ca)


@pytest.fixture
def hosts(known: list[Peer], tmp_path: Path) -> Iterator[dict[str, FakeMx]]:
    """By the name of the peer."""
    with ExitStack() as stack:
        found = {}
        for peer in known:
            context = None
            if peer.credential is not None:
                context = peer.credential.server_context(tmp_path / f"{peer.name}.pem")
                if peer.oldest_and_newest is not None:
                    context.minimum_version = context.maximum_version = peer.oldest_and_newest
            found[peer.name] = stack.enter_context(FakeMx(tls=context))
        yield found


@pytest.fixture
def postfix(known: list[Peer], hosts: dict[str, FakeMx], authority: Authority, tmp_path: Path) -> Iterator[Postfix]:
    directory = tmp_path / "postfix"
    directory.mkdir()
    made = Postfix(directory, 9, authority.client("joe@a.test"), "unused.test")
    routes = {peer.name: f"[{peer.host}]:{hosts[peer.name].port}" for peer in known}
    (directory / "transport").write_text("".join(f"{name}.test smtp:{route}\n" for name, route in routes.items()))
    (directory / "tls_policy").write_text("".join(f"{routes[peer.name]} {peer.policy}\n" for peer in known))
    main = directory / "main.cf"
    # Its own lines would do; but a name that is there twice makes Postfix complain.
    ours = MAIN.format(directory=directory)
    names = set(re.findall(r"^(\w+) =", ours, re.MULTILINE))
    kept = [line for line in main.read_text().splitlines() if line.split(" =")[0] not in names]
    main.write_text("\n".join(kept) + ours)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_both_decide_alike(
    house: House, postfix: Postfix, known: list[Peer], hosts: dict[str, FakeMx], tmp_path: Path
) -> None:
    assert sum(peer.credential is not None for peer in known) == 20
    named = tmp_path / "peers"
    named.write_text("".join(f"{peer.name}.test {peer.host}\n" for peer in known if peer.host == "localhost"))
    open_to_all(house)
    house.control("smtproutes", None)
    # Postfix's own parameters (its certificate) are no part of the table.
    imported = house.qmtls(
        "import", "postfix", str(tmp_path / "postfix/main.cf"), "--peers", str(named), "--write", status=1
    ).stdout
    assert imported.count("equal      ") >= 20 and "DIFFERENT" not in imported, imported
    assert re.search(r"not carried: put key, certificate and chain into one file", imported)
    house.start()
    for peer in known:
        postfix.send("postfix@a.test", f"bob@{peer.name}.test", "Subject: x\n\nhello\n")
        hand_in(house, f"bob@{peer.name}.test", sender="qmtls@a.test")
    theirs = {peer.name: became(hosts[peer.name], "postfix", postfix_log(tmp_path), peer.name) for peer in known}
    ours = {peer.name: became(hosts[peer.name], "qmtls", house.logfile, peer.name) for peer in known}
    for peer in known:
        print(f"{peer.name:<18} {theirs[peer.name]:<10} {ours[peer.name]:<10} {peer.policy[:60]}")
    assert theirs == {peer.name: peer.becomes for peer in known}
    assert ours == theirs


def postfix_log(tmp_path: Path) -> Path:
    return tmp_path / "postfix/maillog"


def became(host: FakeMx, sender: str, log: Path, name: str) -> str:
    """What became of the message of `sender`: it is at the host, or the log says that it waits."""

    def found() -> str:
        for message in host.messages:
            if message.sender.startswith(f"<{sender}@"):
                return "TLS" if message.session.tls else "plaintext"
        text = log.read_text(errors="replace") if log.exists() else ""
        said = rf"to=<bob@{name}\.test>.*status=deferred" if sender == "postfix" else rf"deferred .*<bob@{name}\.test>"
        return "waits" if re.search(said, text) else ""

    return wait_for(found, f"what {sender} does with {name}")
