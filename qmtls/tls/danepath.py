"""From a peer's certificate up to a trust anchor that DNS names: the path of DANE's usage 2 (RFC 7671 section 5.2).

The peer sends the chain; the anchor is one of its CAs, or stands in the record itself, as a certificate or as a bare
key. Each step is a signature that verifies, by a CA that may sign, within its dates and length; what a path demands is
RFC 5280 section 6.1 as far as it concerns a server. An anchor need not be self-signed, and counts wherever it stands
in the chain; the peer's own certificate is never its own anchor.

The chain is the peer's word, in any order and with anything in it: how much of it is looked at is bounded. No error of
a parser escapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

MAX_CERTIFICATES = 20  # of the peer's chain, and of the records, that are looked at
MAX_DEPTH = 10  # certificates in a path; public ones have three or four
MAX_SIGNATURES = 50  # verified for one path: CAs of equal names could make a tree of them
MIN_RSA_BITS = 2048  # as OpenSSL's security level 2

E = TypeVar("E", bound=x509.ExtensionType)

_WEAK_DIGESTS = (hashes.MD5, hashes.SHA1)
_SERVER_USES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
# Critical extensions that are either honoured here or say nothing that a server's certificate is judged by.
_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
    x509.CertificatePolicies,
    x509.PolicyConstraints,
    x509.InhibitAnyPolicy,
)


class _NoPath(Exception):
    """This way up does not lead to an anchor; str() is the words."""


class Anchors:
    """What a path may end at: CAs of the chain that `matches` knows, and what the records hold in full, as DER.

    What of that cannot be read is passed over: `matches` still knows it when it stands in the chain.
    """

    def __init__(
        self,
        matches: Callable[[x509.Certificate], bool],
        certificates: Sequence[bytes] = (),
        keys: Sequence[bytes] = (),
    ) -> None:
        self.matches = matches
        self.certificates = tuple(_readable(x509.load_der_x509_certificate, certificates[:MAX_CERTIFICATES]))
        self.keys = tuple(_readable(load_der_public_key, keys[:MAX_CERTIFICATES]))


def find_path(leaf: x509.Certificate, chain: Sequence[x509.Certificate], anchors: Anchors, now: datetime) -> str:
    """ "" if a good path leads from `leaf` to an anchor, else why not: of several ways up the one that got furthest."""
    return _Search(chain, anchors, now).run(leaf)


class _Search:
    """Depth first, from the leaf up."""

    def __init__(self, chain: Sequence[x509.Certificate], anchors: Anchors, now: datetime) -> None:
        self._candidates = (*anchors.certificates, *chain[:MAX_CERTIFICATES])
        self._anchors = anchors
        self._now = now
        self._signatures = 0
        self._furthest = (0, "no CA of a record issued it")

    def run(self, leaf: x509.Certificate) -> str:
        try:
            self._check_leaf(leaf)
            if self._climb([leaf]):
                return ""
        except _NoPath as problem:
            return str(problem)
        except Exception:  # the parser's errors are many, and have no base of their own
            return "its chain cannot be read"
        return self._furthest[1]

    def _climb(self, path: list[x509.Certificate]) -> bool:
        if any(self._is_signed_with(key, path[-1]) for key in self._anchors.keys):
            return True
        if len(path) >= MAX_DEPTH:
            self._note(path, "its chain is too long")
            return False
        for issuer in self._candidates:
            if issuer in path or issuer.subject != path[-1].issuer or not self._is_issued_by(path[-1], issuer):
                continue
            try:
                self._check_ca(issuer, path)
            except _NoPath as problem:
                self._note(path, str(problem))
                continue
            if self._anchors.matches(issuer) or self._climb([*path, issuer]):
                return True
        return False

    def _note(self, path: list[x509.Certificate], words: str) -> None:
        if len(path) > self._furthest[0]:
            self._furthest = (len(path), words)

    def _spend(self) -> None:
        self._signatures += 1
        if self._signatures > MAX_SIGNATURES:
            raise _NoPath("its chain has too many ways up")

    def _is_issued_by(self, cert: x509.Certificate, issuer: x509.Certificate) -> bool:
        self._spend()
        try:
            cert.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def _is_signed_with(self, key: object, cert: x509.Certificate) -> bool:
        self._spend()
        return is_signed_with(key, cert)

    def _check_leaf(self, leaf: x509.Certificate) -> None:
        self._check_dates(leaf, "it")
        _check_strength(leaf, "it")
        _check_uses(leaf, "it")
        _check_critical(leaf, "it")

    def _check_ca(self, ca: x509.Certificate, below: list[x509.Certificate]) -> None:
        """May this CA have issued the last certificate of `below`? (RFC 5280 section 6.1.4)"""
        self._check_dates(ca, "a CA of its chain")
        constraints = _extension(ca, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            raise _NoPath("its issuer is no CA")
        # Self-issued CAs between do not count.
        between = sum(cert.subject != cert.issuer for cert in below[1:])
        if constraints.path_length is not None and between > constraints.path_length:
            raise _NoPath("its chain is longer than a CA of it permits")
        usage = _extension(ca, x509.KeyUsage)
        if usage is not None and not usage.key_cert_sign:
            raise _NoPath("its issuer may not sign certificates")
        _check_strength(ca, "a CA of its chain", signature=not self._anchors.matches(ca))
        _check_uses(ca, "a CA of its chain")
        _check_critical(ca, "a CA of its chain")
        _check_name_constraints(ca, below[0])

    def _check_dates(self, cert: x509.Certificate, what: str) -> None:
        if self._now > cert.not_valid_after_utc:
            raise _NoPath(f"{what} has expired")
        if self._now < cert.not_valid_before_utc:
            raise _NoPath(f"{what} is not yet valid")


def is_signed_with(key: object, cert: x509.Certificate) -> bool:
    """True if the signature of `cert` verifies with this public key."""
    signature, signed, parameters = cert.signature, cert.tbs_certificate_bytes, cert.signature_algorithm_parameters
    try:
        match key:
            case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
                assert cert.signature_hash_algorithm is not None
                key.verify(
                    signature, signed, cast(padding.AsymmetricPadding, parameters), cert.signature_hash_algorithm
                )
            case ec.EllipticCurvePublicKey():
                key.verify(signature, signed, cast(ec.ECDSA, parameters))
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _check_strength(cert: x509.Certificate, what: str, *, signature: bool = True) -> None:
    """An anchor's own signature proves nothing, so nobody asks how strong it is."""
    key = cert.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise _NoPath(f"{what} has a key that is too weak")
    if signature and isinstance(cert.signature_hash_algorithm, _WEAK_DIGESTS):
        raise _NoPath(f"{what} has a signature digest that is too weak")


def _check_uses(cert: x509.Certificate, what: str) -> None:
    uses = _extension(cert, x509.ExtendedKeyUsage)
    if uses is not None and _SERVER_USES.isdisjoint(uses):
        raise _NoPath(f"{what} is not meant for servers")


def _check_critical(cert: x509.Certificate, what: str) -> None:
    if any(ext.critical and not isinstance(ext.value, _UNDERSTOOD) for ext in cert.extensions):
        raise _NoPath(f"{what} has a critical extension that is unknown here")


def _check_name_constraints(ca: x509.Certificate, leaf: x509.Certificate) -> None:
    """Only dNSNames are ever compared with a name, so only their constraints matter (RFC 5280 section 4.2.1.10)."""
    constraints = _extension(ca, x509.NameConstraints)
    names = _extension(leaf, x509.SubjectAlternativeName)
    if constraints is None or names is None:
        return
    permitted = [tree.value for tree in constraints.permitted_subtrees or () if isinstance(tree, x509.DNSName)]
    excluded = [tree.value for tree in constraints.excluded_subtrees or () if isinstance(tree, x509.DNSName)]
    for name in names.get_values_for_type(x509.DNSName):
        # "*.example.org" also stands for an excluded name below example.org.
        if any(_is_within(name, tree) or (name.startswith("*.") and _is_within(tree, name)) for tree in excluded) or (
            permitted and not any(_is_within(name, tree) for tree in permitted)
        ):
            raise _NoPath("a CA of its chain may not issue for its names")


def _is_within(name: str, tree: str) -> bool:
    """`tree` "example.org" is that name and all below; "" is every name. A leading dot is only seen in the wild."""
    name, tree = name.lower().removeprefix("*."), tree.lower().removeprefix("*.").removeprefix(".")
    return not tree or name == tree or name.endswith(f".{tree}")


def _extension(cert: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return cert.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _readable(load: Callable[[bytes], Any], items: Sequence[bytes]) -> Iterator[Any]:
    for item in items:
        try:
            yield load(item)
        except Exception:  # the parser's errors are many, and have no base of their own
            continue
