"""The server's side of TLS: one OpenSSL context for each certificate, and which of them a client is shown.

A client that asks for a name (SNI) gets the certificate of that name, of the wildcard above it, or the default. OpenSSL
takes certificate, trust and the names of CAs from the new context, but neither verify mode nor options: these are set
on the connection each time. A name never fails a handshake: whatever is not ours is shown the default.

No tickets and no session cache: a resumed session skips the verify callback, and an identity must never come from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store, X509StoreFlags

from qmtls.control.settings import ClientTrust, Credential, Settings
from qmtls.net.contexts import OPTIONS, base_context, set_ciphers, store_of, use_credential
from qmtls.net.handshake import Creator

_OPTIONS = OPTIONS | SSL.OP_CIPHER_SERVER_PREFERENCE
MAX_NAME = 255  # octets of a name worth looking up (RFC 1035 section 2.3.4)


class ServerTls:
    """The server's side of TLS for one snapshot of Settings."""

    def __init__(self, settings: Settings) -> None:
        self.trust = settings.client_trust
        # A certificate is asked for whenever a rule could make use of one.
        self.ask = self.trust is not None or settings.access.any_by_key
        self._default: SSL.Context | None = None
        self._store: X509Store | None = None
        if settings.server_credential is None:
            return
        self._default = _server_context(settings, settings.server_credential)
        named = {name: _server_context(settings, one) for name, one in settings.named_credentials.items()}
        if named:
            self._default.set_tlsext_servername_callback(_chooser(named))

    @property
    def available(self) -> bool:
        """There is a certificate: STARTTLS can be offered."""
        return self._default is not None

    def creator(self) -> Creator:
        """For one handshake; only when `available`."""
        assert self._default is not None
        return Creator(self._default, ask=self.ask)

    @property
    def crls(self) -> Sequence[x509.CertificateRevocationList]:
        """The revocation lists for client certificates."""
        return (self.trust.crls or ()) if self.trust else ()

    @property
    def store(self) -> X509Store | None:
        """What chains are verified against; None without `clientca.pem`."""
        if self._store is None and self.trust is not None:
            self._store = X509Store()
            _fill(self._store, self.trust)
        return self._store


def _chooser(named: Mapping[str, SSL.Context]) -> Callable[[SSL.Connection], None]:
    """What OpenSSL calls with each client's hello. An exception here would end the handshake."""

    def choose(connection: SSL.Connection) -> None:
        context = find_context(named, connection.get_servername())
        if context is not None:
            connection.set_context(context)
            connection.set_options(_OPTIONS)
            connection.get_app_data().demand(connection)

    return choose


def find_context(named: Mapping[str, SSL.Context], asked: bytes | None) -> SSL.Context | None:
    """By the whole name, else by what follows its first label; None = the default."""
    if not asked or len(asked) > MAX_NAME:
        return None
    name = asked.decode("ascii", "replace").lower().removesuffix(".")
    label, dot, parent = name.partition(".")
    if not label:  # the dot in front is ours
        return None
    return named.get(name) or named.get(dot + parent)


def _server_context(settings: Settings, credential: Credential) -> SSL.Context:
    context = base_context(SSL.TLS_SERVER_METHOD)
    context.set_options(_OPTIONS)
    # Clients that try to resume fail the handshake without it, although nothing is ever resumed.
    context.set_session_id(b"qmtls")
    set_ciphers(context, settings.server_ciphers, "control/tlsserverciphers")
    use_credential(context, credential)
    trust = settings.client_trust
    if trust is not None:
        _fill(store_of(context), trust)
        # With a list of CA names some clients offer only what chains to them; a key rule wants what they have.
        if not settings.access.any_by_key:
            for authority in trust.authorities:
                context.add_client_ca(authority)
    return context


def _fill(store: X509Store, trust: ClientTrust) -> None:
    for authority in trust.authorities:
        store.add_cert(X509.from_cryptography(authority))
    if trust.crls is not None:
        for crl in trust.crls:
            store.add_crl(crl)
        store.set_flags(X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL)
