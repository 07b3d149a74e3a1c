"""A home that works at once, and nothing of anybody's overwritten."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from qmtls.cli.pem import certificates_in, keys_in, public_octets
from tests.cli.conftest import Cli


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_it_makes(home: Path) -> None:
    files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert files == {
        *(f"control/{name}" for name in ("me", "locals", "rcpthosts", "listen", "tlsclients")),
        *(f"control/{name}.pem" for name in ("clientca", "servercert", "clientcert")),
        *("state/ca/ca.key", "state/ca/ca.pem", "clients/ca.pem", "clients/example.pem"),
    }
    assert (home / "control/me").read_text() == "mx.test\n"
    assert (home / "control/listen").read_text() == "smtp tcp:2525:interface=127.0.0.1\n"
    assert (home / "control/tlsclients").read_text().splitlines()[-1] == "example@mx.test"
    assert sorted(path.name for path in (home / "mail/postmaster").iterdir()) == ["cur", "new", "tmp"]


def test_private_files_are_private(home: Path) -> None:
    for name in ("control/servercert.pem", "control/clientcert.pem", "clients/example.pem", "state/ca/ca.key"):
        assert mode(home / name) == 0o600, name
    for name in ("queue", "mail", "mail/postmaster/new", "state", "state/ca", "clients"):
        assert mode(home / name) == 0o700, name
    assert mode(home / "control") == 0o755
    assert mode(home / "control/clientca.pem") == 0o644


def test_certificates_pass_a_strict_verifier(home: Path) -> None:
    (root,) = certificates_in((home / "control/clientca.pem").read_bytes())
    builder = PolicyBuilder().store(Store([root]))
    for name in ("mx.test", "localhost"):
        (leaf,) = certificates_in((home / "control/servercert.pem").read_bytes())
        builder.build_server_verifier(x509.DNSName(name)).verify(leaf, [])
    (client,) = certificates_in((home / "clients/example.pem").read_bytes())
    found = builder.build_client_verifier().verify(client, [])
    assert found.subjects is not None
    assert [name.value for name in found.subjects] == ["example@mx.test"]
    assert root.serial_number.bit_length() >= 64


def test_bundles_have_the_key_first(home: Path) -> None:
    for name in ("control/servercert.pem", "control/clientcert.pem", "clients/example.pem"):
        data = (home / name).read_bytes()
        assert data.startswith(b"-----BEGIN PRIVATE KEY-----")
        assert public_octets(keys_in(data)[0]) == public_octets(certificates_in(data)[0])


def test_a_second_time_changes_nothing(cli: Cli, home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    result = cli("init", home)
    assert result.status == 1
    assert "control/me" in result.err
    assert "nothing was changed" in result.err
    assert before == {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_one_file_in_the_way_is_enough(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine/control").mkdir(parents=True)
    (tmp_path / "mine/control/me").write_text("old.test\n")
    assert cli("init", tmp_path / "mine", "--me", "new.test").status == 1
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["control", "me"]
    assert (tmp_path / "mine/control/me").read_text() == "old.test\n"


def test_other_things_in_the_directory_are_left_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("mine")
    assert cli("init", tmp_path / "mine", "--me", "mx.test").status == 0
    assert (tmp_path / "mine/notes").read_text() == "mine"


def test_the_name_of_the_host_is_the_default(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Box.Example")
    assert cli("init", tmp_path / "new").status == 0
    assert (tmp_path / "new/control/me").read_text() == "box.example\n"


@pytest.mark.parametrize(
    "name", ["", "two words", "a..b", "-a.test", "a/b", "x" * 64 + ".test", "m\u00e4il.test", "a\nb"]
)
def test_a_bad_name_makes_nothing(cli: Cli, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "not a name")
    result = cli("init", tmp_path / "new", f"--me={name}")
    assert result.status == 1
    assert "--me" in result.err
    assert not (tmp_path / "new").exists()
