"""What the verifier of a chain complained about, in words: one table of codes for both directions.

The words go to peers, into reports and the log, so they are printable ASCII and never a library's own text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from qmtls.tls.facts import ChainError

REVOKED = 23  # X509_V_ERR_CERT_REVOKED
NO_LIST = 3  # X509_V_ERR_UNABLE_TO_GET_CRL
LIST_ENDED = 12  # X509_V_ERR_CRL_HAS_EXPIRED

# OpenSSL's X509_V_ERR codes, most telling first; of several complaints the first in this order is shown.
VERIFY_WORDS = {
    REVOKED: "revoked",
    2: "unknown issuer",
    20: "unknown issuer",
    21: "unknown issuer",
    18: "self-signed",
    19: "self-signed CA that is not trusted",
    10: "expired",
    9: "not yet valid",
    NO_LIST: "no revocation list of its CA",
    LIST_ENDED: "the revocation list of its CA has expired",
    11: "the revocation list of its CA is not yet valid",
    24: "its issuer is no CA",
    79: "its issuer is no CA",
    25: "the chain is longer than a CA of it permits",
    26: "not meant for this use",
    66: "its key is too weak",
    67: "the key of a CA is too weak",
    68: "its signature digest is too weak",
    7: "bad signature",
    8: "the revocation list of its CA has a bad signature",
}
# Complaints about the list of one CA, which is worth naming; `{}` is that CA.
_WORDS_WITH_ISSUER = {
    NO_LIST: "no revocation list of {}",
    LIST_ENDED: "the revocation list of {} has expired",
    11: "the revocation list of {} is not yet valid",
    8: "the revocation list of {} has a bad signature",
}
# These words say themselves that it is not the certificate of the peer.
_ABOUT_CAS = frozenset({24, 25, 67, 79})
# By code, so that a CA may be named for them: whoever records complaints need not look at others' certificates.
ABOUT_LISTS = frozenset(_WORDS_WITH_ISSUER)

_RANK = {code: rank for rank, code in enumerate(VERIFY_WORDS)}
_ODD = re.compile(r"[^ -~]")


def worst_words(errors: Iterable[ChainError]) -> str:
    """The most telling of the complaints, in words; at least one must be there."""
    return verify_words(min(errors, key=lambda error: _RANK.get(error.code, len(_RANK))))


def verify_words(error: ChainError) -> str:
    """One complaint in words of printable ASCII."""
    if error.issuer and error.code in _WORDS_WITH_ISSUER:
        return _WORDS_WITH_ISSUER[error.code].format(_ODD.sub("?", error.issuer))
    words = VERIFY_WORDS.get(error.code) or _ODD.sub("?", error.text) or f"verify error {error.code}"
    return words if error.depth <= 0 or error.code in _ABOUT_CAS else f"{words}, at a CA above it"
