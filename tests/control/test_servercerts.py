"""Certificates by the name that a client asks for: which file is for which name, and which cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.compile import compile_control
from qmtls.control.settings import ControlError
from tests.control.directory import compiled, problems, warnings
from tests.tls.pki import host, key_pem, pem

PAIR = key_pem("host") + pem(host("mx.example.org"))
DEFAULT: dict[str, str | bytes] = {"servercert.pem": PAIR}


def test_names(tmp_path: Path) -> None:
    wild = key_pem("host") + pem(host("*.example.org"))
    files = {"mx.Example.org.pem": PAIR, "_.example.org.pem": wild, ".hidden.pem": b"", "old.pem~": b""}
    settings = compiled(tmp_path, {**DEFAULT, **{f"servercerts/{name}": text for name, text in files.items()}})
    assert set(settings.named_credentials) == {"mx.example.org", ".example.org"}
    assert str(settings.named_credentials[".example.org"].origin) == "control/servercerts/_.example.org.pem"
    assert settings.warnings == ()


def test_names_in_letters_of_other_scripts(tmp_path: Path) -> None:
    found = compiled(tmp_path, {**DEFAULT, "servercerts/bücher.example.pem": PAIR}).named_credentials
    assert list(found) == ["xn--bcher-kva.example"]


def test_none(tmp_path: Path) -> None:
    assert compiled(tmp_path, DEFAULT).named_credentials == {}
    assert compiled(tmp_path, {**DEFAULT, "servercerts/.keep": ""}).named_credentials == {}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.example.pem", b"", "holds no private key"),
        ("a.example.pem", key_pem("host"), "holds no certificate"),
        ("a.example.pem", key_pem("another") + pem(host("a.example")), "does not belong"),
        ("a.example.pem", PAIR[: len(PAIR) // 2], ""),
        ("a b.pem", PAIR, "is no host name"),
        ("_..pem", PAIR, "is no host name"),
        ("*.example.org.pem", PAIR, "is no host name"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    found = problems(tmp_path, {**DEFAULT, f"servercerts/{name}": content})
    assert len(found) == 1 and found[0].startswith(f"control/servercerts/{name}: ")
    assert said in found[0]


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    compiled(tmp_path, {**DEFAULT, "servercerts/mx.example.org.pem": PAIR})
    (tmp_path / "servercerts/mx.example.org.pem").chmod(0o644)
    path = tmp_path / "servercerts/mx.example.org.pem"
    with pytest.raises(ControlError, match=f"chmod 0640 {path}"):
        compile_control(tmp_path)


def test_without_a_default(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, {"servercerts/mx.example.org.pem": PAIR})
    assert problem.startswith("control/servercerts: is of no use without servercert.pem")


@pytest.mark.parametrize("name", ["other.example.pem", "_.other.example.pem", "_.mx.example.org.pem"])
def test_a_certificate_for_another_name_is_told(tmp_path: Path, name: str) -> None:
    (warning,) = warnings(tmp_path, {**DEFAULT, f"servercerts/{name}": PAIR})
    assert warning.startswith(f"control/servercerts/{name}: its certificate is not for ")


def test_other_files_there_are_told(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, {**DEFAULT, "servercerts/mx.example.org.key": PAIR})
    assert "certificates there end in .pem" in warning
