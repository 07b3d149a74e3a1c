from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from qmtls.tls.demand import Level, Origin, Policy
from qmtls.tls.pin import PinSet, pin_set
from qmtls.tls.strength import at_least
from tests.tls.pki import certificate

ORDER = [Level.NONE, Level.MAY, Level.ENCRYPT]
CA, OTHER = (certificate("a", ca=True),), (certificate("b", ca=True),)


def policy(level: Level, **more: object) -> Policy:
    pins = PinSet(keys=frozenset({b"k"})) if level is Level.PIN else PinSet()
    return replace(Policy(level, Origin("f"), names=("a.example",), pins=pins), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", Level)
def test_each_level_is_as_strong_as_itself(level: Level) -> None:
    assert at_least(policy(level), policy(level))


@pytest.mark.parametrize("old", ORDER)
@pytest.mark.parametrize("new", ORDER)
def test_levels_without_a_name(new: Level, old: Level) -> None:
    assert at_least(policy(new), policy(old)) is (ORDER.index(new) >= ORDER.index(old))


@pytest.mark.parametrize("level", [Level.DANE_ONLY, Level.VERIFY, Level.SECURE, Level.STS, Level.PIN])
def test_whoever_is_verified_is_also_encrypted(level: Level) -> None:
    assert at_least(policy(level), policy(Level.ENCRYPT))
    assert not at_least(policy(Level.ENCRYPT), policy(level))


def test_dane_may_end_as_may() -> None:
    assert at_least(policy(Level.DANE), policy(Level.MAY))
    assert not at_least(policy(Level.MAY), policy(Level.DANE))
    assert not at_least(policy(Level.DANE), policy(Level.ENCRYPT))
    assert not at_least(policy(Level.DANE), policy(Level.DANE_ONLY))
    assert at_least(policy(Level.DANE_ONLY), policy(Level.DANE))


@pytest.mark.parametrize("level", [Level.VERIFY, Level.SECURE])
def test_a_default_that_evidence_goes_before_is_weaker_than_a_line(level: Level) -> None:
    """TLSA records or an MTA-STS policy would be met by other names, and by other authorities."""
    assert not at_least(policy(level, discovers=True), policy(level))
    assert at_least(policy(level, discovers=True), policy(Level.ENCRYPT))
    assert at_least(policy(Level.DANE, discovers=True), policy(Level.DANE))


def anchored(*certificates: x509.Certificate, names: tuple[str, ...] = ("a.example",)) -> Policy:
    return policy(Level.PIN, pins=pin_set(certificates), names=names)


def test_pinned_authorities_are_compared_whole() -> None:
    assert at_least(anchored(*CA), anchored(*CA))
    assert at_least(anchored(*CA), anchored(*CA, names=("a.example", ".a.example")))
    assert not at_least(anchored(*CA, *OTHER), anchored(*CA))
    assert not at_least(anchored(*CA), anchored(*OTHER))
    assert not at_least(anchored(*CA, names=("b.example",)), anchored(*CA))


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (policy(Level.VERIFY, names=("b.example",)), policy(Level.VERIFY)),
        (policy(Level.VERIFY, names=()), policy(Level.VERIFY)),
        (policy(Level.VERIFY, anchors=None), policy(Level.VERIFY, anchors=CA)),
        (policy(Level.VERIFY, anchors=CA), policy(Level.VERIFY, anchors=None)),
        (policy(Level.VERIFY, anchors=OTHER), policy(Level.VERIFY, anchors=CA)),
        (policy(Level.PIN, pins=PinSet(keys=frozenset({b"k", b"l"}))), policy(Level.PIN)),
        (policy(Level.SECURE), policy(Level.PIN)),
        (policy(Level.PIN), policy(Level.SECURE)),
        (policy(Level.ENCRYPT), policy(Level.ENCRYPT, min_version="TLSv1.3")),
        (policy(Level.ENCRYPT), policy(Level.ENCRYPT, ciphers="HIGH")),
        (policy(Level.ENCRYPT), policy(Level.ENCRYPT, exclude=":!3DES")),
        (policy(Level.ENCRYPT), policy(Level.ENCRYPT, pq=True)),
        (policy(Level.MAY), policy(Level.MAY, broken="cannot be used")),
    ],
)
def test_doubt_is_no(new: Policy, old: Policy) -> None:
    assert not at_least(new, old)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (policy(Level.SECURE, names=("a.example",)), policy(Level.VERIFY, names=("a.example", "b.example"))),
        (policy(Level.VERIFY, anchors=CA), policy(Level.VERIFY, anchors=(*CA, *OTHER))),
        (policy(Level.PIN), policy(Level.PIN, pins=PinSet(keys=frozenset({b"k", b"l"})))),
        (policy(Level.ENCRYPT, pq=True, min_version="TLSv1.3"), policy(Level.ENCRYPT)),
        (policy(Level.MAY), policy(Level.MAY, ciphers="HIGH", min_version="TLSv1.3")),
        (policy(Level.MAY, broken="cannot be used"), policy(Level.PIN)),
    ],
)
def test_what_lets_less_through(new: Policy, old: Policy) -> None:
    assert at_least(new, old)
