"""Content in a session: where it ends, what is smuggled into it, what is too much of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qmtls.smtp.content import MAX_DISCARD, MAX_HOPS
from qmtls.smtp.events import Closed, ContentRefused, DataStart, MailFrom
from qmtls.smtp.reply import reply
from qmtls.smtp.server import GO_AHEAD, ServerSession
from tests.smtp.dialogue import (
    CONFIG,
    CUTS,
    ENVELOPE,
    OK,
    Cut,
    Talk,
    at,
    by_byte,
    whole,
)

# ---------------------------------------------------------------- the end of content

SECOND = b"MAIL FROM:<evil@c.example>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\nSubject: 2\r\n\r\ntwo"
# What comes between two mails: whether the first is refused for it with the session closed ("R"), or is ended by it.
SEQUENCES: list[tuple[bytes, str]] = [
    (b"\n.\n", "R"),
    (b"\n.\r\n", "R"),
    (b"\r.\r", "R"),
    (b"\r.\r\n", "R"),
    (b"\r\n.\n", "R"),
    (b"\r\n.\r", "R"),
    (b"\0\r\n.\r\n", "ends, refused"),
    (b"\r\n\0.\r\n", "one, refused"),
    (b"\r\0\n.\r\n", "R"),
    (b"\r\n.\0\r\n", "one, refused"),
    (b"\r\n.\r\0\n", "R"),
    (b"\r\r\n.\r\n", "R"),
    (b"\r\n.\r\r\n", "R"),
    (b"\r\n.\r\n", "ends"),
    (b"\r\n..\r\n", "one"),
    (b"\n\n.\r\n", "R"),
    (b"\r\n.\r\n.\r\n", "ends, 500"),
]


@pytest.mark.parametrize(("sequence", "wanted"), SEQUENCES, ids=[repr(s) for s, _ in SEQUENCES])
def test_smuggling(sequence: bytes, wanted: str) -> None:
    first = b"Subject: 1\r\n\r\none" + sequence
    stream = first + SECOND + b"\r\n.\r\nNOOP\r\n"
    begin = len(first) - len(sequence)
    cuts: list[Cut] = [whole, by_byte, *(at(begin + n) for n in range(len(sequence) + 4))]
    for cut in cuts:
        talk = Talk()
        talk.send(ENVELOPE + b"DATA\r\n")
        codes = talk.codes(*cut(stream))
        evil = [e for e in talk.happened if isinstance(e, MailFrom) and "evil" in str(e.transaction.reverse_path)]
        assert talk.closed == (wanted == "R" and codes == [550]), cut
        match wanted:
            case "R":
                assert (codes, evil, talk.contents) == ([550], [], [])
            case "one":
                assert (codes, evil, len(talk.contents)) == ([250, 250], [], 1)
            case "one, refused":
                assert (codes, evil, talk.contents) == ([550, 250], [], [])
            case "ends":
                assert codes == [250, 250, 250, 354, 250, 250]
                assert len(talk.contents) == 2
            case "ends, refused":
                assert codes == [550, 250, 250, 354, 250, 250]
                assert len(talk.contents) == 1
            case "ends, 500":
                assert codes == [250, 500, 250, 250, 354, 250, 250]


def test_a_nul_behind_the_end_belongs_to_the_next_command() -> None:
    talk = Talk()
    assert talk.codes(ENVELOPE + b"DATA\r\nx\r\n.\r\n\0RSET\r\n")[-2:] == [250, 500]


def test_a_bare_lf_after_the_size_limit_still_closes() -> None:
    for cut in (whole, by_byte):
        talk = Talk(replace(CONFIG, max_size=10))
        talk.send(ENVELOPE + b"DATA\r\n")
        assert talk.codes(*cut(b"x" * 20 + b"\r\n\n.\r\nMAIL FROM:<a@b.example>\r\n.\r\nNOOP\r\n")) == [550]
        assert [type(event) for event in talk.happened[-2:]] == [ContentRefused, Closed]


def test_refused_content_without_an_end_is_read_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmtls.smtp.intake.MAX_DISCARD", 1000)
    talk = Talk(replace(CONFIG, max_size=10))
    talk.send(ENVELOPE + b"DATA\r\n" + b"x" * 11)
    assert talk.codes(b"y" * 1000) == []
    assert talk.codes(b"y") == [552]
    assert talk.closed


def test_a_refused_chunk_too_large_to_read_past_ends_the_session() -> None:
    talk = Talk()
    assert talk.codes(b"EHLO c.example\r\nBDAT %d LAST\r\n" % (MAX_DISCARD + 1)) == [250, 503]
    assert talk.closed


def test_a_chunk_announced_too_large_is_refused_before_it_comes() -> None:
    talk = Talk(replace(CONFIG, max_size=10))
    assert talk.codes(ENVELOPE + b"BDAT 11 LAST\r\nx") == [250, 250, 250]
    assert talk.story()[2:] == ["ContentRefused 552"]
    assert talk.codes(b"y" * 10 + b"NOOP\r\n") == [552, 250]


def test_chunks_pipelined_behind_a_refused_one_are_no_error() -> None:
    talk = Talk(replace(CONFIG, max_size=10))
    assert talk.codes(ENVELOPE + b"BDAT 11\r\n" + b"x" * 11)[-1] == 552
    assert talk.codes(b"BDAT 1\r\nx" * 50) == [503] * 50


def test_bare_line_ends_in_chunks() -> None:
    for octets in (b"a\nb\r\n", b"a\r\nb\r"):
        talk = Talk()
        assert talk.codes(ENVELOPE + b"BDAT 5 LAST\r\n" + octets)[-1] == 550
        assert talk.closed
        assert talk.contents == []


def test_chunks_may_not_hide_a_lone_cr_between_them() -> None:
    talk = Talk()
    assert talk.codes(ENVELOPE + b"BDAT 2\r\na\r", b"BDAT 2 LAST\r\nbc")[-1] == 550
    assert talk.closed


def test_many_hops_are_a_loop() -> None:
    for lines, code in ((MAX_HOPS - 1, 250), (MAX_HOPS, 554)):
        talk = Talk()
        talk.send(ENVELOPE + b"DATA\r\n")
        assert talk.codes(b"rEceived: by x\r\n" * lines + b"\r\n.\r\n") == [code]
        assert not talk.closed


def test_a_long_body_line_is_taken_and_never_run_as_commands() -> None:
    talk = Talk()
    talk.send(ENVELOPE + b"DATA\r\n")
    assert talk.codes(b"x" * 70000 + b"\r\nMAIL FROM:<a@b.example>\r\n.\r\n") == [250]


def test_small_content_is_one_event_and_memory_stays_flat() -> None:
    talk = Talk()
    talk.send(ENVELOPE + b"DATA\r\n")
    had = len(talk.happened)
    talk.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
    assert len(talk.happened) - had == 2
    talk.send(ENVELOPE + b"DATA\r\n")
    for _ in range(100):
        talk.send(b"x" * 70 + b"\r\n" * 1000)
        assert talk.session.buffered <= 4


# ---------------------------------------------------------------- limits of one transaction


@pytest.mark.parametrize("cut", CUTS)
def test_content_beyond_the_limit_of_its_transaction(cut: Cut) -> None:
    talk = Talk()
    talk.send(ENVELOPE)
    talk.session.limit_content(12)
    talk.session.limit_content(20)
    talk.session.limit_content(0)
    assert talk.codes(b"DATA\r\n", *cut(b"0123456789\r\n.\r\n")) == [354, 250]
    talk.send(ENVELOPE)
    talk.session.limit_content(12)
    assert talk.codes(b"DATA\r\n", *cut(b"01234567890\r\n.\r\n")) == [354, 552]
    assert isinstance(talk.happened[-1], ContentRefused)
    assert talk.codes(ENVELOPE + b"DATA\r\n", *cut(b"01234567890\r\n.\r\n"))[-1] == 250


def test_the_limit_of_the_server_stays() -> None:
    talk = Talk(replace(CONFIG, max_size=5))
    talk.send(ENVELOPE)
    talk.session.limit_content(1000)
    assert talk.codes(b"DATA\r\n0123456789\r\n.\r\n") == [354, 552]


@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_limit_that_comes_with_the_answer_to_the_first_chunk(last: bytes) -> None:
    session = ServerSession(CONFIG)
    session.receive_data(ENVELOPE + b"BDAT 10%s\r\n01234567\r\n" % last)
    for _ in range(2):
        session.next_event()
        session.answer(OK)
    assert session.next_event() == DataStart(chunking=True)
    session.limit_content(9)
    session.answer(GO_AHEAD)
    assert isinstance(session.next_event(), ContentRefused)
    assert session.data_to_send().endswith(b"552 5.3.4 sorry, that message size exceeds my databytes limit\r\n")


def test_a_limit_set_while_the_sender_is_judged() -> None:
    for answer, code in ((OK, 552), (reply(450, "4.7.1", "later"), 250)):
        session = ServerSession(CONFIG)
        session.receive_data(ENVELOPE)
        session.next_event()
        session.limit_content(5)
        session.answer(answer)
        talk = Talk()
        talk.session = session
        talk.pump()
        talk.send(b"RSET\r\n" + ENVELOPE if code == 250 else b"")
        assert talk.codes(b"DATA\r\n0123456789\r\n.\r\n") == [354, code]
