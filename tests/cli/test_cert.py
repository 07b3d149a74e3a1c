"""Requests, certificates and bundles: what is signed, what is refused, and that nothing is overwritten."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from qmtls.cli.pem import certificates_in, keys_in, public_octets
from tests.cli.conftest import Cli

NAMES = x509.SubjectAlternativeName
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def csr(
    subject: list[tuple[x509.ObjectIdentifier, str]],
    names: list[x509.GeneralName] | None = None,
    key: Key | None = None,
) -> bytes:
    """A request as some other program makes it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names is not None:
        builder = builder.add_extension(NAMES(names), critical=False)
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)


def names_of(certificate: x509.Certificate) -> list[str]:
    return [str(name.value) for name in certificate.extensions.get_extension_for_class(NAMES).value]


def purposes(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_request_and_issue_for_a_client(cli: Cli, home: Path, tmp_path: Path) -> None:
    assert cli("cert", "request", "--email", "joe@here.test").status == 0
    key = tmp_path / "joe@here.test.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    issued = cli("cert", "issue", tmp_path / "joe@here.test.csr")
    assert issued.status == 0
    bundle = tmp_path / "joe@here.test.pem"
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    data = bundle.read_bytes()
    assert data.startswith(b"-----BEGIN PRIVATE KEY-----")
    (leaf,) = certificates_in(data)  # the root itself is left out
    assert public_octets(leaf) == public_octets(keys_in(data)[0])
    assert names_of(leaf) == ["joe@here.test"]
    assert [a.value for a in leaf.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)] == ["joe@here.test"]
    assert purposes(leaf) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert "for control/tlsclients:  joe@here.test" in issued.out


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_request_and_issue_for_a_server(cli: Cli, home: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "mail.v2"  # what follows a dot is no suffix
    assert cli("cert", "request", "Mail.Test", "192.0.2.1", "--key-type", kind, "--out", out).status == 0
    assert cli("cert", "issue", tmp_path / "mail.v2.csr", "--days", "30").status == 0
    data = (tmp_path / "mail.v2.pem").read_bytes()
    (leaf,) = certificates_in(data)
    assert isinstance(keys_in(data)[0], rsa.RSAPrivateKey if kind == "rsa" else ec.EllipticCurvePrivateKey)
    (root,) = certificates_in((home / "state/ca/ca.pem").read_bytes())
    PolicyBuilder().store(Store([root])).build_server_verifier(x509.DNSName("mail.test")).verify(leaf, [])
    assert names_of(leaf) == ["mail.test", "192.0.2.1"]
    assert 29 <= (leaf.not_valid_after_utc - datetime.now(UTC)).days <= 30


def test_issue_for_a_request_as_openssl_makes_it(cli: Cli, home: Path, tmp_path: Path) -> None:
    """Subject only, no extensions: its host and address are kept, its wish to be a CA is not."""
    text = csr([(NameOID.COMMON_NAME, "mx.other.test"), (NameOID.EMAIL_ADDRESS, "admin@other.test")])
    (tmp_path / "qmail.csr").write_bytes(b"some text before\n" + text)
    assert cli("cert", "issue", "qmail.csr").status == 0
    data = (tmp_path / "qmail.pem").read_bytes()
    assert not keys_in(data)
    (leaf,) = certificates_in(data)
    assert names_of(leaf) == ["mx.other.test", "admin@other.test"]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        (b"nothing", "0 certificate requests"),
        (csr([(NameOID.COMMON_NAME, "x.test")]) * 2, "2 certificate requests"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"),
        (csr([(NameOID.COMMON_NAME, "Joe Doe")]), "names no host and no e-mail"),
        (csr([(NameOID.EMAIL_ADDRESS, "a@b.test\nc@d.test")]), "not an e-mail address"),
        (csr([], [x509.DNSName("a b.test")]), "not a host name"),
        (csr([], [x509.RFC822Name("root")]), "not an e-mail address"),
        (csr([], [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]), "kind RegisteredID"),
        (
            csr([], [x509.DNSName("a.test")], rsa.generate_private_key(public_exponent=65537, key_size=1024)),
            "too short",
        ),
    ],
)
def test_what_is_not_signed(cli: Cli, home: Path, tmp_path: Path, request_text: bytes, said: str) -> None:
    (tmp_path / "bad.csr").write_bytes(request_text)
    result = cli("cert", "issue", "bad.csr")
    assert result.status == 1
    assert said in result.err
    assert not (tmp_path / "bad.pem").exists()


def test_a_changed_request_is_not_signed(cli: Cli, home: Path, tmp_path: Path) -> None:
    request = x509.load_pem_x509_csr(csr([], [x509.DNSName("good.test")]))
    changed = request.public_bytes(Encoding.DER).replace(b"good.test", b"evil.test")
    (tmp_path / "bad.csr").write_bytes(x509.load_der_x509_csr(changed).public_bytes(Encoding.PEM))
    result = cli("cert", "issue", "bad.csr")
    assert (result.status, "signature" in result.err) == (1, True)


def test_nothing_is_overwritten(cli: Cli, home: Path, tmp_path: Path) -> None:
    assert cli("cert", "request", "a.test").status == 0
    key = (tmp_path / "a.test.key").read_bytes()
    again = cli("cert", "request", "a.test")
    assert again.status == 1
    assert "exists already" in again.err
    assert (tmp_path / "a.test.key").read_bytes() == key
    assert cli("cert", "issue", "a.test.csr").status == 0
    assert cli("cert", "issue", "a.test.csr").status == 1


def test_a_key_of_another_request_is_refused(cli: Cli, home: Path, tmp_path: Path) -> None:
    for name in ("a.test", "b.test"):
        assert cli("cert", "request", name).status == 0
    result = cli("cert", "issue", "a.test.csr", "--key", "b.test.key")
    assert result.status == 1
    assert "not the key" in result.err


def test_names_that_the_ca_gives_instead(cli: Cli, home: Path, tmp_path: Path) -> None:
    """The subject too: an address there would be an identity."""
    text = csr(
        [(NameOID.COMMON_NAME, "x"), (NameOID.EMAIL_ADDRESS, "boss@here.test")], [x509.RFC822Name("boss@a.test")]
    )
    (tmp_path / "theirs.csr").write_bytes(text)
    given = ("--host", "mx.there.test", "--host", "192.0.2.9")
    assert cli("cert", "issue", "theirs.csr", *given, "--out", "host").status == 0
    (leaf,) = certificates_in((tmp_path / "host.pem").read_bytes())
    assert names_of(leaf) == ["mx.there.test", "192.0.2.9"]
    assert leaf.subject.rfc4514_string() == "CN=mx.there.test"
    assert cli("cert", "issue", "theirs.csr", "--email", "joe@there.test", "--out", "joe").status == 0
    (leaf,) = certificates_in((tmp_path / "joe.pem").read_bytes())
    assert names_of(leaf) == ["joe@there.test"]
    assert "boss" not in str(leaf.subject)
    assert "not an e-mail address" in cli("cert", "issue", "theirs.csr", "--email", "joe", "--out", "bad").err


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("client", {ExtendedKeyUsageOID.CLIENT_AUTH}),
        ("server", {ExtendedKeyUsageOID.SERVER_AUTH}),
        ("both", {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
    ],
)
def test_what_it_is_for(cli: Cli, home: Path, tmp_path: Path, use: str, expected: set[x509.ObjectIdentifier]) -> None:
    (tmp_path / "a.csr").write_bytes(csr([], [x509.DNSName("a.test")]))
    assert cli("cert", "issue", "a.csr", "--use", use).status == 0
    (leaf,) = certificates_in((tmp_path / "a.pem").read_bytes())
    assert purposes(leaf) == expected


def test_no_ca_is_said(cli: Cli, tmp_path: Path) -> None:
    assert cli("cert", "request", "a.test").status == 0
    result = cli("cert", "issue", "a.test.csr", "--ca", tmp_path / "nowhere")
    assert result.status == 1
    assert "nowhere/ca.key" in result.err


@pytest.mark.parametrize(
    "arguments",
    [("request",), ("request", "a b"), ("request", "--email", "root"), ("issue", "x.csr", "--days", "0"), ()],
)
def test_wrong_use(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli("cert", *arguments)
    assert result.status in (1, 2)
    assert result.err
    assert not result.out
