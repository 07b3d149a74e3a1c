from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.directory import compiled, problems
from tests.tls.pki import certificate, key_pem, pem

LEAF = certificate("ours")
BUNDLE = key_pem("ours") + pem(LEAF)


def test_by_domain_host_and_address(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "clientcerts/A.example.pem": BUNDLE,
        "clientcerts/mx.b.example.pem": " None\n",
        "clientcerts/192.0.2.1.pem": BUNDLE,
        "clientcerts/old.pem~": "",
        "clientcerts/.hidden": "",
    }
    settings = compiled(tmp_path, files)
    assert set(settings.client_credentials) == {"a.example", "mx.b.example", "192.0.2.1"} == settings.tls.identities
    ours = settings.client_credentials["a.example"]
    assert ours is not None and ours.chain == (LEAF,)
    assert settings.client_credentials["mx.b.example"] is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.example", BUNDLE, "is no name of a next hop"),
        ("a..example.pem", BUNDLE, "is no name of a next hop"),
        ("a.example.pem", "", "no private key"),
        ("a.example.pem", pem(LEAF), "no private key"),
        ("a.example.pem", "nothing", "no private key"),
        ("a.example.pem", key_pem("other") + pem(LEAF), "does not belong"),
        ("a.example.pem/x", "", "is a directory"),
    ],
)
def test_what_cannot_be_used_is_a_problem(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    (problem,) = problems(tmp_path, {f"clientcerts/{name}": content})
    assert words in problem and problem.startswith("control/clientcerts/")
