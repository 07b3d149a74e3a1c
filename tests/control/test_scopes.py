from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.control.lists import BadValueError
from qmtls.control.scopes import read_day_end, read_rate, read_scope, read_size, split_entries, split_words
from qmtls.smtp.address import Address
from qmtls.tls.scope import UNBOUNDED, Rate


def test_nothing_said_is_no_bound() -> None:
    assert read_scope([]) is UNBOUNDED
    assert UNBOUNDED.until == inf and UNBOUNDED.permits(None, Address("a", "b.example"), 1e12)


def test_every_key() -> None:
    line = "from=@A.example,.B.example,C@D.example,<> to=@e.example rate=100/h size=10M until=2027-01-01 label=gate-1"
    scope = read_scope(line.split())
    assert scope.senders is not None and scope.recipients is not None
    assert scope.senders.words == {"@a.example", ".b.example", "c@d.example", "<>"}
    assert scope.senders.text == "@A.example,.B.example,C@D.example,<>"
    assert scope.recipients.words == {"@e.example"}
    assert scope.rate == Rate(100, 3600.0, "100/h")
    assert (scope.size, scope.label) == (10 << 20, "gate-1")
    assert scope.until == datetime(2027, 1, 2, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("@MÜNCHEN.example", "@xn--mnchen-3ya.example"),
        (".MÜNCHEN.example", ".xn--mnchen-3ya.example"),
        ("@[192.0.2.1]", "@[192.0.2.1]"),
        ("@[IPv6:2001:DB8::1]", "@[ipv6:2001:db8::1]"),
        ('"a b"@c.example', '"a b"@c.example'),
        ('"a,b"@c.example', '"a,b"@c.example'),
        ('"ab"@c.example.', "ab@c.example"),
        ("*@c.example", "*@c.example"),  # a character of a local part like any other
        ("jörg@c.example", "jörg@c.example"),
    ],
)
def test_patterns_have_one_form(entry: str, word: str) -> None:
    scope = read_scope([f"from={entry}"])
    assert scope.senders is not None and scope.senders.words == {word}


@pytest.mark.parametrize(("text", "octets"), [("1", 1), ("10k", 10240), ("10M", 10 << 20), ("2G", 2 << 30)])
def test_sizes(text: str, octets: int) -> None:
    assert read_size(text) == octets


@pytest.mark.parametrize(("text", "seconds"), [("1/s", 1), ("5/m", 60), ("5/h", 3600), ("5/d", 86400)])
def test_rates(text: str, seconds: float) -> None:
    assert read_rate(text).seconds == seconds


def test_until_is_the_end_of_its_day() -> None:
    end = read_day_end("2028-02-29")
    assert end == datetime(2028, 3, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["from"], "'from' is no scope"),
        (["From=@a.example"], "is no scope"),
        (["form=@a.example"], "is no scope"),
        (["from=@a.example", "from=@b.example"], "from= is there twice"),
        (["from="], "from= has no value"),
        (["from=a.example"], "'a.example' is no address"),
        (["from=@a.example,"], "an empty entry"),
        (["from=,@a.example"], "an empty entry"),
        (["from=@a.example,,@b.example"], "an empty entry"),
        (["from=@"], "is no host name"),
        (["from=."], "is no host name"),
        (["from=@.a.example"], "is no host name"),
        (["from=a b@a.example"], "is no address (malformed local part)"),
        (["to=<>"], "<> is nobody"),
        (["rate=100"], "is no rate"),
        (["rate=0/h"], "is no rate"),
        (["rate=1/w"], "is no rate"),
        (["rate=-1/h"], "is no rate"),
        (["size=0"], "is no size"),
        (["size=10MB"], "is no size"),
        (["until=2027"], "is no date"),
        (["until=2027-02-29"], "is no date"),
        (["until=2027-1-1"], "is no date"),
        (["until=9999-12-31"], "is no date"),
        (["until=tomorrow"], "is no date"),
        (["label=a(b)"], "cannot be a label"),
        (["label=" + "x" * 65], "cannot be a label"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_mend(words: list[str], said: str) -> None:
    with pytest.raises(BadValueError) as caught:
        read_scope(words)
    assert said in caught.value.what and caught.value.mend


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a b\tc  d ", ["a", "b", "c", "d"]),
        ('dn:"a b" c', ['dn:"a b"', "c"]),
        (r'dn:"a \" b" c', [r'dn:"a \" b"', "c"]),
        (r"dn:CN=a\ b c", [r"dn:CN=a\ b", "c"]),
        ('a="b c"d"e f"', ['a="b c"d"e f"']),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize("line", ['a "b', 'a "b\\"', "a\\"])
def test_a_quote_that_is_not_closed(line: str) -> None:
    with pytest.raises(BadValueError, match="a quote that is not closed"):
        split_words(line)


def test_entries() -> None:
    assert split_entries('dn:"a,b",c') == ['dn:"a,b"', "c"]


@given(st.text())
def test_any_text_is_words_or_a_problem_and_nothing_is_lost(text: str) -> None:
    try:
        words = split_words(text)
    except BadValueError:
        return
    assert "".join(words) == "".join(split_words(text)) and set("".join(words)) <= set(text)
    try:
        read_scope(words)
    except BadValueError as problem:
        assert problem.mend
