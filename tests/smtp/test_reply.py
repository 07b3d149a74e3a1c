"""Replies on the wire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp import server_replies, states
from qmtls.smtp.commands import Verb
from qmtls.smtp.content import Fault
from qmtls.smtp.reply import Reply, printable, reply


def test_encode() -> None:
    assert reply(250, "2.0.0", "ok").encode() == b"250 2.0.0 ok\r\n"
    assert reply(220, "", "mx.example").encode() == b"220 mx.example\r\n"
    assert reply(250, "2.1.0", "a", "b").encode() == b"250-2.1.0 a\r\n250 2.1.0 b\r\n"
    assert reply(250, "").encode() == b"250 \r\n"


def test_digits() -> None:
    assert reply(354, "").is_positive and reply(250, "").is_positive
    assert not reply(450, "").is_positive and not reply(450, "").is_permanent
    assert reply(550, "").is_permanent
    assert not reply(199, "").is_positive and not reply(600, "").is_permanent


def test_str_is_one_line() -> None:
    assert str(reply(553, "5.7.1", "sorry,", "no")) == "553 5.7.1 sorry, no"


@given(st.text(max_size=500))
def test_printable(text: str) -> None:
    clean = printable(text, 100)
    assert clean.isascii() and len(clean) == min(len(text), 100)
    assert reply(250, "2.0.0", clean).encode().count(b"\n") == 1


def test_what_the_server_says_fits_a_reply_line() -> None:
    fixed = [value for value in vars(server_replies).values() if isinstance(value, Reply)]
    fixed += [fault.reply for fault in Fault]
    fixed += [states.illegal(state, verb) for state in states.State for verb in Verb]
    assert len(fixed) > 20
    for said in fixed:
        assert len(said.encode()) <= 512  # RFC 5321 section 4.5.3.1.5
        assert said.status == "" or said.status[0] == str(said.code)[0]
