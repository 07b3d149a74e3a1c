"""OpenSSL contexts made from Settings: what all have in common, and one for each kind of outbound demand.

Contexts never change after they are made (pyOpenSSL refuses it): a reload makes new ones. There are no tickets and no
session cache, because a resumed session skips the verify callback.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store, X509StoreFlags

from qmtls.control.settings import Credential, Settings
from qmtls.net.handshake import Creator
from qmtls.tls.policy import Level, Policy, PolicyRules

OPTIONS = SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION
# SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL does not name: what is shown is what our file holds. Else OpenSSL builds a
# chain from the trusted CAs at each handshake: a sixth of its time, for a root that tells the peer nothing.
NO_AUTO_CHAIN = 0x8
VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class ContextError(Exception):
    """OpenSSL refuses what the control directory says; the text names the file."""


class ClientTls:
    """The client's side: contexts by what they depend on, made when first needed and kept."""

    def __init__(self, settings: Settings) -> None:
        self._credential = settings.client_credential
        self._ciphers = settings.client_ciphers
        self._contexts: dict[tuple[object, ...], SSL.Context] = {}
        self._context((), "", "")  # so that a bad credential or cipher list is found now
        rules: PolicyRules = settings.tls
        for line in rules.lines.values():
            if line.policy.ciphers:
                self.creator(line.policy, "")

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
        context = base_context(SSL.TLS_CLIENT_METHOD, minimum)
        set_ciphers(context, ciphers, "control/tlsclientciphers or control/tlspolicy")
        if anchors is None:
            context.set_default_verify_paths()
        else:
            store = store_of(context)
            for anchor in anchors:
                store.add_cert(X509.from_cryptography(anchor))
            # An anchor need not be self-signed: an intermediate CA in a pin file is trusted as it stands.
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
        if self._credential is not None:
            use_credential(context, self._credential)
        return context


def base_context(method: int, minimum: str = "") -> SSL.Context:
    """What holds for both sides. `minimum` is a version of VERSIONS."""
    context = SSL.Context(method)
    context.set_min_proto_version(VERSIONS.get(minimum, SSL.TLS1_2_VERSION))
    context.set_options(OPTIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | NO_AUTO_CHAIN)  # 35 instead of 58 KiB for an idle session
    return context


def store_of(context: SSL.Context) -> X509Store:
    """What its chains are verified against."""
    store = context.get_cert_store()
    assert store is not None
    return store


def use_credential(context: SSL.Context, credential: Credential) -> None:
    """Key and chain to show. Raises ContextError."""
    try:
        context.use_certificate(credential.chain[0])
        for extra in credential.chain[1:]:
            context.add_extra_chain_cert(extra)
        context.use_privatekey(credential.key)  # type: ignore[arg-type]
        context.check_privatekey()
    except (SSL.Error, TypeError, ValueError) as problem:
        raise ContextError(f"{credential.origin}: OpenSSL cannot use this key and certificate ({problem})") from problem


def set_ciphers(context: SSL.Context, ciphers: str, file: str) -> None:
    """`ciphers` as OpenSSL writes such lists, "" = its default; `file` is named in the ContextError."""
    if not ciphers:
        return
    try:
        context.set_cipher_list(ciphers.encode("ascii"))
    except (SSL.Error, UnicodeEncodeError) as problem:
        raise ContextError(f"{file}: OpenSSL knows no such cipher list: {ciphers!r}") from problem
