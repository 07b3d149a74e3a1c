"""Facts of a handshake: only what the verifier said in this very one counts."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509

from qmtls.net.handshake import Creator, Recorder, facts_of, record_verification, revocations
from qmtls.tls.clients import ClientRule, ClientRules, match_client
from qmtls.tls.complaints import REVOKED
from qmtls.tls.pin import key_digest
from qmtls.tls.policy import Origin
from tests.net import certs
from tests.net.certs import Leaf, authority


def shake(server: SSL.Connection, client: SSL.Connection) -> None:
    for _ in range(10):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(1_000_000))
            except SSL.WantReadError:
                pass


def accepted(leaf: Leaf | None, *, ask: bool = True, trust: bool = True) -> tuple[SSL.Connection, Recorder]:
    """The server's end after a handshake with a client that shows `leaf`."""
    context = certs.context(certs.server())
    if trust:
        store: Any = context.get_cert_store()
        store.add_cert(X509.from_cryptography(authority().cert))
    record_verification(context)
    creator = Creator(context, ask=ask)
    server = creator.connection(client=False)
    client = SSL.Connection(certs.context(leaf), None)
    client.set_connect_state()
    shake(server, client)
    return server, creator.recorder


LEAF = authority().leaf(email="a@a.example")


def test_a_good_chain() -> None:
    facts = facts_of(*accepted(LEAF), client=False)
    assert facts.verified and not facts.errors
    assert facts.leaf == LEAF.cert
    assert facts.chain[0] == LEAF.cert


def test_no_certificate() -> None:
    facts = facts_of(*accepted(None), client=False)
    assert facts.leaf is None and not facts.verified and facts.chain == ()


def test_an_unknown_issuer() -> None:
    facts = facts_of(*accepted(LEAF, trust=False), client=False)
    assert not facts.verified
    assert {e.code for e in facts.errors} <= {20, 21}
    assert facts.errors[0].text == "unknown issuer"


def test_without_its_callback_nothing_is_verified() -> None:
    """As after a resumption: the certificate is still there, and nobody complained."""
    conn, _ = accepted(LEAF)
    facts = facts_of(conn, Recorder(), client=False)
    assert facts.leaf == LEAF.cert
    assert not facts.verified
    rules = ClientRules(
        (
            ClientRule("email", "a@a.example", Origin("x"), "a@a.example"),
            ClientRule("spki", key_digest(LEAF.cert).hex(), Origin("x"), "spki:..."),
        )
    )
    assert match_client(rules, facts, trusted=True, now=0.0).rule is None


def test_a_complaint_at_any_depth_counts() -> None:
    recorder = Recorder()
    cert: Any = None
    recorder.heard(cert, 10, 1, 0)
    recorder.heard(cert, 0, 0, 1)
    recorder.heard(cert, 12345, 0, 0)
    assert [(e.code, e.depth) for e in recorder.errors] == [(10, 1), (12345, 0)]
    assert recorder.errors[1].text == "verify error 12345"
    server, _ = accepted(LEAF)
    assert not facts_of(server, recorder, client=False).verified


def test_each_connection_has_a_recorder_of_its_own() -> None:
    context = certs.context(certs.server())
    record_verification(context)
    met = []
    for shown in (authority("another").leaf(), None):
        creator = Creator(context, ask=True)
        server, client = creator.connection(client=False), SSL.Connection(certs.context(shown), None)
        client.set_connect_state()
        met.append((creator, server, client))
    for _, server, client in met:
        shake(server, client)
    stranger, nobody = (creator.recorder for creator, *_ in met)
    assert stranger.ran and stranger.errors
    assert not nobody.ran and not nobody.errors


def test_a_context_that_nobody_prepared_verifies_nobody() -> None:
    creator = Creator(certs.context(certs.server()), ask=True)
    server, client = creator.connection(client=False), SSL.Connection(certs.context(LEAF), None)
    client.set_connect_state()
    shake(server, client)
    facts = facts_of(server, creator.recorder, client=False)
    assert not facts.verified and facts.version


def lists(*pems: bytes) -> list[x509.CertificateRevocationList]:
    return [x509.load_pem_x509_crl(pem) for pem in pems]


def test_revoked_by_its_own_issuer_only() -> None:
    other = authority("another")
    chain = (other.leaf().cert, LEAF.cert)
    (found,) = revocations(chain, [], lists(other.crl(), authority().crl(LEAF)))
    assert (found.code, found.depth) == (REVOKED, 1)
    assert not revocations(chain, [], lists(other.crl(LEAF), authority().crl()))
    assert not revocations(chain, [], [])
    assert not revocations(chain, [found], lists(authority().crl(LEAF))), "once is enough"


@pytest.mark.parametrize("trust", [True, False])
def test_revocation_counts_without_a_chain(trust: bool) -> None:
    facts = facts_of(*accepted(LEAF, trust=trust), client=False, crls=lists(authority().crl(LEAF)))
    assert any(e.code == REVOKED for e in facts.errors)
    assert not facts.verified


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects")
@pytest.mark.parametrize("client", [True, False])
def test_a_certificate_that_our_parser_cannot_read(client: bool) -> None:
    server = SSL.Connection(certs.odd_context(LEAF) if client else certs.context(certs.server()), None)
    server.set_accept_state()
    server.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    other = SSL.Connection(certs.context() if client else certs.odd_context(LEAF), None)
    other.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    other.set_connect_state()
    shake(server, other)
    recorder = Recorder()
    recorder.ran = True
    facts = facts_of(other if client else server, recorder, client=client)
    assert facts.leaf is None and not facts.verified
    assert facts.version == "TLSv1.3"
