"""Mailboxes: what the grammar takes, its one form, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp.address import Address, AddressError, NeedsSmtpUtf8, folded, is_domain, parse_address

GOOD = [
    "a@b",
    "first.last+tag@sub.example.org",
    "!#$%&'*+/=?^_`{|}~-@example.org",
    "|id@example.org",
    "/etc/x@example.org",
    "u%x@example.org",
    "x!u@example.org",
    "owner-list-u=x.example@host_with_underscore.example",
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "a@[ipv6:::1]",
    '"a b"@example.org',
    '"a@b"@example.org',
    '"a\\"b\\\\"@example.org',
    '""@example.org',
    "x" * 64 + "@example.org",
    "a@" + ".".join(["x" * 63] * 3),
]
BAD = [
    "",
    "a",
    "@",
    "@b",
    "a@",
    "a@@b",
    "a@b@c",
    ".a@b",
    "a.@b",
    "a..b@c",
    "a b@c",
    "a@b c",
    "a@-b",
    "a@b-",
    "a@b.",
    "a@.b",
    "a@b..c",
    "a@" + "x" * 64,
    '"a@b',
    'a"b"@c',
    '"a"b@c',
    '"a\nb"@c',
    '"a\\\nb"@c',
    '"a\0"@c',
    "a\0@b",
    "a\r@b",
    "a\n@b",
    "a@b\n",
    "a\t@b",
    "a\x7f@b",
    "a\x85@b",
    "a\u2028@b",
    "<a@b>",
    "a@[192.0.2.1",
    "a@192.0.2.1]",
    "a@[192.0.2.256]",
    "a@[2001:db8::1]",
    "a@[IPv6:fe80::1%eth0]",
    "a@[IPv6:]",
    "a@[]",
    "x" * 65 + "@b",
    "a@" + ".".join(["x" * 63] * 4),
    "x" * 64 + "@" + ".".join(["x" * 63] * 3),
]


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    assert str(parse_address(text)) == text
    assert str(parse_address(text, smtputf8=True)) == text


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("smtputf8", [False, True])
def test_bad(text: str, smtputf8: bool) -> None:
    with pytest.raises(AddressError) as error:
        parse_address(text, smtputf8=smtputf8)
    assert str(error.value).isascii()


def test_one_form_for_one_mailbox() -> None:
    assert parse_address('"a.b"@c') == parse_address('"a\\.b"@c') == Address("a.b", "c")
    assert parse_address('"a\\ b"@c').local_part == '"a b"'
    assert parse_address('"a."@c').local_part == '"a."'


def test_host() -> None:
    assert parse_address("a@EXAMPLE.org").host == "example.org"
    assert parse_address("a@münchen.EXAMPLE", smtputf8=True).host == "xn--mnchen-3ya.example"
    assert Address("a", "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 300).host  # no A-labels: as it is, and no error
    assert parse_address("a@EXAMPLE.org").domain == "EXAMPLE.org"


@pytest.mark.parametrize("text", ["jürgen@example.org", "a@bücher.example", '"ü b"@c', "用户@例子.example"])
def test_utf8_only_where_it_was_declared(text: str) -> None:
    with pytest.raises(NeedsSmtpUtf8):
        parse_address(text)
    assert str(parse_address(text, smtputf8=True)) == text


@pytest.mark.parametrize(
    "text", ["ü\u202e@b", "ü\ud800@b", "a@ü\u200b", "a@ü..b", "a@-ü", "a@\u3002ü", "a@ü\u3002b", "ü" * 33 + "@b"]
)
def test_utf8_has_its_limits(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text, smtputf8=True)


def test_letters_beyond_ascii_have_no_case_here() -> None:
    assert folded("Kim") == "kim"
    assert folded("\u212aIM \u00c9") == "\u212aim \u00c9"


def test_is_domain() -> None:
    assert is_domain("a.b-c.example")
    assert not any(map(is_domain, ("", "a..b", "a\n", "[1.2.3.4]", "x" * 64)))


@given(st.text(alphabet=st.sampled_from('ab."\\@[]: \n\0ü1'), max_size=30))
def test_what_was_taken_is_taken_again_unchanged(text: str) -> None:
    try:
        address = parse_address(text, smtputf8=True)
    except AddressError:
        return
    assert parse_address(str(address), smtputf8=True) == address
    assert not set(str(address)) & set("\r\n\0<>")
