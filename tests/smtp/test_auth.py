"""SASL exchanges: what is a claim, what is a challenge, what is neither."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp.auth import MAX_CREDENTIAL, MECHANISMS, Exchange
from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import Authenticate
from qmtls.smtp.reply import Reply

ALL = tuple(MECHANISMS)


def play(mechanism: str, initial: bytes, *lines: bytes) -> list[str | Authenticate]:
    """The challenges, then the claim or the reply that refuses."""
    said: list[str | Authenticate] = []
    try:
        exchange = Exchange(mechanism, ALL)
        step = exchange.start(initial)
        for line in (*lines, None):
            if isinstance(step, Reply):
                said.append(str(step).rstrip())
                if line is not None:
                    step = exchange.step(line)
        if isinstance(step, Authenticate):
            said.append(step)
    except CommandError as error:
        said.append(f"{error.reply.code} {error.reply.status}")
    return said


def b64(text: bytes) -> bytes:
    return b64encode(text)


USER, WORD = "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"


@pytest.mark.parametrize(
    ("mechanism", "lines", "wanted"),
    [
        ("EXTERNAL", (b"=",), [Authenticate("EXTERNAL")]),
        ("external", (b"", b""), ["334", Authenticate("EXTERNAL")]),
        ("EXTERNAL", (b64(b"a@b"),), [Authenticate("EXTERNAL", "a@b")]),
        ("EXTERNAL", (b"", b64("ü".encode())), ["334", Authenticate("EXTERNAL", "ü")]),
        ("EXTERNAL", (b64(b"a\0b"),), ["501 5.5.2"]),
        ("EXTERNAL", (b"", b"*"), ["334", "501 5.7.0"]),
        ("PLAIN", (b64(b"\0al\0pw"),), [Authenticate("PLAIN", "", "al", "pw")]),
        ("PLAIN", (b64(b"bo\0al\0pw"),), [Authenticate("PLAIN", "bo", "al", "pw")]),
        ("plain", (b"", b64("\0ü\0pw".encode())), ["334", Authenticate("PLAIN", "", "ü", "pw")]),
        ("PLAIN", (b"=",), ["501 5.5.2"]),
        ("PLAIN", (b"", b""), ["334", "501 5.5.2"]),
        ("PLAIN", (b"", b"="), ["334", "501 5.5.2"]),
        ("PLAIN", (b64(b"al\0pw"),), ["501 5.5.2"]),
        ("PLAIN", (b64(b"\0al\0pw\0"),), ["501 5.5.2"]),
        ("PLAIN", (b64(b"\0\0pw"),), ["501 5.5.2"]),
        ("PLAIN", (b64(b"\0al\0"),), ["501 5.5.2"]),
        ("PLAIN", (b64(b"\0al\0\xff"),), ["501 5.5.2"]),
        ("PLAIN", (b64(b"\0al\0" + b"x" * MAX_CREDENTIAL),), [Authenticate("PLAIN", "", "al", "x" * MAX_CREDENTIAL)]),
        ("PLAIN", (b64(b"\0al\0x" + b"x" * MAX_CREDENTIAL),), ["501 5.5.2"]),
        ("LOGIN", (b"", b64(b"al"), b64(b"pw")), [USER, WORD, Authenticate("LOGIN", "", "al", "pw")]),
        ("LOGIN", (b64(b"al"), b64(b"pw")), [WORD, Authenticate("LOGIN", "", "al", "pw")]),
        ("LOGIN", (b"", b""), [USER, "501 5.5.2"]),
        ("LOGIN", (b64(b"al"), b""), [WORD, "501 5.5.2"]),
        ("LOGIN", (b64(b"al"), b"*"), [WORD, "501 5.7.0"]),
        ("LOGIN", (b64(b"a\0l"),), ["501 5.5.2"]),
        ("CRAM-MD5", (b"",), ["504 5.5.4"]),
        ("", (b"",), ["504 5.5.4"]),
        ("__class__", (b"",), ["504 5.5.4"]),
    ],
)
def test_exchanges(mechanism: str, lines: tuple[bytes, ...], wanted: list[str | Authenticate]) -> None:
    assert play(mechanism, *lines) == wanted


@pytest.mark.parametrize(
    "line",
    [b"AGEAYg", b"AGEAYg=", b"AGEAYg===", b"AGEAYh==", b" AGEAYg==", b"AGEA\tYg==", b"AGEA Yg==", b"AG=AYg==", b"\xff"],
)
def test_base64_is_strict(line: bytes) -> None:
    assert play("PLAIN", b"AGEAYg==")[-1] == Authenticate("PLAIN", "", "a", "b")
    assert play("PLAIN", b"", line) == ["334", "501 5.5.2"]


def test_only_what_is_offered() -> None:
    with pytest.raises(CommandError):
        Exchange("PLAIN", ("EXTERNAL",))
    with pytest.raises(CommandError):
        Exchange("SCRAM", ("SCRAM",))


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(Authenticate("PLAIN", "", "al", "secret"))


@given(st.sampled_from(ALL), st.lists(st.binary(max_size=30) | st.binary(max_size=30).map(b64encode), max_size=4))
def test_anything_ends_in_a_claim_or_a_refusal(mechanism: str, lines: list[bytes]) -> None:
    *challenges, last = play(mechanism, *(lines or [b""]))
    assert len(challenges) <= 2
    assert isinstance(last, Authenticate) or last[:3] in ("334", "501")
