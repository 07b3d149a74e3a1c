"""What a session came to, as TLS reports call it."""

from __future__ import annotations

import pytest

from qmtls.tls.dane import Tlsa, tlsas_of
from qmtls.tls.demand import Level
from qmtls.tls.evidence import DaneEvidence, Evidence, StsEvidence
from qmtls.tls.facts import ChainError, TlsFacts
from qmtls.tls.fallback import NOT_OFFERED, NoTls, Trouble
from qmtls.tls.pin import key_digest
from qmtls.tls.results import Finding, judge_session, without_tls
from qmtls.tls.resulttypes import PolicyType, TlsResult
from qmtls.tls.sts import CachedPolicy, StsMode, StsPolicy
from tests.tls.pki import NOW, host

MX = "mx.a.example"
LEAF = host(MX)
CUT = NoTls(Trouble.HANDSHAKE, "the TLS handshake failed: x")


def facts(*codes: int, leaf: bool = True, verified: bool = True, name: str = MX) -> TlsFacts:
    errors = tuple(ChainError(code, 0, "x") for code in codes)
    return TlsFacts("TLSv1.3", "x", "x", host(name) if leaf else None, (), errors, verified and not errors)


def found(
    shown: TlsFacts | NoTls | None,
    *,
    dane: DaneEvidence | None = None,
    sts: StsEvidence | None = None,
    level: Level = Level.DANE,
) -> tuple[Finding, ...]:
    return judge_session(level, Evidence(dane, sts), shown, MX, NOW)


def results(*args: TlsFacts | NoTls | None, **evidence: object) -> list[tuple[str, str]]:
    findings = found(*args, **evidence)  # type: ignore[arg-type]
    return [(finding.policy_type.value, finding.result.value) for finding in findings]


def result(*args: TlsFacts | NoTls | None, **evidence: object) -> tuple[str, str]:
    (only,) = results(*args, **evidence)
    return only


def policy(mode: StsMode, *mx: str) -> StsEvidence:
    return StsEvidence(CachedPolicy("a.example", "1", StsPolicy(mode, 86400, mx), 0, 0, 0))


def records(*usable: Tlsa, secure: bool = True, malformed: int = 0) -> DaneEvidence:
    return DaneEvidence(tlsas_of(MX, 25, usable, secure=secure, malformed=malformed), (MX,))


# ------------------------------------------------------------ no policy


@pytest.mark.parametrize("dane", [None, DaneEvidence(), records(), records(Tlsa(3, 1, 1, bytes(32)), secure=False)])
@pytest.mark.parametrize("sts", [None, StsEvidence(), StsEvidence(note="x"), policy(StsMode.NONE)])
def test_without_a_policy(dane: DaneEvidence | None, sts: StsEvidence | None) -> None:
    """TLS is all that can be expected: whose certificate it is concerns our own rules."""
    evidence = {"dane": dane, "sts": sts}
    assert result(facts(), **evidence) == ("no-policy-found", "success")
    assert result(facts(18, name="else.example"), **evidence) == ("no-policy-found", "success")
    assert result(NOT_OFFERED, **evidence) == ("no-policy-found", "starttls-not-supported")
    assert result(CUT, **evidence) == ("no-policy-found", "validation-failure")
    assert found(None, dane=dane, sts=sts) == ()


def test_every_trouble_has_a_result() -> None:
    results = {trouble: without_tls(NoTls(trouble, "x")) for trouble in Trouble}
    unsupported = {trouble for trouble, result in results.items() if result is TlsResult.STARTTLS_NOT_SUPPORTED}
    assert unsupported == {Trouble.NOT_OFFERED, Trouble.REFUSED}
    assert TlsResult.SUCCESS not in results.values()


# ------------------------------------------------------------ MTA-STS


@pytest.mark.parametrize("mode", [StsMode.ENFORCE, StsMode.TESTING])
@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (facts(), "success"),
        (facts(name="mx.b.example"), "certificate-host-mismatch"),
        (facts(10), "certificate-expired"),
        (facts(10, 20), "certificate-not-trusted"),
        (facts(18, name="mx.b.example"), "certificate-not-trusted"),
        (facts(verified=False), "certificate-not-trusted"),
        (facts(leaf=False), "certificate-not-trusted"),
        (NOT_OFFERED, "starttls-not-supported"),
        (CUT, "validation-failure"),
    ],
)
def test_sts(mode: StsMode, shown: TlsFacts | NoTls, said: str) -> None:
    assert result(shown, sts=policy(mode, "*.a.example")) == ("sts", said)
    assert result(shown, sts=policy(mode, "mx.b.example")) == ("sts", "validation-failure")


def test_what_is_told_of_a_policy() -> None:
    (finding,) = found(facts(name="mx.b.example"), sts=policy(StsMode.ENFORCE, "*.a.example", "b.example"))
    assert finding == Finding(
        PolicyType.STS,
        TlsResult.CERTIFICATE_HOST_MISMATCH,
        "it is for mx.b.example",
        ("version: STSv1", "mode: enforce", "mx: *.a.example", "mx: b.example", "max_age: 86400"),
        ("*.a.example", "b.example"),
    )


def test_a_policy_that_cannot_be_had() -> None:
    sts = StsEvidence(broken=TlsResult.STS_WEBPKI_INVALID)
    assert result(facts(), sts=sts) == ("sts", "sts-webpki-invalid")
    assert result(NOT_OFFERED, sts=sts) == ("sts", "sts-webpki-invalid")


# ------------------------------------------------------------ DANE


def test_dane() -> None:
    right, wrong = Tlsa(3, 1, 1, key_digest(LEAF)), Tlsa(3, 1, 1, bytes(32))
    assert found(facts(18), dane=records(right)) == (
        Finding(PolicyType.TLSA, TlsResult.SUCCESS, "", (f"3 1 1 {right.data.hex()}",)),
    )
    assert result(facts(), dane=records(wrong)) == ("tlsa", "validation-failure")
    assert result(NOT_OFFERED, dane=records(right)) == ("tlsa", "starttls-not-supported")
    assert result(CUT, dane=records(right)) == ("tlsa", "validation-failure")
    assert result(facts(), dane=records(Tlsa(1, 1, 1, bytes(32)))) == ("tlsa", "tlsa-invalid")
    assert result(facts(), dane=records(malformed=1)) == ("tlsa", "tlsa-invalid")
    assert result(None, dane=DaneEvidence(trouble="DNS: bogus")) == ("tlsa", "dnssec-invalid")
    assert result(facts(), dane=records(), level=Level.DANE_ONLY) == ("tlsa", "dane-required")


def test_dane_goes_first() -> None:
    right = records(Tlsa(3, 1, 1, key_digest(LEAF)))
    assert result(facts(), dane=right, sts=policy(StsMode.ENFORCE, "else.example")) == ("tlsa", "success")


UNUSABLE = records(Tlsa(1, 1, 1, bytes(32)))


@pytest.mark.parametrize(
    ("shown", "sts", "about_sts"),
    [
        (facts(), policy(StsMode.ENFORCE, MX), "success"),
        (facts(18), policy(StsMode.ENFORCE, MX), "certificate-not-trusted"),
        (facts(name="else.example"), policy(StsMode.TESTING, MX), "certificate-host-mismatch"),
        (facts(), policy(StsMode.TESTING, "else.example"), "validation-failure"),
        (facts(), StsEvidence(broken=TlsResult.STS_POLICY_INVALID), "sts-policy-invalid"),
    ],
)
def test_where_no_record_can_be_used_both_policies_apply(
    shown: TlsFacts | None, sts: StsEvidence, about_sts: str
) -> None:
    assert results(shown, dane=UNUSABLE, sts=sts) == [("tlsa", "tlsa-invalid"), ("sts", about_sts)]


def test_without_tls_both_policies_are_failed() -> None:
    expected = [("tlsa", "starttls-not-supported"), ("sts", "starttls-not-supported")]
    assert results(NOT_OFFERED, dane=UNUSABLE, sts=policy(StsMode.ENFORCE, MX)) == expected
    assert results(NOT_OFFERED, dane=UNUSABLE, sts=policy(StsMode.NONE)) == expected[:1]


def test_what_ends_before_tls_met_nothing() -> None:
    """A host that says that it is closed today."""
    assert found(None, dane=records(Tlsa(3, 1, 1, bytes(32)))) == ()
    assert found(None, sts=policy(StsMode.ENFORCE, MX)) == ()
    assert found(None, dane=UNUSABLE, sts=policy(StsMode.ENFORCE, MX)) == ()
    assert found(None, sts=StsEvidence(broken=TlsResult.STS_POLICY_INVALID)) == ()


def test_what_was_published_may_be_why_nothing_was_tried() -> None:
    assert result(None, dane=UNUSABLE, level=Level.DANE_ONLY) == ("tlsa", "tlsa-invalid")
    assert result(None, sts=policy(StsMode.ENFORCE, "else.example")) == ("sts", "validation-failure")
    broken = StsEvidence(broken=TlsResult.STS_POLICY_INVALID)
    assert result(None, sts=broken, level=Level.STS) == ("sts", "sts-policy-invalid")
