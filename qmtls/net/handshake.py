"""One TLS connection: the verifier's complaints recorded instead of failing, then everything reduced to facts.

The verify callback always lets the handshake go on; what it saw is kept per connection, because afterwards the
library can no longer say it (a callback that returns True resets the result). No callback = not verified.
It belongs to the context: one for each connection costs as much as a tenth of what Python does for a handshake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509

from qmtls.tls.complaints import ABOUT_LISTS, REVOKED, VERIFY_WORDS
from qmtls.tls.facts import ChainError, TlsFacts
from qmtls.tls.names import shown_dn


class Recorder:
    """What the verify callback was told about one connection."""

    __slots__ = ("errors", "ran")

    def __init__(self) -> None:
        self.ran = False
        self.errors: list[ChainError] = []

    def heard(self, cert: X509, code: int, depth: int, ok: int) -> None:
        """Of one certificate; `code` is OpenSSL's X509_V_ERR_*."""
        self.ran = True
        if not ok:
            issuer = _issuer(cert) if code in ABOUT_LISTS else ""
            self.errors.append(ChainError(code, depth, VERIFY_WORDS.get(code, f"verify error {code}"), issuer))


def record_verification(context: SSL.Context) -> None:
    """Every connection of a Creator's from now on asks the peer for a certificate, and tells its recorder of it."""
    context.set_verify(SSL.VERIFY_PEER, _verified)


def _verified(conn: SSL.Connection, cert: X509, code: int, depth: int, ok: int) -> bool:
    creator: Creator | None = conn.get_app_data()
    if creator is not None:
        creator.recorder.heard(cert, code, depth, ok)
    return True


class Creator:
    """Makes the one OpenSSL connection of one handshake, in either role, with its own recorder.

    `context` was given to `record_verification`. `ask` False: no certificate is asked for.
    """

    def __init__(self, context: SSL.Context, *, ask: bool, server_name: str = "") -> None:
        self._context = context
        self._ask = ask
        self._server_name = server_name
        self.recorder = Recorder()

    def connection(self, *, client: bool) -> SSL.Connection:
        """A new connection over memory, not yet begun."""
        conn = SSL.Connection(self._context, None)
        conn.set_app_data(self)  # for the verify callback, and for whoever changes its context
        self.demand(conn)
        if client:
            conn.set_connect_state()
            if self._server_name:
                conn.set_tlsext_host_name(self._server_name.encode("ascii"))
        else:
            conn.set_accept_state()
        return conn

    def demand(self, conn: SSL.Connection) -> None:
        """Asks for a certificate, or not. Again after a change of context, which may bring its own mode."""
        if not self._ask:
            conn.set_verify(SSL.VERIFY_NONE)


def facts_of(
    conn: SSL.Connection,
    recorder: Recorder,
    *,
    client: bool,
    server_name: str = "",
    crls: Iterable[x509.CertificateRevocationList] = (),
) -> TlsFacts:
    """What the finished handshake on `conn` showed. `crls` also decide about chains that do not end in the store."""
    errors = list(recorder.errors)
    leaf, chain, unreadable = _certificates(conn, client)
    errors += revocations(chain, errors, crls)
    return TlsFacts(
        version=conn.get_protocol_version_name(),
        cipher=conn.get_cipher_name() or "",
        group=conn.get_group_name() or "",
        leaf=leaf,
        chain=chain,
        errors=tuple(errors),
        verified=leaf is not None and recorder.ran and not errors,
        server_name=server_name,
        unreadable=unreadable,
    )


def _issuer(cert: X509) -> str:
    """Who signed it, for a sentence; "" if that cannot be read."""
    try:
        return shown_dn(cert.to_cryptography().issuer)
    except Exception:  # the parser's errors are many, and have no base of their own
        return ""


def _certificates(
    conn: SSL.Connection, client: bool
) -> tuple[x509.Certificate | None, tuple[x509.Certificate, ...], bool]:
    """The leaf, the chain as sent, and whether there is something that cannot be read: OpenSSL takes certificates that
    our parser does not, and they open nothing."""
    try:
        leaf = conn.get_peer_certificate(as_cryptography=True)
        sent = conn.get_peer_cert_chain(as_cryptography=True) or []
    except Exception:  # the parser's errors are many, and have no base of their own
        return None, (), True
    if leaf is None:
        return None, (), False
    # A client sees the leaf at the head of the sent chain, a server does not.
    return leaf, tuple(sent) if client else (leaf, *sent), False


def revocations(
    chain: Sequence[x509.Certificate],
    errors: Iterable[ChainError],
    crls: Iterable[x509.CertificateRevocationList],
) -> list[ChainError]:
    """Certificates of the chain as sent that a list of their own issuer names; [] if the verifier said so already."""
    if any(error.code == REVOKED for error in errors):
        return []
    lists = tuple(crls)
    return [
        ChainError(REVOKED, depth, VERIFY_WORDS[REVOKED])
        for depth, certificate in enumerate(chain if lists else ())
        if any(
            crl.issuer == certificate.issuer
            and crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            for crl in lists
        )
    ]
