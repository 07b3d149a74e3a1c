from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from qmtls.control.lists import BadValueError, Content
from qmtls.control.pem import load_authorities, load_credential, load_crls
from qmtls.tls.policy import Origin
from tests.tls.pki import NOW, certificate, crl, host, key, key_pem, pem

LEAF, CA = host("mx.example.org"), certificate("ca", ca=True)
KEY = key_pem("host")
CRL = crl("ca", NOW, 7)


def content(data: bytes, mode: int = 0o600) -> Content:
    return Content(data, mode, Path("/home/control/servercert.pem"), Origin("control/servercert.pem"))


def private(secret: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return secret.private_bytes(Encoding.PEM, form, encryption)


@pytest.mark.parametrize(
    "data",
    [
        KEY + pem(LEAF, CA),
        pem(LEAF, CA) + KEY,
        pem(LEAF) + KEY + pem(CA),
        KEY + b"Certificate:\n    Data: Version: 3\n" + pem(LEAF) + b"text\n" + pem(CA),
        private(key("host"), PrivateFormat.TraditionalOpenSSL) + pem(LEAF, CA),
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + KEY + pem(LEAF, CA),
        (KEY + pem(LEAF, CA)).replace(b"\n", b"\r\n"),
    ],
)
def test_key_and_chain_in_any_usual_form(data: bytes) -> None:
    credential = load_credential(content(data))
    assert credential.chain == (LEAF, CA)
    assert credential.key.public_key() == key("host").public_key()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no private key"),
        (pem(LEAF), "no private key"),
        (KEY, "no certificate"),
        (KEY + KEY + pem(LEAF), "2 private keys"),
        (KEY + pem(CA, LEAF), "does not belong to its first certificate"),
        (key_pem("other") + pem(LEAF), "does not belong"),
        (KEY + pem(LEAF)[:200], "cannot be read"),
        (KEY[:60] + pem(LEAF), "no private key"),
        (KEY.replace(b"\nMI", b"\nAA") + pem(LEAF), "cannot be read"),
        (private(key("host"), password=b"secret") + pem(LEAF), "passphrase"),
        (private(key("host"), PrivateFormat.TraditionalOpenSSL, b"secret") + pem(LEAF), "passphrase"),
        (private(rsa.generate_private_key(65537, 1024)) + pem(LEAF), "only 1024 bits"),
        (private(ed25519.Ed25519PrivateKey.generate()) + pem(LEAF), "neither RSA nor EC"),
    ],
)
def test_what_cannot_serve_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(BadValueError) as caught:
        load_credential(content(data))
    assert words in caught.value.what and caught.value.mend


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640, 0o660])
def test_owner_and_group_may_read_a_key(mode: int) -> None:
    load_credential(content(KEY + pem(LEAF), mode))


@pytest.mark.parametrize(("mode", "mended"), [(0o644, "0640"), (0o604, "0600"), (0o602, "0600"), (0o777, "0770")])
def test_others_may_not_and_the_mend_is_a_command(mode: int, mended: str) -> None:
    with pytest.raises(BadValueError) as caught:
        load_credential(content(KEY + pem(LEAF), mode))
    assert caught.value.mend == f"chmod {mended} /home/control/servercert.pem"


def test_authorities() -> None:
    assert load_authorities(content(pem(CA, LEAF), 0o644)) == (CA, LEAF)
    for data in (b"", b"text", pem(LEAF), pem(CA)[:-40]):
        with pytest.raises(BadValueError):
            load_authorities(content(data))


def test_revocation_lists() -> None:
    found = load_crls(content(b"text\n" + pem(CRL) + pem(crl("other", NOW))))
    assert [len(one) for one in found] == [1, 0]
    for data in (b"", pem(CA), pem(CRL)[:-40], pem(CRL) + pem(CRL)[:90], pem(CRL).replace(b"\nMI", b"\nAA")):
        with pytest.raises(BadValueError):
            load_crls(content(data))
