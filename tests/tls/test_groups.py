from __future__ import annotations

import pytest

from qmtls.tls.groups import HYBRID, is_hybrid, known_group


def test_what_is_hybrid() -> None:
    assert all(map(is_hybrid, HYBRID)) and is_hybrid("x25519mlkem768")
    assert not any(map(is_hybrid, ("", "x25519", "MLKEM768", "secp256r1")))


@pytest.mark.parametrize(("name", "known"), [("P-256", "secp256r1"), ("X25519", "x25519"), ("brainpool", ""), ("", "")])
def test_names(name: str, known: str) -> None:
    assert known_group(name) == known
