"""Messages as people hand them in, made fit for the queue."""

from __future__ import annotations

import io
from email import message_from_bytes
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.cli.compose import (
    MAX_HEADER,
    Defaults,
    Draft,
    DraftError,
    complete,
    line_ends,
    read_draft,
    subject_value,
    take_recipients,
    until_dot,
)

DEFAULTS = Defaults(author="joe@here.test", me="here.test", id="abc", now=1795356309.0)


def draft(text: bytes, dot_ends: bool = False) -> Draft:
    return read_draft(io.BytesIO(text), dot_ends)


def whole(text: bytes, dot_ends: bool = False) -> bytes:
    return b"".join(draft(text, dot_ends).chunks())


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


octets = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\r\n.\r\n", b" "]), max_size=12).map(b"".join)
cuts = st.lists(st.integers(0, 40), max_size=8)


@given(octets, cuts)
def test_line_ends_are_crlf_however_they_come(data: bytes, places: list[int]) -> None:
    expected = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert b"".join(line_ends(pieces(data, places))) == expected


@given(octets, cuts)
def test_a_lone_dot_ends_however_it_comes(data: bytes, places: list[int]) -> None:
    text = b"".join(line_ends([data]))
    lines = text.split(b"\r\n")
    expected = text
    if b"." in lines[:-1]:
        expected = b"".join(line + b"\r\n" for line in lines[: lines.index(b".")])
    assert b"".join(until_dot(pieces(text, places))) == expected


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (b"Subject: x\n\nhello\n", b"Subject: x\r\n\r\nhello\r\n"),
        (b"Subject: x\r\n\r\nhello", b"Subject: x\r\n\r\nhello\r\n"),
        (b"Subject: x\n\nprogress 1\rprogress 2\n", b"Subject: x\r\n\r\nprogress 1\r\nprogress 2\r\n"),
        (b"From joe Sat Jan 1\nSubject: x\n\nhello\n", b"Subject: x\r\n\r\nhello\r\n"),
        (b"no header here\nat all: nothing\n", b"\r\nno header here\r\nat all: nothing\r\n"),
        (b"\nhello\n", b"\r\nhello\r\n"),
        (b"Subject: x\n y\n\tz\n\n.\n", b"Subject: x\r\n y\r\n\tz\r\n\r\n.\r\n"),
        (b"Subject: x\nnot a field\n\nb\n", b"Subject: x\r\n\r\nnot a field\r\n\r\nb\r\n"),
        (b"Subject: x", b"Subject: x\r\n\r\n"),
        (b"", b"\r\n"),
        (b"\r\n\r\n", b"\r\n\r\n"),
    ],
)
def test_what_is_stored(text: bytes, stored: bytes) -> None:
    assert whole(text) == stored


def test_a_dot_line_ends_only_if_asked() -> None:
    text = b"Subject: x\n\nhello\n.\nmore\n"
    assert whole(text, dot_ends=True) == b"Subject: x\r\n\r\nhello\r\n"
    assert whole(text).endswith(b"\r\n.\r\nmore\r\n")
    assert whole(b".\nSubject: x\n", dot_ends=True) == b"\r\n"


def test_large_bodies_pass_in_pieces() -> None:
    body = b"0123456789\n" * 300_000
    result = draft(b"A: b\n\n" + body)
    sizes = [len(chunk) for chunk in result.chunks()]
    assert max(sizes) <= 65536
    assert b"".join(result.chunks()) == b"A: b\r\n\r\n" + body.replace(b"\n", b"\r\n")


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(DraftError, match="header is longer"):
        draft(b"A: b\n" * (MAX_HEADER // 4))
    assert draft(b"no field\n" * (MAX_HEADER // 4)).fields == []


def test_eight_bit_content_is_noticed() -> None:
    assert not draft(b"A: b\n\nplain\n").eight_bit
    assert draft(b"A: b\n\nm\xc3\xa4il\n").eight_bit
    assert draft(b"A: m\xe4il\n\nplain\n").eight_bit


def test_missing_fields_are_added_and_present_ones_kept() -> None:
    made = draft(b"Subject: kept\nmessage-id: <x@y>\n\nhello\n")
    complete(
        made, Defaults("joe@here.test", "here.test", "abc", 1795356309.0, "Joe D\u00f6", "lost", ["ann@there.test"])
    )
    message = message_from_bytes(b"".join(made.chunks()))
    assert message["Subject"] == "kept"
    assert message["Message-ID"] == "<x@y>"
    assert message["From"] == "=?utf-8?q?Joe_D=C3=B6?= <joe@here.test>"
    assert message["To"] == "ann@there.test"
    assert message["Date"].startswith("Sun, 22 Nov 2026") or message["Date"].startswith("Sat, 21 Nov 2026")


def test_the_made_message_id_names_us() -> None:
    made = draft(b"hello\n")
    complete(made, DEFAULTS)
    assert b"Message-ID: <abc@here.test>\r\n" in b"".join(made.chunks())


@given(st.text())
def test_a_subject_adds_no_field(text: str) -> None:
    try:
        value = subject_value(text)
    except UnicodeError:
        return  # surrogates: no text
    message = message_from_bytes(f"Subject: {value}\r\n\r\n".encode())
    assert message.keys() == ["Subject"]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"To: a@b.test\n", ["a@b.test"]),
        (b'To: "X, Y" <a@b.test>, c@d.test (comment)\nCC: e@f.test\n', ["a@b.test", "c@d.test", "e@f.test"]),
        (b"To: a@b.test,\n c@d.test\nBcc: hidden@x.test\n", ["a@b.test", "c@d.test", "hidden@x.test"]),
        (b"To: friends: a@b.test, c@d.test;\n", ["a@b.test", "c@d.test"]),
        (b"To: undisclosed-recipients:;\nBcc: a@b.test\n", ["a@b.test"]),
        (b"To: root\n", ["root"]),
        (b"To: a@b.test\nResent-To: c@d.test\nResent-Bcc: e@f.test\n", ["c@d.test", "e@f.test"]),
        (b"To: a@b.test\nCc: a@b.test\n", ["a@b.test"]),
        (b"To: =?utf-8?q?J=C3=B6=2C?= <a@b.test>\n", ["a@b.test"]),
        (b"Subject: none\n", []),
    ],
)
def test_recipients_from_the_header(header: bytes, found: list[str]) -> None:
    made = draft(header + b"\nbody\n")
    assert take_recipients(made) == found
    assert b"bcc" not in b"".join(made.chunks()).lower()


@pytest.mark.parametrize("value", [b"a@b.test c@d.test", b"Joe Doe", b"a@b@c", b"Joe <a@b.test"])
def test_doubtful_recipients_are_an_error(value: bytes) -> None:
    with pytest.raises(DraftError, match="cannot be read"):
        take_recipients(draft(b"To: " + value + b"\n\nbody\n"))
