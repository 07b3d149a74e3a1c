"""OpenSSL contexts from settings: what is refused at the start, and what they agree to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL

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
