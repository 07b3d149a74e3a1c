"""STARTTLS on the server's side: injection, what survives, client certificates, resumption, time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

from qmtls.net.inbound import HANDSHAKE_SECONDS
from qmtls.net.patience import ABORT_AFTER
from qmtls.tls.pin import certificate_digest, key_pin_text
from tests.net import certs
from tests.net.certs import CLIENT, SERVER, Leaf, authority
from tests.net.house import PLAIN, Client, Files, Session, Shows, Site, with_tls

MakeSite = Callable[[Files], Site]

NO = "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts"
NO_CERT = f"{NO}; no valid cert for gatewaying"
VERSIONS = pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["1.2", "1.3"])


def gateway(client: Client) -> str:
    """What a recipient elsewhere is answered."""
    client.say("EHLO c.example", "MAIL FROM:<s@c.example>")
    return client.say("RCPT TO:<far@away.example>")


# ---------------------------------------------------------------- the switch


def test_a_message_over_tls(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.start_tls()
    assert client.secured
    assert client.mail().startswith("250 2.0.0 ok ")
    arrival = site.offered[0].envelope.arrival
    assert arrival.protocol == "ESMTPS"
    assert arrival.tls.startswith("TLSv1.3 TLS_AES_256_GCM_SHA384 ")
    assert client.say("QUIT").startswith("221")
    assert client.lost is not None
    assert not site.connections
    assert not site.reactor.getDelayedCalls()


@pytest.mark.parametrize("segment", [1, 2, 7, 100, 1000])
def test_segments_of_any_size(make_site: MakeSite, segment: int) -> None:
    site = make_site(with_tls())
    site.reactor.segment = segment
    client = site.client()
    client.start_tls()
    assert client.mail("y" * 900).startswith("250 2.0.0 ok ")


def test_large_content_over_tls(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.start_tls()
    assert client.mail(("y" * 98 + "\r\n") * 30_000).startswith("250 2.0.0 ok ")
    assert site.offered[0].size > 3_000_000


def test_without_a_certificate_there_is_no_starttls(site: Site) -> None:
    client = site.client()
    assert "STARTTLS" not in client.say("EHLO c")
    assert client.say("STARTTLS") == "454 4.7.0 TLS not available"
    assert client.say("NOOP").startswith("250")


INJECTED = b"STARTTLS\r\nMAIL FROM:<evil@c.example>\r\nRCPT TO:<r@there.example>\r\nDATA\r\nevil\r\n.\r\n"


@pytest.mark.parametrize("cut", range(len(INJECTED) + 1))
def test_commands_injected_behind_starttls(make_site: MakeSite, cut: int) -> None:
    """However the octets are cut into segments: nothing of them is a command after the switch, and it ends there."""
    site = make_site(with_tls())
    client = site.client()
    client.say("EHLO c.example")
    client.got.clear()
    client.send(INJECTED[:cut])
    client.send(INJECTED[cut:])
    assert client.lost is not None or site.protocol.session.helo == ""
    assert not site.offered and not site.stored
    assert b"250" not in client.got and b"354" not in client.got


def test_a_command_injected_before_the_handshake_is_not_obeyed_in_it(make_site: MakeSite) -> None:
    """The attacker sends first, the client's handshake follows in the same connection."""
    site = make_site(with_tls())
    client = site.client()
    client.say("EHLO c.example")
    client.got.clear()
    client.send(b"STARTTLS\r\nNOOP\r\n")
    assert client.replies[0].startswith("501 5.5.4")
    assert client.lost is not None


def test_single_octets_around_starttls(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    for octet in b"EHLO c\r\nSTARTTLS\r\n":
        client.send(bytes([octet]))
    assert client.replies[-1] == "220 ready for tls"
    client.shake()
    assert client.mail().startswith("250")


def test_nothing_said_in_plaintext_survives(make_site: MakeSite) -> None:
    site = make_site({**with_tls(), "relaynetworks": "192.0.2.0/24\n"})
    client = site.client()
    client.begin("s@c.example", "far@away.example")
    assert client.say("STARTTLS") == "220 ready for tls"
    client.shake()
    assert client.say("RCPT TO:<r@there.example>").startswith("503")
    assert client.say("DATA").startswith("503")
    assert client.say("MAIL FROM:<s@c.example>").startswith("503 5.5.1 EHLO or HELO first")
    assert "STARTTLS" not in client.say("EHLO c.example")
    assert client.say("MAIL FROM:<t@c.example>").startswith("250")
    assert client.say("DATA").startswith("503")
    assert client.say("RCPT TO:<r@there.example>", "DATA", "x", ".")
    (offered,) = site.offered
    assert [str(r.address) for r in offered.envelope.recipients] == ["r@there.example"]
    assert str(offered.envelope.reverse_path) == "t@c.example"
    assert offered.envelope.arrival.identity == ""  # the network had opened the relay before the switch only


def test_tls_twice(make_site: MakeSite) -> None:
    client = make_site(with_tls()).client()
    client.start_tls()
    client.say("EHLO c")
    assert client.say("STARTTLS").startswith("503 5.5.1")
    assert client.say("NOOP").startswith("250")


def test_garbage_for_a_handshake(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.say("EHLO c", "STARTTLS")
    client.send(b"\x16\x03\x01\x00\x05hello and more of it")
    assert client.lost is not None
    assert not site.connections
    assert any("tls broken client=192.0.2.1" in line for line in site.log)


def test_garbage_after_the_handshake(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.start_tls()
    client.begin()
    client.say("DATA")
    sock = client.transport.socket  # type: ignore[union-attr]
    sock.peer.inbox += b"\x17\x03\x03\x00\x10" + b"0123456789abcdef"
    site.reactor.run()
    assert client.lost is not None
    assert not site.connections and not site.stored


# ---------------------------------------------------------------- who is it


def expired() -> Leaf:
    return authority().leaf(email="alice@a.example", days=-2)


def good(email: str = "alice@a.example", **more: Any) -> Leaf:
    return authority().leaf(email=email, **more)


CASES: dict[str, tuple[Callable[[], Leaf | None], str]] = {
    "none": (lambda: None, ""),
    "good": (good, "ok"),
    "good, in capitals": (lambda: good("ALICE@A.example"), "ok"),
    "for clients": (lambda: good(use=CLIENT), "ok"),
    "for servers only": (lambda: good(use=SERVER), "not meant for this use"),
    "another address": (lambda: good("bob@a.example"), "email address not in my list of tlsclients"),
    "no address": (lambda: authority().leaf("no address"), "contains no email address"),
    "another CA": (lambda: authority("another").leaf(email="alice@a.example"), "unknown issuer"),
    "expired": (expired, "expired"),
    "self-signed": (lambda: certs.self_signed(email="alice@a.example"), "self-signed"),
}


@VERSIONS
@pytest.mark.parametrize("case", CASES)
def test_a_client_certificate(make_site: MakeSite, case: str, newest: int) -> None:
    """Whatever is shown, the handshake goes on; what is wrong with it is said where it matters."""
    site = make_site(with_tls())
    make, reason = CASES[case]
    client = site.client()
    client.start_tls(certs.context(make(), newest=newest))
    assert client.secured
    match = site.protocol.guest.peer.match
    assert match is not None
    answer = gateway(client)
    if reason == "ok":
        assert match.rule is not None and match.rule.text == "alice@a.example"
        assert answer.startswith("250")
        assert client.say("DATA", "x", ".")
        assert site.offered[0].envelope.arrival.identity == "alice@a.example"
        assert b"(cert alice@a.example)" in site.content(site.stored[0])
    else:
        assert match.rule is None
        assert answer == NO_CERT + (f": {reason}" if reason else "")
        assert client.say("RCPT TO:<r@there.example>").startswith("250")


def test_the_trace_names_a_certificate_only_if_it_opened_the_relay(make_site: MakeSite) -> None:
    site = make_site({**with_tls(), "relaynetworks": "192.0.2.0/24\n"})
    client = site.client()
    client.start_tls(certs.context(good()))
    assert gateway(client).startswith("250")
    assert client.say("DATA", "x", ".")
    assert site.offered[0].envelope.arrival.identity == "192.0.2.0/24"
    assert b"(cert" not in site.content(site.stored[0])


def test_without_tls_the_refusal_speaks_of_no_certificate(make_site: MakeSite) -> None:
    assert gateway(make_site(with_tls()).client()) == NO


REVOKED = authority().leaf("revoked", email="alice@a.example")
LISTS: dict[str, tuple[Callable[[], bytes], Leaf, str]] = {
    "good": (lambda: authority().crl(REVOKED), good(), "ok"),
    "revoked": (lambda: authority().crl(REVOKED), REVOKED, "revoked"),
    "expired list": (
        lambda: authority().crl(days=-1),
        good(),
        "the revocation list of CN=our CA has expired",
    ),
    "revoked by an expired list": (lambda: authority().crl(REVOKED, days=-1), REVOKED, "revoked"),
    "list of another CA": (lambda: authority("another").crl(), good(), "no revocation list of CN=our CA"),
}


@VERSIONS
@pytest.mark.parametrize("case", LISTS)
def test_revocation(make_site: MakeSite, case: str, newest: int) -> None:
    make, leaf, reason = LISTS[case]
    site = make_site(with_tls(clientcrl__pem=make()))
    client = site.client()
    client.start_tls(certs.context(leaf, newest=newest))
    answer = gateway(client)
    assert answer.startswith("250") if reason == "ok" else answer == f"{NO_CERT}: {reason}"


def key_rule(leaf: Leaf) -> str:
    return key_pin_text(leaf.cert)


def certificate_rule(leaf: Leaf) -> str:
    return f"sha256:{certificate_digest(leaf.cert).hex()}"


@pytest.mark.parametrize("rule", [key_rule, certificate_rule])
@pytest.mark.parametrize("ca", [True, False], ids=["with clientca.pem", "without"])
def test_a_certificate_or_key_rule_needs_no_ca_and_no_date(
    make_site: MakeSite, rule: Callable[[Leaf], str], ca: bool
) -> None:
    leaf = authority("another").leaf(days=-2, use=SERVER)
    files = with_tls(tlsclients=rule(leaf) + "\n")
    if not ca:
        del files["clientca.pem"]
    site = make_site(files)
    client = site.client()
    client.start_tls(certs.context(leaf))
    assert gateway(client).startswith("250")
    other = site.client()
    other.start_tls(certs.context(authority("another").leaf()))
    assert gateway(other).startswith(NO_CERT)


def test_a_revoked_certificate_opens_nothing_by_its_key_either(make_site: MakeSite) -> None:
    """Its CA is not one that clientca.pem names: the list alone decides."""
    other = authority("another")
    leaf = other.leaf()
    site = make_site(with_tls(tlsclients=key_rule(leaf) + "\n", clientcrl__pem=authority().crl() + other.crl(leaf)))
    client = site.client()
    client.start_tls(certs.context(leaf))
    assert gateway(client) == f"{NO_CERT}: revoked"


def test_no_certificate_is_asked_for_where_no_rule_could_use_one(make_site: MakeSite) -> None:
    files = with_tls()
    del files["clientca.pem"]
    site = make_site(files)
    client = site.client()
    client.start_tls(certs.context(good()))
    assert site.protocol.guest.peer.match is not None and site.protocol.guest.peer.match.rule is None
    assert gateway(client) == NO_CERT


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects")
def test_a_certificate_that_cannot_be_parsed_is_as_none(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.start_tls(certs.odd_context(good()))
    assert client.secured
    assert gateway(client).startswith(NO_CERT)
    assert client.say("RCPT TO:<r@there.example>").startswith("250")


# ---------------------------------------------------------------- resumption


def reused(client: Client) -> bool:
    assert client.creator is not None
    library: Any = SSL  # pyOpenSSL has no word for it
    return bool(library._lib.SSL_session_reused(client.creator.conn._ssl))


@VERSIONS
def test_a_session_is_never_resumed(make_site: MakeSite, newest: int) -> None:
    """A client that tries gets a full handshake, and its identity from that."""
    site = make_site(with_tls())
    context = certs.context(newest=newest)
    kept = Session(leaf=good())
    for _ in range(3):
        client = site.client()
        client.start_tls(context, kept)
        assert gateway(client).startswith("250")
        assert not reused(client)
        assert client.creator is not None
        kept.session = client.creator.conn.get_session()
    kept.leaf = None
    stranger = site.client()
    stranger.start_tls(context, kept)
    assert stranger.secured
    assert not reused(stranger)
    assert gateway(stranger) == NO_CERT


# ---------------------------------------------------------------- time and the end


@pytest.mark.parametrize("drip", [False, True])
def test_the_handshake_has_a_time_limit(make_site: MakeSite, drip: bool) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.say("EHLO c", "STARTTLS")
    hello = Shows(certs.context())
    conn = hello.clientConnectionForTLS(None)
    conn.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        conn.do_handshake()
    octets = conn.bio_read(10_000)
    for n in range(int(HANDSHAKE_SECONDS) - 1):
        if drip:
            client.send(octets[n : n + 1])
        site.reactor.pass_time(1)
    assert client.lost is None
    site.reactor.pass_time(2)
    assert client.lost is not None
    assert not site.connections


def test_after_the_handshake_a_command_has_its_full_time(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.start_tls()
    site.reactor.pass_time(290, 5)
    assert client.say("NOOP").startswith("250") or client.say("EHLO c").startswith("250")
    site.reactor.pass_time(305, 5)
    assert client.lost is not None


def test_a_tls_peer_that_never_answers_our_close(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.start_tls()
    client.say("EHLO c")
    client.transport.pauseProducing()  # type: ignore[union-attr]
    client.send(b"QUIT\r\n")
    site.reactor.pass_time(ABORT_AFTER + 1)
    assert not site.connections
    assert not site.reactor.getDelayedCalls()


def test_a_tls_client_that_does_not_read(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    site.tireless()
    client = site.client()
    client.start_tls()
    client.got.clear()
    client.transport.pauseProducing()  # type: ignore[union-attr]
    count = 50_000
    client.send(b"NOOP\r\n" * count)
    server: Any = site.protocol.transport
    assert server not in site.reactor.readers
    assert server._tempDataLen + len(server.dataBuffer) < 1024 * 1024
    client.transport.resumeProducing()  # type: ignore[union-attr]
    site.reactor.run()
    assert client.got.count(b"250 2.0.0 ok\r\n") == count


def test_the_service_ends_during_a_handshake(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.say("EHLO c", "STARTTLS")
    site.protocol.shut_down()
    site.reactor.run()
    assert client.lost is None
    client.shake()
    assert client.replies == ["421 4.3.2 the service is shutting down, try again later"]
    assert client.lost is not None


def test_a_client_that_says_goodbye_to_tls_only(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    client.start_tls()
    client.begin()
    client.say("DATA", "x")
    client.transport.loseConnection()  # type: ignore[union-attr]
    site.reactor.run()
    assert not site.connections
    assert not site.stored and not site.offered


def test_a_session_keeps_the_settings_that_it_began_with(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client()
    other = certs.authority().leaf("new", names=["new.example"])
    site.snapshot = site.make(with_tls(servercert__pem=other.bundle))
    client.start_tls()
    assert client.creator is not None
    assert client.creator.conn.get_peer_certificate(as_cryptography=True) == certs.server().cert
    fresh = site.client()
    fresh.start_tls()
    assert fresh.creator is not None
    assert fresh.creator.conn.get_peer_certificate(as_cryptography=True) == other.cert


def test_the_chain_is_sent(make_site: MakeSite) -> None:
    leaf = Leaf(certs.server().key, certs.server().cert, (authority().cert,))
    site = make_site({**PLAIN, "servercert.pem": leaf.bundle})
    client = site.client()
    client.start_tls()
    assert client.creator is not None
    shown = client.creator.conn.get_peer_cert_chain(as_cryptography=True)
    assert [c.public_bytes(Encoding.DER) for c in shown] == [
        c.public_bytes(Encoding.DER) for c in (leaf.cert, authority().cert)
    ]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert shown[0].public_key().public_bytes(*form) == leaf.key.public_key().public_bytes(*form)
