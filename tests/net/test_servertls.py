"""Which certificate a client is shown, and that all else is the same whichever it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from qmtls.net.handshake import facts_of
from qmtls.net.servertls import ServerTls, find_context
from qmtls.net.snapshot import make_snapshot
from tests.control.directory import compiled
from tests.net import certs
from tests.net.certs import Leaf, authority
from tests.net.house import Files, with_tls

DEFAULT = certs.server()
NAMED: Files = {
    "servercerts/mail.two.example.pem": certs.server("mail.two.example").bundle,
    "servercerts/_.wild.example.pem": certs.server("*.wild.example").bundle,
    "servercerts/deep.wild.example.pem": certs.server("deep.wild.example").bundle,
}
VERSIONS = pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["1.2", "1.3"])


def server(path: Path, files: Files) -> ServerTls:
    return make_snapshot(compiled(path, files)).server


def shake(one: SSL.Connection, other: SSL.Connection) -> None:
    for _ in range(6):
        for speaks, hears in ((one, other), (other, one)):
            try:
                speaks.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                hears.bio_write(speaks.bio_read(100_000))
            except SSL.WantReadError:
                pass


class Meeting:
    """One handshake in memory, with what each side then knows."""

    def __init__(self, server: ServerTls, name: bytes | None, leaf: Leaf | None = None, newest: int = 0) -> None:
        self.creator = server.creator()
        self.server = self.creator.connection(client=False)
        self.client = SSL.Connection(certs.context(leaf, newest=newest), None)
        self.client.set_connect_state()
        if name is not None:
            self.client.set_tlsext_host_name(name)
        shake(self.client, self.server)
        self.facts = facts_of(self.server, self.creator.recorder, client=False)

    @property
    def shown(self) -> object:
        return self.client.get_peer_certificate(as_cryptography=True)


@VERSIONS
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (None, ()),
        (b"mail.example.org", ()),
        (b"mail.two.example", ("mail.two.example",)),
        (b"MAIL.Two.Example", ("mail.two.example",)),
        (b"mail.two.example.", ("mail.two.example",)),
        (b"two.example", ()),
        (b"x.mail.two.example", ()),
        (b"any.wild.example", ("*.wild.example",)),
        (b"deep.wild.example", ("deep.wild.example",)),
        (b"one.more.wild.example", ()),
        (b"wild.example", ()),
        (b".wild.example", ()),
        (b"_.wild.example", ("*.wild.example",)),
        (b"192.0.2.1", ()),
        (b"\xff\xfe.wild.example", ("*.wild.example",)),
        (b"../servercert", ()),
    ],
)
def test_the_certificate_that_is_shown(
    tmp_path: Path, asked: bytes | None, names: tuple[str, ...], newest: int
) -> None:
    met = Meeting(server(tmp_path, {**with_tls(), **NAMED}), asked, newest=newest)
    assert met.shown == certs.server(*names).cert


@VERSIONS
@pytest.mark.parametrize("asked", [None, b"mail.two.example", b"any.wild.example", b"elsewhere.example"])
def test_the_client_is_asked_and_judged_alike(tmp_path: Path, asked: bytes | None, newest: int) -> None:
    """A change of context must not lose the wish for a certificate, whom we trust, or what is switched off."""
    tls = server(tmp_path, {**with_tls(), **NAMED})
    good = Meeting(tls, asked, authority().leaf(email="alice@a.example"), newest)
    assert good.facts.leaf is not None and good.facts.verified
    stranger = Meeting(tls, asked, authority("another").leaf(email="alice@a.example"), newest)
    assert stranger.facts.leaf is not None and not stranger.facts.verified
    assert Meeting(tls, asked, newest=newest).facts.leaf is None
    assert [name.CN for name in good.client.get_client_ca_list()] == ["our CA"]
    assert good.server.get_verify_mode() == SSL.VERIFY_PEER
    set_before = good.server.set_options(0)
    assert set_before & SSL.OP_NO_TICKET and set_before & SSL.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("asked", [None, b"mail.two.example"])
def test_nobody_is_asked_where_no_rule_could_use_a_certificate(tmp_path: Path, asked: bytes | None) -> None:
    files = {**with_tls(), **NAMED}
    del files["clientca.pem"]
    met = Meeting(server(tmp_path, files), asked, authority().leaf())
    assert met.facts.leaf is None
    assert met.server.get_verify_mode() == SSL.VERIFY_NONE


@pytest.mark.parametrize("asked", [None, b"mail.two.example"])
def test_old_versions_are_refused_for_each_name(tmp_path: Path, asked: bytes | None) -> None:
    tls = server(tmp_path, {**with_tls(tlsserverciphers="DEFAULT:@SECLEVEL=0\n"), **NAMED})
    with pytest.raises(SSL.Error):
        context = certs.context(newest=SSL.TLS1_1_VERSION)
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        conn = tls.creator().connection(client=False)
        peer = SSL.Connection(context, None)
        peer.set_connect_state()
        if asked is not None:
            peer.set_tlsext_host_name(asked)
        shake(peer, conn)


def test_a_name_too_long_is_none_of_ours() -> None:
    assert find_context({}, b"a" * 10_000) is None
    assert find_context({}, b"") is None


def test_what_chains_are_verified_against(tmp_path: Path) -> None:
    files = with_tls()
    assert server(tmp_path, files).store is not None
    del files["clientca.pem"]
    (tmp_path / "clientca.pem").unlink()
    assert server(tmp_path, files).store is None


@VERSIONS
@pytest.mark.parametrize("asked", [None, b"mail.two.example"])
def test_the_chain_that_is_shown_is_what_the_file_holds(tmp_path: Path, asked: bytes | None, newest: int) -> None:
    """OpenSSL would add the CAs that we trust, a root with them, and look for them at each handshake."""
    ca = authority()

    def shown(path: Path, files: Files) -> list[object]:
        path.mkdir()
        met = Meeting(server(path, files), asked, newest=newest)
        return list(met.client.get_peer_cert_chain(as_cryptography=True) or ())

    alone: Files = {**with_tls(), **NAMED}
    assert len(shown(tmp_path / "alone", alone)) == 1
    bundled: Files = {
        name: content + ca.pem if "server" in name and isinstance(content, bytes) else content
        for name, content in alone.items()
    }
    assert shown(tmp_path / "bundled", bundled)[1:] == [ca.cert]


def rsa_bundle() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.org")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(certs.NOW).not_valid_after(certs.NOW + 9 * certs.DAY)
    leaf = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + leaf


def test_every_cipher_of_the_default_has_forward_secrecy(tmp_path: Path) -> None:
    bundle = rsa_bundle()

    def agreed(path: Path, **more: str) -> str | None:
        path.mkdir()
        ours = server(path, with_tls(servercert__pem=bundle, **more)).creator().connection(client=False)
        context = certs.context(newest=SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"kRSA")
        theirs = SSL.Connection(context, None)
        theirs.set_connect_state()
        shake(theirs, ours)
        return ours.get_cipher_name()

    assert str(agreed(tmp_path / "loose", tlsserverciphers="DEFAULT\n")).startswith("AES")
    with pytest.raises(SSL.Error, match="no shared cipher"):
        agreed(tmp_path / "default")
