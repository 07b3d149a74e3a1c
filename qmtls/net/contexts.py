"""OpenSSL contexts made from Settings: what all have in common, and one for each kind of outbound demand.

Contexts never change after they are made (pyOpenSSL refuses it): a reload makes new ones. There are no tickets and no
session cache, because a resumed session skips the verify callback.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, _util
from OpenSSL.crypto import X509, X509Store, X509StoreFlags

from qmtls.control.settings import Credential, Settings
from qmtls.net.handshake import Creator, record_verification
from qmtls.tls.policy import Level, Policy, PolicyRules

OPTIONS = SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION
# SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL does not name: what is shown is what our file holds. Else OpenSSL builds a
# chain from the trusted CAs at each handshake: a sixth of its time, for a root that tells the peer nothing.
NO_AUTO_CHAIN = 0x8
VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class ContextError(Exception):
    """OpenSSL refuses what the control directory says; the text names the file."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a client's context depends on. `anchors` are digests, None = the system's authorities."""

    anchors: tuple[bytes, ...] | None = ()
    min_version: str = ""
    max_version: str = ""
    ciphers: str = ""
    exclude: str = ""
    groups: str = ""
    identity: str = ""


class ClientTls:
    """The client's side: contexts by what they depend on, made when first needed and kept."""

    def __init__(self, settings: Settings) -> None:
        self._credential = settings.client_credential
        self._named = settings.client_credentials
        self._ciphers = settings.client_ciphers
        self._contexts: dict[_Kind, SSL.Context] = {}
        rules: PolicyRules = settings.tls
        # So that a bad credential, cipher list or group is found now. Trust stores are what takes time, and they are
        # made when they are needed.
        kinds = {_kind(policy, ()) for policy in (rules.default, *(line.policy for line in rules.lines.values()))}
        for kind in sorted({_Kind(), *kinds, *(_Kind(identity=name) for name in self._named)}, key=repr):
            self._context(kind, ())

    def creator(self, policy: Policy, server_name: str) -> Creator:
        """For one handshake towards `server_name` ("" for an IP address: then no SNI is sent)."""
        anchors = _anchors(policy if policy.wish is None else policy.wish)
        names = None if anchors is None else tuple(sha256(a.public_bytes(Encoding.DER)).digest() for a in anchors)
        context = self._context(_kind(policy, names), anchors)
        return Creator(context, ask=True, server_name=policy.server_name or server_name)

    def shows_certificate(self, policy: Policy) -> bool:
        """True if a certificate of ours is offered under `policy`."""
        return self._shown(policy.identity) is not None

    def _shown(self, identity: str) -> Credential | None:
        return self._named.get(identity, self._credential)

    def _context(self, kind: _Kind, anchors: tuple[x509.Certificate, ...] | None) -> SSL.Context:
        found = self._contexts.get(kind)
        if found is None:
            found = self._contexts[kind] = self._make(kind, anchors)
        return found

    def _make(self, kind: _Kind, anchors: tuple[x509.Certificate, ...] | None) -> SSL.Context:
        context = base_context(SSL.TLS_CLIENT_METHOD, kind.min_version)
        if kind.max_version:
            context.set_max_proto_version(VERSIONS[kind.max_version])
        ciphers = (kind.ciphers or self._ciphers) + kind.exclude
        set_ciphers(context, ciphers, "control/tlsclientciphers or control/tlspolicy")
        if kind.groups:
            set_groups(context, kind.groups, "control/tlspolicy")
        if anchors is None:
            context.set_default_verify_paths()  # honours SSL_CERT_FILE and SSL_CERT_DIR
        else:
            store = store_of(context)
            for anchor in anchors:
                store.add_cert(X509.from_cryptography(anchor))
            # An anchor need not be self-signed: an intermediate CA in a pin file is trusted as it stands.
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
        credential = self._shown(kind.identity)
        if credential is not None:
            use_credential(context, credential)
        return context


def _anchors(policy: Policy) -> tuple[x509.Certificate, ...] | None:
    match policy.level:
        case Level.VERIFY | Level.SECURE | Level.STS:
            return policy.anchors
        case Level.PIN:
            return policy.pins.anchors
        case _:
            return ()  # nobody asks whether the chain is good, or DANE asks in its own way


def _kind(policy: Policy, anchors: tuple[bytes, ...] | None) -> _Kind:
    return _Kind(
        anchors,
        policy.min_version,
        policy.max_version,
        policy.ciphers,
        policy.exclude,
        policy.groups,
        policy.identity,
    )


def base_context(method: int, minimum: str = "") -> SSL.Context:
    """What holds for both sides. `minimum` is a version of VERSIONS."""
    context = SSL.Context(method)
    context.set_min_proto_version(VERSIONS.get(minimum, SSL.TLS1_2_VERSION))
    context.set_options(OPTIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | NO_AUTO_CHAIN)  # 35 instead of 58 KiB for an idle session
    record_verification(context)
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


def set_groups(context: SSL.Context, groups: str, file: str) -> None:
    """`groups` as OpenSSL writes such lists. pyOpenSSL has no call of its own for it, only its binding."""
    call: Any = getattr(_util.lib, "SSL_CTX_set1_curves_list", None)
    if call is None:
        raise ContextError(f"{file}: groups= needs another version of cryptography: this one cannot set them")
    if call(context._context, groups.encode("ascii")) != 1:
        while _util.lib.ERR_get_error():  # or the next call would be taken for the one that failed
            pass
        raise ContextError(f"{file}: OpenSSL knows no such groups: {groups!r}")
