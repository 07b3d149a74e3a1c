"""The reverse-path of each copy of a list's message."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmtls.delivery.verp import expanded, is_verp, owner, verp_path
from qmtls.smtp.address import Address, parse_address

LIST = Address("owner-@host.example-", "[]")


@pytest.mark.parametrize(
    ("recipient", "path"),
    [
        (Address("joe", "a.example"), "owner-joe=a.example@host.example"),
        (Address("joe+x", "[192.0.2.1]"), '"owner-joe+x=[192.0.2.1]"@host.example'),
        (Address('"j o\\"e"', "a.example"), '"owner-j o\\"e=a.example"@host.example'),
        (Address("postmaster", ""), "owner-postmaster@host.example"),
        (Address("jörg", "bücher.example"), "owner-jörg=bücher.example@host.example"),
    ],
)
def test_each_recipient_has_a_path_of_its_own(recipient: Address, path: str) -> None:
    assert str(expanded(LIST, recipient)) == path


@pytest.mark.parametrize(
    "path",
    [None, Address("#", "[]"), Address("owner-", "host"), Address("owner-@-", "[]"), Address("owner-@host", "[]")],
)
def test_other_paths_stay(path: Address | None) -> None:
    assert not is_verp(path)
    assert expanded(path, Address("joe", "a.example")) == path
    if path is not None:
        assert owner(path) == path


def test_as_text() -> None:
    assert verp_path("owner-@host.example-@[]") == LIST
    assert is_verp(LIST)
    assert str(owner(LIST)) == "owner-@host.example"
    for text in ("a@b.example", "#@[]", "-@[]", ""):
        assert verp_path(text) is None


@given(st.from_regex(r'"(?:[ !#-\[\]-~]|\\\\[ -~]){0,8}"|[a-z+]{1,8}', fullmatch=True))
@example('".."')
def test_what_is_made_is_an_address(local_part: str) -> None:
    made = expanded(LIST, Address(local_part, "a.example"))
    assert made is not None
    parse_address(str(made))
