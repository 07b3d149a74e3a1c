"""Values of DSN parameters: what is xtext, what is an original recipient, and what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp import xtext

PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)


@given(st.text(PRINTABLE, min_size=1))
def test_there_and_back(value: str) -> None:
    assert xtext.decode_xtext(xtext.encode_xtext(value)) == value


def test_encoding() -> None:
    assert xtext.encode_xtext("a+b=c d\r\n") == "a+2Bb+3Dc+20d+0D+0A"
    with pytest.raises(ValueError):
        xtext.encode_xtext("ü")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a=b",
        "+",
        "a+",
        "+2",
        "+2b",
        "+GG",
        "+0D+0A",
        "+00",
        "+7F",
        "+80",
        "+FF",
        "ü",
        "a\r\nb",
        "a\n",
        "\x7f",
    ],
)
def test_what_is_no_xtext(text: str) -> None:
    with pytest.raises(ValueError):
        xtext.decode_xtext(text)


@pytest.mark.parametrize(
    ("parameter", "wanted"),
    [
        ("rfc822;a@b.example", ("rfc822", "a@b.example")),
        ("RFC822;a+2Btag@b.example", ("RFC822", "a+tag@b.example")),
        ("x-400;/S=me", None),
        ("x-400;/S+3Dme/", ("x-400", "/S=me/")),
        ("utf-8;a@b", ("utf-8", "a@b")),
        (r"UTF-8;j\x{FC}rgen\x{2B}x@b\x{1F600}", ("UTF-8", "jürgen+x@b\U0001f600")),
        (r"utf-8;\x{5C}\x{20}\x{3D}\x{10FFFD}", None),  # for private use: nobody can see it
        (r"utf-8;\x{5C}\x{20}\x{3D}", ("utf-8", "\\ =")),
        (r"utf-8;\x{41}", None),
        (r"utf-8;\x{0041}", None),
        (r"utf-8;\x{fc}", None),
        (r"utf-8;\x{D800}", None),
        (r"utf-8;\x{110000}", None),
        (r"utf-8;\x{0A}", None),
        (r"utf-8;\x{85}", None),
        (r"utf-8;\x{2028}", None),
        (r"utf-8;\x", None),
        ("utf-8;a+2B", None),
        ("utf-8;", None),
        ("rfc822;", None),
        ("rfc822", None),
        (";a@b", None),
        ("rfc 822;a@b", None),
        ("rfc822;ü@b", None),
        ("rfc822;a+0Ab", None),
        ("rfc822;a@b\n", None),
    ],
)
def test_original_recipients(parameter: str, wanted: tuple[str, str] | None) -> None:
    for smtputf8 in (False, True):
        if wanted is None:
            with pytest.raises(ValueError):
                xtext.decode_address(parameter, smtputf8=smtputf8)
        else:
            assert xtext.decode_address(parameter, smtputf8=smtputf8) == wanted


def test_characters_as_they_are_only_where_smtputf8_is_in_use() -> None:
    assert xtext.decode_address(r"utf-8;ü\x{2B}@b", smtputf8=True) == ("utf-8", "ü+@b")
    for parameter, smtputf8 in (("utf-8;ü@b", False), ("utf-8;ü\u2028@b", True), ("utf-8;\ud800", True)):
        with pytest.raises(ValueError):
            xtext.decode_address(parameter, smtputf8=smtputf8)


@given(st.text(max_size=60))
def test_what_is_decoded_can_be_seen(text: str) -> None:
    for parameter in (f"utf-8;{text}", f"rfc822;{text}", text):
        try:
            kind, address = xtext.decode_address(parameter, smtputf8=True)
        except ValueError:
            continue
        assert kind.isascii() and address.isprintable()
