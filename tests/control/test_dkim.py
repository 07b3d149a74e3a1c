"""Keys for DKIM signatures: which file is for which domain, and which cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as rsa_key

from qmtls.cli.pem import key_pem
from qmtls.control.compile import compile_control
from qmtls.control.describe import describe
from qmtls.control.live import fingerprint
from qmtls.control.settings import ControlError
from tests.control.directory import compiled, problems, warnings, write

ED = key_pem(Ed25519PrivateKey.generate())
RSA = key_pem(rsa_key(65537, 2048))
SHORT = key_pem(rsa_key(65537, 1024))


def test_by_domain(tmp_path: Path) -> None:
    files = {
        "a.example.s1.key": RSA,
        "A.example.s2.key": ED,
        "b\xfccher.example.s1.key": ED,
        "a.example.s3.key.next": ED,
        ".hidden": b"",
        "a.example.old.key~": b"",
    }
    settings = compiled(tmp_path, {f"dkim/{name}": content for name, content in files.items()})
    assert set(settings.dkim) == {"a.example", "xn--bcher-kva.example"}
    assert [(key.selector, key.algorithm) for key in settings.dkim["a.example"]] == [
        ("s2", "ed25519-sha256"),
        ("s1", "rsa-sha256"),
    ]
    assert settings.warnings == ()
    said = [str(finding) for finding in describe(settings, 1.8e9) if "dkim" in finding.origin.file]
    assert said[1] == (
        "note: control/dkim/a.example.s1.key: signs mail of a.example (RSA 2048 bits);"
        " its TXT record is s1._domainkey.a.example"
    )


def test_off_by_default(tmp_path: Path) -> None:
    assert compiled(tmp_path, {}).dkim == {}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.example.s1.key", b"", "holds no private key"),
        ("a.example.s1.key", ED + ED, "holds 2 private keys"),
        ("a.example.s1.key", ED.replace(b"MC4C", b"AAAA"), "cannot be read"),
        ("a.example.s1.key", key_pem(ec_key(SECP256R1())), "neither RSA nor Ed25519"),
        ("example.key", ED, "names no domain"),
        ("a.example.s_1.key", ED, "is no selector"),
        ("a .example.s1.key", ED, "names no domain"),
    ],
)
def test_not_to_be_used(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (problem,) = problems(tmp_path, {f"dkim/{name}": content})
    assert problem.startswith(f"control/dkim/{name}: ")
    assert said in problem


def test_a_key_for_everybody(tmp_path: Path) -> None:
    write(tmp_path, {"dkim/a.example.s1.key": ED})
    (tmp_path / "dkim/a.example.s1.key").chmod(0o644)
    with pytest.raises(ControlError, match="chmod 0640"):
        compile_control(tmp_path)


def test_worth_a_warning(tmp_path: Path) -> None:
    short, other = warnings(tmp_path, {"dkim/a.example.s1.key": SHORT, "dkim/readme": ""})
    assert short == "control/dkim/a.example.s1.key: is an RSA key of 1024 bits only; make one of 2048"
    assert other.startswith("control/dkim/readme: is not used: keys there end in .key; name it DOMAIN.SELECTOR.key")


def test_a_new_key_is_noticed(tmp_path: Path) -> None:
    before = fingerprint(write(tmp_path, {"dkim/a.example.s1.key": ED}))
    assert fingerprint(write(tmp_path, {"dkim/a.example.s2.key": ED})) != before
