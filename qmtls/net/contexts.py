"""OpenSSL contexts made from Settings: one for the server, one for each kind of outbound demand.

Contexts never change after they are made (pyOpenSSL refuses it): a reload makes new ones. Inbound there are no tickets
and no session cache, because a resumed session skips the verify callback and an identity must never come from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store, X509StoreFlags

from qmtls.control.settings import ClientTrust, Credential, Settings
from qmtls.net.handshake import Creator
from qmtls.tls.policy import Level, Policy, PolicyRules

VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class ContextError(Exception):
    """OpenSSL refuses what the control directory says; the text names the file."""


class ServerTls:
    """The server's side of TLS for one snapshot of Settings."""

    def __init__(self, settings: Settings) -> None:
        self.trust = settings.client_trust
        # A certificate is asked for whenever a rule could make use of one.
        self.ask = self.trust is not None or settings.access.any_by_key
        self._context: SSL.Context | None = None
        if settings.server_credential is not None:
            self._context = _server_context(settings, settings.server_credential)

    @property
    def available(self) -> bool:
        return self._context is not None

    def creator(self) -> Creator:
        """For one handshake; only when `available`."""
        assert self._context is not None
        return Creator(self._context, ask=self.ask)

    @property
    def crls(self) -> Sequence[x509.CertificateRevocationList]:
        return (self.trust.crls or ()) if self.trust else ()


class ClientTls:
    """The client's side: contexts by what they depend on, made when first needed and kept."""

    def __init__(self, settings: Settings) -> None:
        self._credential = settings.client_credential
        self._ciphers = settings.client_ciphers
        self._contexts: dict[tuple[object, ...], SSL.Context] = {}
        self._context((), "", "")  # so that a bad credential or cipher list is found now

    def creator(self, policy: Policy, server_name: str) -> Creator:
        """For one handshake towards `server_name` ("" for an IP address: then no SNI is sent)."""
        match policy.level:
            case Level.VERIFY | Level.SECURE:
                anchors = policy.anchors
            case Level.PIN:
                anchors = policy.pins.anchors
            case _:
                anchors = ()  # nobody asks whether the chain is good
        context = self._context(anchors, policy.min_version, policy.ciphers)
        return Creator(context, ask=True, server_name=server_name)

    def _context(self, anchors: tuple[x509.Certificate, ...] | None, minimum: str, ciphers: str) -> SSL.Context:
        names = None if anchors is None else tuple(sha256(a.public_bytes(Encoding.DER)).digest() for a in anchors)
        key = (names, minimum, ciphers)
        found = self._contexts.get(key)
        if found is None:
            found = self._contexts[key] = self._make(anchors, minimum, ciphers or self._ciphers)
        return found

    def _make(self, anchors: tuple[x509.Certificate, ...] | None, minimum: str, ciphers: str) -> SSL.Context:
        context = _base_context(SSL.TLS_CLIENT_METHOD, minimum)
        _set_ciphers(context, ciphers, "control/tlsclientciphers or control/tlspolicy")
        if anchors is None:
            context.set_default_verify_paths()
        else:
            store = _store(context)
            for anchor in anchors:
                store.add_cert(X509.from_cryptography(anchor))
            # An anchor need not be self-signed: an intermediate CA in a pin file is trusted as it stands.
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
        if self._credential is not None:
            _use(context, self._credential)
        return context


def check_contexts(settings: Settings) -> tuple[ServerTls, ClientTls]:
    """Both sides, made at once so that a start or reload fails as a whole. Raises ContextError."""
    client = ClientTls(settings)
    rules: PolicyRules = settings.tls
    for line in rules.lines.values():
        if line.policy.ciphers:
            client.creator(line.policy, "")
    return ServerTls(settings), client


def _base_context(method: int, minimum: str = "") -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(VERSIONS.get(minimum, SSL.TLS1_2_VERSION))
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 35 instead of 58 KiB for an idle session
    return context


def _server_context(settings: Settings, credential: Credential) -> SSL.Context:
    context = _base_context(SSL.TLS_SERVER_METHOD)
    # Clients that try to resume fail the handshake without it, although nothing is ever resumed.
    context.set_session_id(b"qmtls")
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    _set_ciphers(context, settings.server_ciphers, "control/tlsserverciphers")
    _use(context, credential)
    trust = settings.client_trust
    if trust is not None:
        _trust(context, trust, announce=not settings.access.any_by_key)
    return context


def _trust(context: SSL.Context, trust: ClientTrust, announce: bool) -> None:
    store = _store(context)
    for authority in trust.authorities:
        store.add_cert(X509.from_cryptography(authority))
        # With a list of CA names some clients offer only what chains to them; a key rule wants what they have.
        if announce:
            context.add_client_ca(authority)
    if trust.crls is not None:
        for crl in trust.crls:
            store.add_crl(crl)
        store.set_flags(X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL)


def _store(context: SSL.Context) -> X509Store:
    store = context.get_cert_store()
    assert store is not None
    return store


def _use(context: SSL.Context, credential: Credential) -> None:
    try:
        context.use_certificate(credential.chain[0])
        for extra in credential.chain[1:]:
            context.add_extra_chain_cert(extra)
        context.use_privatekey(credential.key)  # type: ignore[arg-type]
        context.check_privatekey()
    except (SSL.Error, TypeError, ValueError) as problem:
        raise ContextError(f"{credential.origin}: OpenSSL cannot use this key and certificate ({problem})") from problem


def _set_ciphers(context: SSL.Context, ciphers: str, file: str) -> None:
    if not ciphers:
        return
    try:
        context.set_cipher_list(ciphers.encode("ascii"))
    except (SSL.Error, UnicodeEncodeError) as problem:
        raise ContextError(f"{file}: OpenSSL knows no such cipher list: {ciphers!r}") from problem
