"""Groups of the key agreement: which there are, and which of them are hybrid, so that neither a quantum computer alone
nor a fault in the new part alone breaks them."""

from __future__ import annotations

# By OpenSSL's name in lower case; aliases lead to the name that the handshake shows.
_KNOWN = {
    "x25519mlkem768": "X25519MLKEM768",
    "secp256r1mlkem768": "SecP256r1MLKEM768",
    "secp384r1mlkem1024": "SecP384r1MLKEM1024",
    "x25519": "x25519",
    "x448": "x448",
    "p-256": "secp256r1",
    "prime256v1": "secp256r1",
    "secp256r1": "secp256r1",
    "p-384": "secp384r1",
    "secp384r1": "secp384r1",
    "p-521": "secp521r1",
    "secp521r1": "secp521r1",
    "ffdhe2048": "ffdhe2048",
    "ffdhe3072": "ffdhe3072",
    "ffdhe4096": "ffdhe4096",
}
# draft-ietf-tls-ecdhe-mlkem
HYBRID = frozenset({"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"})

_HYBRID_LOWER = frozenset(name.lower() for name in HYBRID)


def known_group(name: str) -> str:
    """The name as OpenSSL takes it; "" if it is no group that is worth offering."""
    return _KNOWN.get(name.lower(), "")


def is_hybrid(group: str) -> bool:
    """True for a group of the handshake that is a hybrid post-quantum one; "" (unknown) is none."""
    return group.lower() in _HYBRID_LOWER
