"""A TLS connection reduced to facts: what the handshake showed, nothing of what it should have shown."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509


@dataclass(frozen=True, slots=True)
class ChainError:
    """One complaint of the verifier: OpenSSL's error `code`, the `depth` it concerns (0 = leaf) and its `text`.

    `issuer` names the CA of the certificate at that depth, where the complaint is about the CA's revocation list.
    """

    code: int
    depth: int
    text: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """`errors` are the complaints recorded in the verify callback of this very handshake against the trust
    store that was used; `verified` is True only if that callback ran and recorded none. A chain is never
    believed because a certificate is present.
    """

    version: str  # "TLSv1.3"
    cipher: str  # "TLS_AES_256_GCM_SHA384"
    group: str  # "X25519MLKEM768", "" if unknown
    leaf: x509.Certificate | None
    chain: tuple[x509.Certificate, ...]  # as the peer sent it, leaf first
    errors: tuple[ChainError, ...]
    verified: bool
    server_name: str = ""  # SNI as sent or received
    unreadable: bool = False  # a certificate was shown, and our parser cannot read it: `leaf` is None

    @property
    def summary(self) -> str:
        """ "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768", for trace field, log and listing."""
        return " ".join(part for part in (self.version, self.cipher, self.group) if part)
