from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.control import values
from qmtls.control.lists import BadValueError

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (values.host, "MX.Example.ORG.", "mx.example.org"),
        (values.host, "bücher.example", "xn--bcher-kva.example"),
        (values.domain_or_parent, ".Example.org", ".example.org"),
        (values.host_or_literal, "[192.0.2.1]", "[192.0.2.1]"),
        (values.host_or_literal, "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        (values.host_or_address, "[2001:DB8::1]", "2001:db8::1"),
        (values.local_part, "MAILER-DAEMON", "MAILER-DAEMON"),
        (values.cipher_list, "HIGH:!aNULL @STRENGTH", "HIGH:!aNULL:@STRENGTH"),
        (values.sha256_digest, HEX, bytes.fromhex(HEX)),
        (values.sha256_digest, ":".join(["AB"] * 32), bytes.fromhex(HEX)),
        (values.spki_digest, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", bytes.fromhex(HEX)),
    ],
)
def test_good_values(parse: Callable[[str], Any], text: str, expected: object) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((values.host, text) for text in ("", ".", "a b", "a/b", "a..b", " a", "[192.0.2.1]", "a:25", "x" * 254)),
        *((values.domain_or_parent, text) for text in ("", ".", "..a", "*.a")),
        *((values.host_or_literal, text) for text in ("[a.example]", "[]", "[192.0.2.1]:25")),
        *((values.host_or_address, text) for text in ("[", "[]", "[a]b", "::g")),
        *((values.local_part, text) for text in ("", "a@b", "a b", "x" * 65)),
        *((values.cipher_list, text) for text in ("", "a;b", "ü", "$(x)")),
        *((values.greeting, text) for text in ("ü", "a\tb", "x" * 401)),
        *((values.sha256_digest, text) for text in ("", "ab", HEX + "a", "zz" * 32, HEX[:-2] + "ü0")),
        *((values.spki_digest, text) for text in ("", "abcd", "!" * 44, HEX, "ü" * 44)),
        *((values.network, text) for text in ("", "x", "192.0.2.0/33", "192.0.2", "::/129")),
    ],
)
def test_bad_values_are_named_with_a_mend(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(BadValueError) as caught:
        parse(text)
    assert caught.value.what and caught.value.mend


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relay.example", ("relay.example", 25)),
        ("relay.example:587", ("relay.example", 587)),
        ("[relay.example]:587", ("relay.example", 587)),
        ("192.0.2.1", ("192.0.2.1", 25)),
        ("192.0.2.1:26", ("192.0.2.1", 26)),
        ("[192.0.2.1]:26", ("192.0.2.1", 26)),
        ("2001:db8::1", ("2001:db8::1", 25)),
        ("[2001:db8::1]:26", ("2001:db8::1", 26)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert values.host_and_port(text, 25) == expected


@pytest.mark.parametrize("text", ["a:", "a:0", "a:65536", "a:x", "a:25:26", "[a]:", "[a]25", "", ":25", "[2001:db8::1"])
def test_bad_host_and_port(text: str) -> None:
    with pytest.raises(BadValueError):
        values.host_and_port(text, 25)


@pytest.mark.parametrize("text", ["", " 1", "1 ", "-1", "+1", "1.0", "0x1", "١", "1" * 16, "9" * 6000, "ten", "11"])
def test_bad_numbers(text: str) -> None:
    with pytest.raises(BadValueError):
        values.number(text, 0, 10)


def test_a_network_with_host_bits_is_answered_with_what_may_be_meant() -> None:
    assert str(values.network("192.0.2.1")) == "192.0.2.1/32"
    with pytest.raises(BadValueError, match=r"write 192\.0\.2\.0/24"):
        values.network("192.0.2.1/24")


PARSERS: list[Callable[[str], object]] = [
    *(values.host, values.domain_or_parent, values.host_or_literal, values.host_or_address, values.local_part),
    *(values.greeting, values.cipher_list, values.network, values.sha256_digest, values.spki_digest, values.port),
    lambda text: values.host_and_port(text, 25),
]


@given(st.sampled_from(PARSERS), st.text() | st.from_regex(r"[\[\]:.0-9a-f%]*", fullmatch=True))
def test_any_text_is_a_value_or_a_bad_value(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except BadValueError:
        pass
