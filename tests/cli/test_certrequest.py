"""Keys of every kind, and renewals: what stays the same, what is new, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from qmtls.cli.pem import certificates_in, key_in, key_pem, key_pin, public_octets, request_in
from qmtls.tls.identities import chained_identities, own_identities
from tests.cli.conftest import Cli
from tests.tls.pki import certificate, pem


@pytest.mark.parametrize(
    ("kind", "size"),
    [("ec", 256), ("ec:p384", 384), ("rsa", 3072), ("rsa:2048", 2048), ("ed25519", 0), ("EC:P256", 256)],
)
def test_kinds_of_keys(cli: Cli, home: Path, tmp_path: Path, kind: str, size: int) -> None:
    result = cli("cert", "request", "--email", "joe@a.test", "--key", kind, "--out", "joe")
    assert result.status == 0
    key = key_in(tmp_path / "joe.key")
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
    assert getattr(key, "key_size", 0) == size
    assert key_pin(key) in result.out
    assert ("take RSA and EC keys only" in result.out) == (kind == "ed25519")
    assert request_in(tmp_path / "joe.csr").is_signature_valid
    assert cli("cert", "issue", "joe.csr").status == 0
    assert public_octets(certificates_in((tmp_path / "joe.pem").read_bytes())[0]) == public_octets(key)


@pytest.mark.parametrize("kind", ["dsa", "rsa:1024", "rsa:8192", "rsa:x", "ec:p521", "ed25519:1", ""])
def test_no_such_kind(cli: Cli, tmp_path: Path, kind: str) -> None:
    result = cli("cert", "request", "a.test", f"--key={kind}")
    assert (result.status, bool(result.err)) == (1, True) or kind == ""
    assert list(tmp_path.glob("*.csr")) == ([] if kind else [tmp_path / "a.test.csr"])


def issued(cli: Cli, tmp_path: Path, *request: str) -> Path:
    """A bundle of the local CA."""
    assert cli("cert", "request", *request, "--out", "old").status == 0
    assert cli("cert", "issue", "old.csr").status == 0
    return tmp_path / "old.pem"


def test_a_renewal_that_keeps_the_key(cli: Cli, home: Path, tmp_path: Path) -> None:
    old = issued(cli, tmp_path, "mail.test", "192.0.2.1", "--email", "root@mail.test")
    result = cli("cert", "request", "--renew", "keep", old)
    assert result.status == 0
    assert "need not know" in result.out
    assert not (tmp_path / "mail.test.key").exists()
    line = next(line for line in result.out.splitlines() if "qmtls cert issue" in line)
    assert cli(*line.partition("qmtls ")[2].split(), "--out", "new").status == 0
    before, after = (certificates_in(path.read_bytes())[0] for path in (old, tmp_path / "new.pem"))
    assert public_octets(before) == public_octets(after) == public_octets(key_in(tmp_path / "new.pem"))
    assert chained_identities(before) == chained_identities(after)
    assert own_identities(before) & own_identities(after)  # the key's
    assert before.serial_number != after.serial_number
    assert stat.S_IMODE((tmp_path / "new.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(("kind", "option"), [("rsa:2048", ()), ("ec:p384", ()), ("ec", ("--key", "ed25519"))])
def test_a_renewal_with_the_next_key(cli: Cli, home: Path, tmp_path: Path, kind: str, option: tuple[str, ...]) -> None:
    old = issued(cli, tmp_path, "--email", "joe@a.test", "--key", kind)
    present = key_in(old)
    result = cli("cert", "request", "--renew", "next", old, *option)
    assert result.status == 0
    following = key_in(tmp_path / "joe@a.test.next.key")
    assert key_pin(following) in result.out and key_pin(present) in result.out
    assert public_octets(following) != public_octets(present)
    if option:
        assert isinstance(following, ed25519.Ed25519PrivateKey)
    else:
        assert type(following) is type(present)
        assert following.key_size == present.key_size  # type: ignore[union-attr]
    assert cli("cert", "issue", "joe@a.test.next.csr").status == 0
    before, after = (certificates_in(path.read_bytes())[0] for path in (old, tmp_path / "joe@a.test.next.pem"))
    assert chained_identities(before) == chained_identities(after)
    assert key_in(old) is not None  # the old pair is still there, whole


def test_the_key_may_lie_beside_its_certificate(cli: Cli, home: Path, tmp_path: Path) -> None:
    old = issued(cli, tmp_path, "mail.test")
    leaf = certificates_in(old.read_bytes())[0]
    old.write_bytes(leaf.public_bytes(Encoding.PEM))  # as another CA sends it back
    result = cli("cert", "request", "--renew", "keep", "old.pem")
    assert result.status == 0
    assert "--key old.key" in result.out
    (tmp_path / "old.key").write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))
    result = cli("cert", "request", "--renew", "keep", "old.pem", "--out", "other")
    assert (result.status, "not that of its certificate" in result.err) == (1, True)
    (tmp_path / "old.key").unlink()
    result = cli("cert", "request", "--renew", "keep", "old.pem", "--out", "other")
    assert (result.status, "holds no private key" in result.err) == (1, True)


def test_what_is_not_renewed(cli: Cli, home: Path, tmp_path: Path) -> None:
    odd = certificate("x", san_der=b"\x30\x03\x02\x01\x01")
    (tmp_path / "odd.pem").write_bytes(pem(odd))
    for file, said in (
        (home / "state/ca/ca.pem", "certificate of a CA"),
        (tmp_path / "odd.pem", "names cannot be read"),
        (tmp_path / "none.pem", "No such file"),
    ):
        result = cli("cert", "request", "--renew", "next", file)
        assert result.status == 1, file
        assert said in result.err
    assert not list(tmp_path.glob("*.key"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--renew", "keep"),
        ("--renew", "keep", "a.pem", "b.pem"),
        ("--renew", "next", "a.pem", "--email", "joe@a.test"),
        ("--renew", "keep", "a.pem", "--key", "ec"),
        ("--renew", "again", "a.pem"),
    ],
)
def test_wrong_use(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("cert", "request", *arguments).status == 2


def test_both_files_or_none(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.test.csr").write_text("mine")
    assert cli("cert", "request", "a.test").status == 1
    assert not (tmp_path / "a.test.key").exists()


def test_a_subject_alone_is_renewed_as_it_is(cli: Cli, home: Path, tmp_path: Path) -> None:
    bare = certificate("Joe Doe", emails=["joe@a.test"], key_name="bare")
    (tmp_path / "bare.pem").write_bytes(pem(bare))
    assert cli("cert", "request", "--renew", "next", "bare.pem").status == 0
    request = request_in(tmp_path / "bare.next.csr")
    assert request.subject == bare.subject
    with pytest.raises(x509.ExtensionNotFound):
        request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
