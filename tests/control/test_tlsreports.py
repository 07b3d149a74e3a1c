"""`tlsrpt`: who sends TLS reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from qmtls.cli.pem import key_pem
from qmtls.control.describe import describe
from qmtls.delivery.tlsreport import Reporting
from qmtls.smtp.address import Address
from tests.control.directory import compiled, problems, warnings

KEY: dict[str, str | bytes] = {"dkim/example.org.s.key": key_pem(Ed25519PrivateKey.generate())}


def test_no_file_no_reports(tmp_path: Path) -> None:
    assert compiled(tmp_path, {}).tls_reports is None


@pytest.mark.parametrize(
    "text",
    [
        'from=tls@mail.Example.org org="Example & Co" contact=https://example.org/tls\n',
        '# who\nfrom=tls@mail.example.org\n\ncontact=https://example.org/tls   org="Example & Co"\n',
    ],
)
def test_all_of_it(tmp_path: Path, text: str) -> None:
    settings = compiled(tmp_path, {**KEY, "tlsrpt": text})
    sender = Address("tls", "mail.example.org")
    assert settings.tls_reports == Reporting(sender, "Example & Co", "https://example.org/tls")
    assert settings.warnings == ()
    (said,) = [str(finding) for finding in describe(settings, 1.8e9) if finding.origin.file == "control/tlsrpt"]
    assert said.endswith("from tls@mail.example.org")


def test_what_may_be_left_out(tmp_path: Path) -> None:
    assert compiled(tmp_path, {"tlsrpt": "from=tls@example.org\n"}).tls_reports == Reporting(
        Address("tls", "example.org"), "mail.example.org", "tls@example.org"
    )


def test_unsigned_reports_are_warned_of(tmp_path: Path) -> None:
    (said,) = warnings(tmp_path, {**KEY, "tlsrpt": "from=tls@else.example\n"})
    assert "reports of else.example are not signed" in said
    assert "qmtls dkim make else.example SELECTOR" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "control/tlsrpt: names no sender"),
        ("org=x\n", "control/tlsrpt: names no sender"),
        ("from=\n", "control/tlsrpt:1: 'from=' is not understood"),
        ("from=x\n", "control/tlsrpt: 'x' is no address"),
        ("from=x@[192.0.2.1]\n", "is no address"),
        ("from=a@b.example to=c@d\n", "control/tlsrpt:1: 'to' is not known here"),
        ("from=a@b.example\nfrom=c@d.example\n", "control/tlsrpt:2: from= is there already"),
        ("from=a@b.example org=Example Co\n", "'Co' is not understood"),
        (f"from=a@b.example org={'x' * 300}\n", "too long"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems(tmp_path, {"tlsrpt": text})
    assert said in problem
