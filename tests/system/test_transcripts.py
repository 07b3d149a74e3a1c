"""Every kind of rule and every scope, as a client hears it: permitted, refused and why, after a reload, after a
revocation in the open session. The dialogues are in transcripts/."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from tests.system.house import House
from tests.system.pki import Authority, Credential
from tests.system.transcript import FILES, Play

FRESH = ("tlsclients", "clientcrl.pem", "users")  # gone before each transcript

KINDS = {"email", "sha256", "spki", "dn", "san_email", "san_dns", "san_uri", "san_ip", "user"}
SCOPES = {"from", "to", "rate", "size", "until", "label", "several"}


@pytest.fixture(scope="module")
def certificates(authority: Authority) -> Mapping[str, Credential]:
    names = (
        x509.RFC822Name("gate@client.test"),
        x509.DNSName("gate.client.test"),
        x509.UniformResourceIdentifier("spiffe://client.test/gate"),
        x509.IPAddress(ip_address("192.0.2.77")),
    )
    return {
        "gate": authority.client_of("CN=gate,O=Client Ltd", *names),
        "other": authority.client_of("CN=other,O=Client Ltd", x509.RFC822Name("other@client.test")),
        "stranger": Authority("a stranger").client_of("CN=gate,O=Client Ltd", *names),
    }


@pytest.fixture(scope="module")
def served(standing_house: House) -> House:
    standing_house.control("concurrencyremote", "0\n")
    return standing_house.start()


@pytest.fixture
def play(served: House, authority: Authority, certificates: Mapping[str, Credential], tmp_path: Path) -> Iterator[Play]:
    for name in FRESH:
        if (served.home / "control" / name).exists():
            served.control(name, None)
    served.reload()
    made = Play(served, authority, certificates, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(play: Play, path: Path) -> None:
    play.play(path)


def test_there_is_one_for_each_kind_and_scope() -> None:
    assert {path.stem for path in FILES} == {f"kind_{kind}" for kind in KINDS} | {f"scope_{scope}" for scope in SCOPES}


@pytest.mark.parametrize("path", [path for path in FILES if path.stem.startswith("kind_")], ids=lambda path: path.stem)
def test_each_kind_is_shown_in_four_ways(path: Path) -> None:
    text = path.read_text()
    for way in ("# Permitted", "# Refused", "# After a reload", "# After a revocation"):
        assert len(re.findall(f"^{way}", text, re.MULTILINE)) == 1, way
