"""Replies out of octets: what is one, what is none, and that segments do not matter."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp.reply import Reply
from qmtls.smtp.reply_parser import MAX_REPLY_LINE, MAX_REPLY_LINES, MAX_TEXT, MalformedReply, ReplyParser


def parse(*segments: bytes) -> list[Reply]:
    parser = ReplyParser()
    found = []
    for segment in segments:
        parser.feed(segment)
        while (reply := parser.next_reply()) is not None:
            found.append(reply)
    return found


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 ok\r\n", Reply(250, "", ("ok",))),
        (b"250\r\n", Reply(250, "", ("",))),
        (b"250 \r\n", Reply(250, "", ("",))),
        (b"250 ok\n", Reply(250, "", ("ok",))),
        (b"250 ok\r\r\n", Reply(250, "", ("ok",))),
        (b"250 2.1.0 ok\r\n", Reply(250, "2.1.0", ("ok",))),
        (b"250 2.1.0\r\n", Reply(250, "2.1.0", ("",))),
        (b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", Reply(550, "5.1.1", ("no", "such user"))),
        (b"550-5.1.1 no\r\n550 such user\r\n", Reply(550, "5.1.1", ("no", "such user"))),
        (b"250-a\r\n250-\r\n250\r\n", Reply(250, "", ("a", "", ""))),
        # A status counts only with the class of its code (RFC 2034), and only as a whole word.
        (b"550 4.7.1 later\r\n", Reply(550, "", ("4.7.1 later",))),
        (b"250 2.1.0ok\r\n", Reply(250, "", ("2.1.0ok",))),
        (b"354 3.0.0 go\r\n", Reply(354, "", ("3.0.0 go",))),
        (b"250 2.1.1000 x\r\n", Reply(250, "", ("2.1.1000 x",))),
        # What the peer says is for people to read, whatever it holds.
        (b"550 a\0b\x1b[2J\xff\r x\r\n", Reply(550, "", ("a?b?[2J?? x",))),
        (b"000 x\r\n", Reply(0, "", ("x",))),
    ],
)
def test_a_reply(octets: bytes, reply: Reply) -> None:
    assert parse(octets) == [reply]


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"250ok\r\n",
        b"250\tok\r\n",
        b"250_ok\r\n",
        b" 250 ok\r\n",
        b"ok\r\n",
        b"-25 ok\r\n",
        b"\xb2\xb5\xb0 ok\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"250-a\r\n\r\n250 b\r\n",
        b"250 " + b"x" * MAX_REPLY_LINE + b"\r\n",
        b"250 " + b"x" * MAX_REPLY_LINE,
        b"250-a\r\n" * (MAX_REPLY_LINES + 1),
        (b"250-" + b"x" * 1900 + b"\r\n") * 20,
    ],
)
def test_no_reply(octets: bytes) -> None:
    with pytest.raises(MalformedReply):
        parse(octets)
    with pytest.raises(MalformedReply):
        parse(*(octets[n : n + 1] for n in range(len(octets))))


def test_the_complaint_is_printable_and_short() -> None:
    with pytest.raises(MalformedReply) as caught:
        parse(b"\x1b]0;evil\x07" + b"x" * 1000 + b"\r\n")
    assert str(caught.value).isascii() and str(caught.value).isprintable() and len(str(caught.value)) < 120


def test_long_text_is_cut() -> None:
    (reply,) = parse(b"250 " + b"x" * 1900 + b"\r\n")
    assert reply.lines == ("x" * MAX_TEXT,)


def test_pending_means_octets_without_a_reply() -> None:
    parser = ReplyParser()
    assert not parser.pending
    for octets, pending in ((b"2", True), (b"50-a\r\n", True), (b"250 b\r\n", False)):
        parser.feed(octets)
        parser.next_reply()
        assert parser.pending is pending
    parser.feed(b"250 a\r\n250 b\r\n")
    parser.next_reply()
    assert parser.pending


def test_what_is_kept_is_bounded() -> None:
    parser = ReplyParser()
    for _ in range(50):
        parser.feed(b"250 ok\r\n" * 1000 + b"25")
        while parser.next_reply() is not None:
            pass
        parser.feed(b"0 ok\r\n")
        assert parser.next_reply() is not None
    assert len(parser._buffer) < 100


replies = st.builds(
    Reply,
    st.integers(200, 599),
    st.just(""),
    st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=".")), min_size=1).map(
        tuple
    ),
)


@given(st.lists(replies, max_size=5), st.lists(st.integers(0, 400), max_size=20))
def test_segments_do_not_matter(sent: list[Reply], cuts: list[int]) -> None:
    stream = b"".join(reply.encode() for reply in sent)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    assert parse(*(stream[a:b] for a, b in pairwise(edges))) == sent


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_octets_give_printable_replies_or_an_error(segments: list[bytes]) -> None:
    try:
        found = parse(*segments)
    except MalformedReply:
        return
    for reply in found:
        assert reply.text.isascii() and (reply.text.isprintable() or not reply.text)
