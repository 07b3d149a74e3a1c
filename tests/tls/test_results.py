"""What a session came to, as TLS reports call it."""

from __future__ import annotations

import pytest

from qmtls.tls.facts import ChainError, TlsFacts
from qmtls.tls.fallback import NoTls, Trouble
from qmtls.tls.results import TlsResult, by_names, without_tls
from tests.tls.pki import host


def facts(*codes: int, leaf: bool = True, verified: bool = True) -> TlsFacts:
    certificate = host("mx.a.example") if leaf else None
    errors = tuple(ChainError(code, 0, "x") for code in codes)
    return TlsFacts("TLSv1.3", "x", "x", certificate, (), errors, verified and not errors)


@pytest.mark.parametrize(
    ("shown", "names", "result"),
    [
        (facts(), ("mx.a.example",), TlsResult.SUCCESS),
        (facts(), ("mx.b.example",), TlsResult.CERTIFICATE_HOST_MISMATCH),
        (facts(10), ("mx.a.example",), TlsResult.CERTIFICATE_EXPIRED),
        (facts(10, 20), ("mx.a.example",), TlsResult.CERTIFICATE_NOT_TRUSTED),
        (facts(18), ("mx.b.example",), TlsResult.CERTIFICATE_NOT_TRUSTED),
        (facts(verified=False), ("mx.a.example",), TlsResult.CERTIFICATE_NOT_TRUSTED),
        (facts(leaf=False), ("mx.a.example",), TlsResult.CERTIFICATE_NOT_TRUSTED),
    ],
)
def test_certificates(shown: TlsFacts, names: tuple[str, ...], result: TlsResult) -> None:
    assert by_names(shown, names) is result


def test_every_trouble_has_a_result() -> None:
    found = {trouble: without_tls(NoTls(trouble, "x")) for trouble in Trouble}
    unsupported = {trouble for trouble, result in found.items() if result is TlsResult.STARTTLS_NOT_SUPPORTED}
    assert unsupported == {Trouble.NOT_OFFERED, Trouble.REFUSED}
    assert TlsResult.SUCCESS not in found.values()
