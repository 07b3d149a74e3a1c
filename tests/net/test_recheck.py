"""A client of an open session against whom we trust now: trust is taken away and given back, and never made."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.net.handshake import facts_of
from qmtls.net.recheck import recheck
from qmtls.net.servertls import ServerTls
from qmtls.net.snapshot import make_snapshot
from qmtls.tls.facts import TlsFacts
from tests.control.directory import compiled
from tests.net import certs
from tests.net.certs import SERVER, Leaf, authority
from tests.net.house import Files, with_tls
from tests.net.test_servertls import Meeting

ALICE = authority().leaf("alice", email="alice@a.example")


def server(path: Path, name: str, files: Files) -> ServerTls:
    return make_snapshot(compiled(path / name, files)).server


def shook(tls: ServerTls, leaf: Leaf | None) -> TlsFacts:
    met = Meeting(tls, None, leaf)
    return facts_of(met.server, met.creator.recorder, client=False, crls=tls.crls)


def words(facts: TlsFacts) -> list[str]:
    return [error.text for error in facts.errors]


def test_nothing_changed(tmp_path: Path) -> None:
    tls = server(tmp_path, "a", with_tls())
    facts = shook(tls, ALICE)
    assert facts.verified
    assert recheck(facts, tls) == facts


def test_revoked_and_pardoned(tmp_path: Path) -> None:
    facts = shook(server(tmp_path, "a", with_tls()), ALICE)
    after = recheck(facts, server(tmp_path, "b", with_tls(clientcrl__pem=authority().crl(ALICE))))
    assert not after.verified and words(after) == ["revoked"]
    again = recheck(facts, server(tmp_path, "c", with_tls(clientcrl__pem=authority().crl())))
    assert again.verified and not again.errors


@pytest.mark.parametrize(
    "leaf",
    [
        authority("another").leaf(email="alice@a.example"),
        authority().leaf(email="alice@a.example", use=SERVER),
        authority().leaf(email="alice@a.example", days=-1),
        certs.self_signed(email="alice@a.example"),
    ],
)
def test_a_complaint_of_the_handshake_stays(tmp_path: Path, leaf: Leaf) -> None:
    facts = shook(server(tmp_path, "a", with_tls()), leaf)
    assert facts.errors
    everybody = authority().pem + authority("another").pem
    after = recheck(facts, server(tmp_path, "b", with_tls(clientca__pem=everybody)))
    assert not after.verified
    assert after.errors == facts.errors


def test_a_revoked_ca_in_between_is_seen_without_trust_in_it(tmp_path: Path) -> None:
    """By a list of its issuer, although that is in no store."""
    above = authority("above")
    between = authority("between")
    signed = above._sign(between.name, between.key.public_key(), certs.NOW + 9 * certs.DAY, ca=True)
    leaf = between.leaf()
    shown = Leaf(leaf.key, leaf.cert, (signed,))
    facts = shook(server(tmp_path, "a", with_tls()), shown)
    assert facts.chain == (leaf.cert, signed)
    lists = authority().crl() + above.crl(Leaf(between.key, signed))
    after = recheck(facts, server(tmp_path, "b", with_tls(clientcrl__pem=lists)))
    assert "revoked" in words(after)


def test_no_certificate(tmp_path: Path) -> None:
    tls = server(tmp_path, "a", with_tls())
    facts = shook(tls, None)
    assert recheck(facts, tls) is facts
