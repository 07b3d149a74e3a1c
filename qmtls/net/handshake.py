"""One TLS connection: the verifier's complaints recorded instead of failing, then everything reduced to facts.

The verify callback always lets the handshake go on; what it saw is kept per connection, because afterwards the
library can no longer say it (a callback that returns True resets the result). No callback = not verified.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509

from qmtls.tls.facts import ChainError, TlsFacts

REVOKED = 23  # X509_V_ERR_CERT_REVOKED

# The texts of OpenSSL's verifier in words for people; any other code is shown by its number.
VERIFY_TEXTS = {
    2: "unknown issuer",
    3: "no revocation list for its CA",
    9: "not yet valid",
    10: "expired",
    12: "the revocation list of its CA has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in the chain",
    20: "unknown issuer",
    21: "unknown issuer",
    23: "revoked",
    24: "issuer is not a CA",
    26: "not meant for this use (extended key usage)",
    66: "its key is too weak",
    67: "the key of its CA is too weak",
    68: "its signature digest is too weak",
}


class Recorder:
    """The verify callback of one connection, and what it was told."""

    __slots__ = ("errors", "ran")

    def __init__(self) -> None:
        self.ran = False
        self.errors: list[ChainError] = []

    def __call__(self, conn: SSL.Connection, cert: X509, code: int, depth: int, ok: int) -> bool:
        self.ran = True
        if not ok:
            self.errors.append(ChainError(code, depth, VERIFY_TEXTS.get(code, f"verify error {code}")))
        return True


class Creator:
    """Makes the one OpenSSL connection of one handshake, in either role, with its own recorder."""

    def __init__(self, context: SSL.Context, *, ask: bool, server_name: str = "") -> None:
        self._context = context
        self._ask = ask
        self._server_name = server_name
        self.recorder = Recorder()

    def connection(self, *, client: bool) -> SSL.Connection:
        """A new connection over memory, not yet begun."""
        conn = SSL.Connection(self._context, None)
        if self._ask:
            conn.set_verify(SSL.VERIFY_PEER, self.recorder)
        else:
            conn.set_verify(SSL.VERIFY_NONE)
        if client:
            conn.set_connect_state()
            if self._server_name:
                conn.set_tlsext_host_name(self._server_name.encode("ascii"))
        else:
            conn.set_accept_state()
        return conn


def facts_of(
    conn: SSL.Connection,
    recorder: Recorder,
    *,
    client: bool,
    server_name: str = "",
    crls: Iterable[x509.CertificateRevocationList] = (),
) -> TlsFacts:
    """What the finished handshake on `conn` showed. `crls` also decide about leaves whose CA is not in the store."""
    errors = list(recorder.errors)
    leaf, chain = _certificates(conn, client)
    if leaf is not None and not any(e.code == REVOKED for e in errors) and is_revoked(leaf, crls):
        errors.append(ChainError(REVOKED, 0, VERIFY_TEXTS[REVOKED]))
    return TlsFacts(
        version=conn.get_protocol_version_name(),
        cipher=conn.get_cipher_name() or "",
        group=conn.get_group_name() or "",
        leaf=leaf,
        chain=chain,
        errors=tuple(errors),
        verified=leaf is not None and recorder.ran and not errors,
        server_name=server_name,
    )


def _certificates(conn: SSL.Connection, client: bool) -> tuple[x509.Certificate | None, tuple[x509.Certificate, ...]]:
    """The leaf, and the chain as sent. OpenSSL takes certificates that our parser cannot: they are as if not shown."""
    try:
        leaf = conn.get_peer_certificate(as_cryptography=True)
        sent = conn.get_peer_cert_chain(as_cryptography=True) or []
    except Exception:  # the parser's errors are many, and have no base of their own
        return None, ()
    if leaf is None:
        return None, ()
    # A client sees the leaf at the head of the sent chain, a server does not.
    return leaf, tuple(sent) if client else (leaf, *sent)


def is_revoked(leaf: x509.Certificate, crls: Iterable[x509.CertificateRevocationList]) -> bool:
    """True if a list of the leaf's own issuer names its serial number."""
    return any(
        crl.issuer == leaf.issuer and crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None
        for crl in crls
    )
