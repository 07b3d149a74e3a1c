"""The client of a session that goes on, judged against whom we trust now.

Only what the handshake verified is verified again: against today's CAs, revocation lists and dates. That can take
trust away and give it back, but never to a chain about which the handshake had a complaint, because what it looked at
beyond these (what the keys may be used for, how strong they are) is looked at there only. Such a client connects anew.
"""

from __future__ import annotations

from dataclasses import replace

from OpenSSL.crypto import X509, X509StoreContext, X509StoreContextError

from qmtls.net.handshake import revocations
from qmtls.net.servertls import ServerTls
from qmtls.tls.complaints import VERIFY_WORDS
from qmtls.tls.facts import ChainError, TlsFacts

UNKNOWN_ISSUER = 20  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY


def recheck(facts: TlsFacts, server: ServerTls) -> TlsFacts:
    """The facts as the handshake would show them now. `facts` are those of the handshake, not of an earlier recheck."""
    if facts.leaf is None:
        return facts
    errors = list(facts.errors)
    if facts.verified:
        errors = _verify(facts, server)
    errors += revocations(facts.chain, errors, server.crls)
    return replace(facts, errors=tuple(errors), verified=facts.verified and not errors)


def _verify(facts: TlsFacts, server: ServerTls) -> list[ChainError]:
    """The first complaint, as there is no callback to hear of more; [] = none."""
    assert facts.leaf is not None
    if server.store is None:  # nobody is trusted any more
        return [ChainError(UNKNOWN_ISSUER, 0, VERIFY_WORDS[UNKNOWN_ISSUER])]
    chain = [X509.from_cryptography(certificate) for certificate in facts.chain[1:]]
    try:
        X509StoreContext(server.store, X509.from_cryptography(facts.leaf), chain).verify_certificate()
    except X509StoreContextError as complaint:
        code, depth = complaint.errors[:2]
        return [ChainError(code, depth, VERIFY_WORDS.get(code, f"verify error {code}"))]
    return []
