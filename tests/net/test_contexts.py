"""OpenSSL contexts from settings: what is refused at the start, and what they agree to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL
from OpenSSL.crypto import X509

from qmtls.control.settings import ControlError
from qmtls.limits import Limits
from qmtls.net.contexts import ClientTls, ContextError
from qmtls.net.doors import Role
from qmtls.net.servertls import ServerTls
from qmtls.net.snapshot import make_snapshot
from qmtls.tls.policy import Level, Origin, PinSet, Policy
from tests.control.directory import compiled
from tests.net import certs
from tests.net.certs import authority
from tests.net.house import Files, with_tls


def made(path: Path, files: Files) -> tuple[ServerTls, ClientTls]:
    snapshot = make_snapshot(compiled(path, files))
    return snapshot.server, snapshot.client


def policy(level: Level, **more: object) -> Policy:
    return Policy(level, Origin("control/tlspolicy", 1), **more)  # type: ignore[arg-type]


def context_of(client: ClientTls, what: Policy) -> SSL.Context:
    return client.creator(what, "mx.example").connection(client=True).get_context()


def test_a_snapshot_without_tls(tmp_path: Path) -> None:
    snapshot = make_snapshot(compiled(tmp_path, {"databytes": "17\n", "smtpgreeting": "hi there\n"}))
    config = snapshot.config(Role.SMTP, Limits())
    assert (config.host, config.greeting, config.max_size) == ("mail.example.org", "hi there ESMTP", 17)
    assert not config.starttls and not snapshot.server.available
    assert not config.tls_first and not config.submission


def test_a_snapshot_with_tls(tmp_path: Path) -> None:
    snapshot = make_snapshot(compiled(tmp_path, with_tls()), ("seen",))
    assert snapshot.config(Role.SMTP, Limits()).starttls
    assert snapshot.seen == ("seen",)


def test_what_a_session_knows_by_role_and_limits(tmp_path: Path) -> None:
    snapshot = make_snapshot(compiled(tmp_path, with_tls()))
    first = snapshot.config(Role.SMTPS, Limits(recipients=7, errors=3))
    assert (first.tls_first, first.starttls, first.submission) == (True, False, False)
    assert (first.max_recipients, first.max_errors) == (7, 3)
    assert snapshot.config(Role.SMTPS, Limits(recipients=7, errors=3)) is first
    submission = snapshot.config(Role.SUBMISSION, Limits())
    assert (submission.tls_first, submission.starttls, submission.submission) == (False, True, True)


@pytest.mark.parametrize("file", ["tlsserverciphers", "tlsclientciphers"])
def test_an_unknown_cipher_list_is_found_at_the_start(tmp_path: Path, file: str) -> None:
    with pytest.raises((ContextError, ControlError)) as found:
        made(tmp_path, with_tls(**{file: "NOSUCHCIPHER\n"}))
    assert file in str(found.value)


def test_the_ciphers_of_a_policy_line_are_found_too(tmp_path: Path) -> None:
    settings = compiled(tmp_path, {"tlspolicy": "a.example encrypt ciphers=high\n"})
    make_snapshot(settings)
    line = settings.tls.lines["a.example"]
    bad = replace(line, policy=replace(line.policy, ciphers="NOSUCHCIPHER"))
    with pytest.raises(ContextError, match="tlspolicy"):
        make_snapshot(replace(settings, tls=replace(settings.tls, lines={"a.example": bad})))


def test_a_key_that_openssl_does_not_take(tmp_path: Path) -> None:
    settings = compiled(tmp_path, with_tls())
    assert settings.server_credential is not None
    wrong = replace(settings.server_credential, chain=(certs.server("other.example").cert,))
    with pytest.raises(ContextError, match=r"servercert\.pem"):
        ServerTls(replace(settings, server_credential=wrong))
    with pytest.raises(ContextError):
        ClientTls(replace(settings, client_credential=wrong))


@pytest.mark.parametrize(
    ("files", "ask"),
    [
        ({}, True),
        ({"clientca.pem": None}, False),
        ({"clientca.pem": None, "tlsclients": f"sha256:{'0' * 64}\n"}, True),
    ],
)
def test_when_a_certificate_is_asked_for(tmp_path: Path, files: dict[str, str | None], ask: bool) -> None:
    directory = {k: v for k, v in {**with_tls(), **files}.items() if v is not None}
    server, _ = made(tmp_path, directory)
    assert server.ask == ask
    mode = server.creator().connection(client=False).get_verify_mode()
    assert mode == (SSL.VERIFY_PEER if ask else SSL.VERIFY_NONE)


def test_names_of_cas_are_told_only_where_they_help(tmp_path: Path) -> None:
    """With a key rule a client may show whatever it has."""

    def told(files: Files) -> int:
        server, _ = made(tmp_path, files)
        conn = server.creator().connection(client=False)
        peer = SSL.Connection(certs.context(), None)
        peer.set_connect_state()
        for _ in range(5):
            for one, other in ((peer, conn), (conn, peer)):
                try:
                    one.do_handshake()
                except SSL.WantReadError:
                    pass
                try:
                    other.bio_write(one.bio_read(100_000))
                except SSL.WantReadError:
                    pass
        return len(peer.get_client_ca_list())

    assert told(with_tls()) == 1
    assert told(with_tls(tlsclients=f"sha256:{'0' * 64}\n")) == 0


def test_contexts_are_shared_by_what_they_depend_on(tmp_path: Path) -> None:
    _, client = made(tmp_path, {})
    may = context_of(client, policy(Level.MAY))
    assert context_of(client, policy(Level.ENCRYPT)) is may
    assert context_of(client, policy(Level.PIN)) is may
    assert context_of(client, policy(Level.ENCRYPT, min_version="TLSv1.3")) is not may
    assert context_of(client, policy(Level.ENCRYPT, ciphers="HIGH")) is not may
    pinned = context_of(client, policy(Level.PIN, pins=PinSet(anchors=(authority().cert,))))
    assert pinned is not may
    assert context_of(client, policy(Level.PIN, pins=PinSet(anchors=(authority().cert,)))) is pinned
    assert context_of(client, policy(Level.VERIFY, anchors=(authority().cert,))) is pinned
    assert context_of(client, policy(Level.PIN, pins=PinSet(anchors=(authority("another").cert,)))) is not pinned
    assert context_of(client, policy(Level.VERIFY)) is not may


def test_a_name_is_sent_only_if_there_is_one(tmp_path: Path) -> None:
    _, client = made(tmp_path, {})
    assert client.creator(policy(Level.MAY), "mx.example").connection(client=True).get_servername() == b"mx.example"
    assert client.creator(policy(Level.MAY), "").connection(client=True).get_servername() is None


def test_policy_lines_with_groups_that_openssl_does_not_know(tmp_path: Path) -> None:
    settings = compiled(tmp_path, {"tlspolicy": "a.example encrypt groups=X25519\n"})
    make_snapshot(settings)
    line = settings.tls.lines["a.example"]
    bad = replace(line, policy=replace(line.policy, groups="x25519:nonsense"))
    with pytest.raises(ContextError, match="groups"):
        make_snapshot(replace(settings, tls=replace(settings.tls, lines={"a.example": bad})))


def agreed(context: SSL.Context, peer: SSL.Context) -> tuple[str, str]:
    """Version and group of a handshake in memory."""
    ours = SSL.Connection(context, None)
    ours.set_connect_state()
    agreed_by(ours, peer)
    return ours.get_protocol_version_name(), ours.get_group_name() or ""


def agreed_by(ours: SSL.Connection, peer: SSL.Context) -> None:
    theirs = SSL.Connection(peer, None)
    theirs.set_accept_state()
    for _ in range(5):
        for one, other in ((ours, theirs), (theirs, ours)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(100_000))
            except SSL.WantReadError:
                pass


@pytest.mark.parametrize(
    ("more", "version", "group"),
    [
        ({}, "TLSv1.3", "X25519MLKEM768"),
        ({"groups": "x25519:secp256r1"}, "TLSv1.3", "x25519"),
        ({"groups": "secp384r1"}, "TLSv1.3", "secp384r1"),
        ({"max_version": "TLSv1.2"}, "TLSv1.2", "x25519"),
    ],
)
def test_what_is_agreed_on(tmp_path: Path, more: dict[str, object], version: str, group: str) -> None:
    """Hybrid groups come first without being asked for."""
    _, client = made(tmp_path, {})
    context = context_of(client, policy(Level.ENCRYPT, **more))
    assert agreed(context, certs.context(certs.server("mx.example"))) == (version, group)


def test_ciphers_that_are_excluded(tmp_path: Path) -> None:
    _, client = made(tmp_path, {})
    conn = client.creator(policy(Level.ENCRYPT, ciphers="HIGH", exclude=":!CHACHA20"), "").connection(client=True)
    names = [name for name in conn.get_cipher_list() if not name.startswith("TLS_")]
    assert names and not any("CHACHA20" in name for name in names)


def test_each_next_hop_may_see_another_certificate(tmp_path: Path) -> None:
    """Contexts are by what they show; `none` shows nothing although there is a clientcert.pem."""
    general, special = authority().leaf("general"), authority().leaf("special")
    files: Files = {
        "clientcert.pem": general.bundle,
        "clientcerts/a.example.pem": special.bundle,
        "clientcerts/b.example.pem": "none\n",
    }
    _, client = made(tmp_path, files)

    def shown(identity: str) -> object:
        what = policy(Level.MAY, identity=identity)
        seen: list[object] = []

        def see(conn: SSL.Connection, cert: X509, *_: int) -> bool:
            seen.append(cert.to_cryptography())
            return True

        peer = certs.context(certs.server("mx.example"))
        peer.set_verify(SSL.VERIFY_PEER, see)
        agreed(context_of(client, what), peer)
        assert client.shows_certificate(what) is bool(seen)
        return seen[0] if seen else None

    assert [shown(name) for name in ("", "a.example", "b.example")] == [general.cert, special.cert, None]


def test_a_certificate_for_one_next_hop_that_openssl_does_not_take(tmp_path: Path) -> None:
    settings = compiled(tmp_path, {"clientcerts/a.example.pem": authority().leaf("x").bundle})
    good = settings.client_credentials["a.example"]
    assert good is not None
    wrong = replace(good, chain=(certs.server("other.example").cert,))
    with pytest.raises(ContextError, match=r"clientcerts/a\.example\.pem"):
        ClientTls(replace(settings, client_credentials={"a.example": wrong}))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_systems_authorities_are_those_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    place = tmp_path / "authorities"
    if variable == "SSL_CERT_FILE":
        place.write_bytes(authority().pem)
    else:
        place.mkdir()
        name = X509.from_cryptography(authority().cert).subject_name_hash()
        (place / f"{name:08x}.0").write_bytes(authority().pem)
    monkeypatch.setenv(variable, str(place))
    _, client = made(tmp_path / "control", {})
    leaf = certs.server("mx.example")
    creator = client.creator(policy(Level.STS, names=("mx.example",)), "mx.example")
    ours = creator.connection(client=True)
    agreed_by(ours, certs.context(leaf))
    assert creator.recorder.ran and not creator.recorder.errors
