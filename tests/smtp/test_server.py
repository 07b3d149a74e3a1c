"""The server session: dialogue files in every cut, the table of states, and each hostile input that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmtls.smtp.budget import REFUSALS, UNSEEN
from qmtls.smtp.commands import Verb
from qmtls.smtp.events import PAUSED, Closed, MailFrom, Reset, StartTls
from qmtls.smtp.lines import MAX_COMMAND_LINE, MAX_SKIPPED
from qmtls.smtp.reply import reply
from qmtls.smtp.server import MAX_STORED, Phase, ServerSession
from qmtls.smtp.states import TABLE, TRANSACTION, State
from tests.smtp.dialogue import (
    CONFIG,
    CUTS,
    ENVELOPE,
    FILES,
    OK,
    Cut,
    Talk,
    at,
    by_byte,
    run,
    run_in_turns,
    under_tls,
    whole,
)

MAX_ERRORS, MAX_RECIPIENTS = CONFIG.max_errors, CONFIG.max_recipients


def names(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("path", FILES, ids=names)
def test_dialogue(path: Path, cut: Cut) -> None:
    run(path, cut)


@pytest.mark.parametrize("path", FILES, ids=names)
def test_replies_come_before_the_next_command(path: Path) -> None:
    run_in_turns(path)


@settings(max_examples=30, deadline=None)
@given(places=st.lists(st.integers(1, 700), max_size=12))
@pytest.mark.parametrize("path", FILES, ids=names)
def test_any_cut_gives_the_same_events_and_replies(path: Path, places: list[int]) -> None:
    run(path, at(*places))


# ---------------------------------------------------------------- state by command

TO_STATE: dict[State, bytes] = {
    State.START: b"",
    State.READY: b"EHLO c.example\r\n",
    State.MAIL: b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\n",
    State.REFUSED: b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b c@mx.example>\r\n",
    State.RCPT: ENVELOPE,
    State.CHUNKING: ENVELOPE + b"BDAT 2\r\nab",
}
COMMANDS: dict[Verb, bytes] = {
    Verb.EHLO: b"EHLO d.example\r\n",
    Verb.HELO: b"HELO d.example\r\n",
    Verb.STARTTLS: b"STARTTLS\r\n",
    Verb.MAIL: b"MAIL FROM:<d@c.example>\r\n",
    Verb.RCPT: b"RCPT TO:<e@mx.example>\r\n",
    Verb.DATA: b"DATA\r\n",
    Verb.BDAT: b"BDAT 2\r\nab",
    Verb.AUTH: b"AUTH PLAIN AGEAYg==\r\n",
    Verb.RSET: b"RSET\r\n",
    Verb.NOOP: b"NOOP\r\n",
    Verb.VRFY: b"VRFY x\r\n",
    Verb.HELP: b"HELP\r\n",
    Verb.QUIT: b"QUIT\r\n",
    Verb.UNIMPLEMENTED: b"TURN\r\n",
    Verb.HTTP: b"GET / HTTP/1.0\r\n",
    Verb.UNKNOWN: b"FROB\r\n",
}
# The code of the reply by state; "-" marks that the transaction of that state is gone afterwards.
EXPECTED: dict[Verb, str] = {
    #              START READY MAIL REFUSED RCPT CHUNKING
    Verb.EHLO: "250  250  250- 250- 250- 250-",
    Verb.HELO: "250  250  250- 250- 250- 250-",
    Verb.STARTTLS: "220  220  220- 220- 220- 503",
    Verb.MAIL: "503  250  503  503  503  503",
    Verb.RCPT: "503  503  250  250  250  503",
    Verb.DATA: "503  503  503  554  354  503",
    Verb.BDAT: "503  503  503  554  250  250",
    Verb.AUTH: "503  538  503  503  503  503",
    Verb.RSET: "250  250  250- 250- 250- 250-",
    Verb.NOOP: "250  250  250  250  250  250",
    Verb.VRFY: "252  252  252  252  252  252",
    Verb.HELP: "214  214  214  214  214  214",
    Verb.QUIT: "221  221  221- 221- 221- 221-",
    Verb.UNIMPLEMENTED: "502  502  502  502  502  502",
    Verb.HTTP: "421  421  421- 421- 421- 421-",
    Verb.UNKNOWN: "500  500  500  500  500  500",
}


def test_the_table_names_every_state_and_verb() -> None:
    assert set(TABLE) == set(State)
    assert set(COMMANDS) == set(EXPECTED) == set(Verb)
    assert set(TO_STATE) == set(State) - {State.CLOSED}


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("state", TO_STATE)
def test_state_by_command(state: State, verb: Verb) -> None:
    talk = Talk(replace(CONFIG, starttls=True))
    talk.send(TO_STATE[state])
    wanted = EXPECTED[verb].split()[list(TO_STATE).index(state)]
    had = len(talk.happened)
    assert talk.codes(COMMANDS[verb]) == [int(wanted[:3])]
    gone = any(isinstance(event, Reset | Closed) for event in talk.happened[had:])
    if state in TRANSACTION:
        assert gone == wanted.endswith("-")
        assert (talk.session.transaction is None) == gone
    assert talk.closed == (verb in (Verb.QUIT, Verb.HTTP))


@pytest.mark.parametrize("state", [state for state in TO_STATE if state in TRANSACTION])
@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO x\r\n", b"HELO x\r\n", b"STARTTLS\r\n"])
def test_a_dropped_transaction_leaves_nothing(state: State, end: bytes) -> None:
    if state is State.CHUNKING and end == b"STARTTLS\r\n":
        return
    talk = Talk(replace(CONFIG, starttls=True))
    talk.send(TO_STATE[state], end)
    if talk.session.phase is Phase.HANDSHAKE:
        talk.session.tls_established()
        talk.send(b"EHLO x\r\n")
    assert talk.session.recipients == ()
    assert talk.codes(b"RCPT TO:<b@mx.example>\r\n", b"DATA\r\n", b"BDAT 1 LAST\r\nx") == [503, 503, 503]


# ---------------------------------------------------------------- command lines


@pytest.mark.parametrize("cut", [whole, by_byte])
def test_an_over_long_line_is_one_error_and_its_rest_is_no_command(cut: Cut) -> None:
    talk = Talk()
    assert talk.codes(*cut(b"NOOP " + b"x" * 10000 + b" MAIL\r\nNOOP\r\n")) == [500, 250]
    assert talk.codes(b"NOOP " + b"x" * (MAX_COMMAND_LINE - 5) + b"\r\n") == [250]


@pytest.mark.parametrize("cut", [whole, by_byte])
def test_an_endless_line_ends_the_session(cut: Cut) -> None:
    talk = Talk()
    assert talk.codes(*cut(b"x" * (MAX_SKIPPED + 2))) == [500, 421]
    assert talk.closed


def test_errors_have_a_budget() -> None:
    talk = Talk()
    assert talk.codes(b"FROB\r\n" * 50) == [500] * (MAX_ERRORS - 1) + [421]
    assert talk.closed


def test_chunks_out_of_order_cost_of_the_budget_too() -> None:
    talk = Talk()
    assert talk.codes(b"BDAT 1\r\nx" * 50) == [503] * (MAX_ERRORS - 1) + [421]


def test_what_was_pipelined_behind_a_refused_sender_is_no_error() -> None:
    talk = Talk()
    talk.answers["MailFrom"] = reply(450, "4.7.1", "later")
    batch = b"MAIL FROM:<a@c.example>\r\n" + b"RCPT TO:<b@mx.example>\r\n" * 100 + b"DATA\r\n"
    assert talk.codes(b"EHLO x\r\n" + batch) == [250, 450] + [503] * 101
    assert not talk.closed


def test_recipients_have_a_limit() -> None:
    talk = Talk()
    talk.send(ENVELOPE)
    codes = talk.codes(b"RCPT TO:<b@mx.example>\r\n" * (MAX_RECIPIENTS + 5))
    assert codes == [250] * (MAX_RECIPIENTS - 1) + [452] * 6
    assert len(talk.session.recipients) == MAX_RECIPIENTS
    assert talk.codes(b"DATA\r\n") == [354]


@pytest.mark.parametrize("verb", [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT"])
def test_web_clients_are_sent_away(verb: bytes) -> None:
    talk = Talk()
    assert talk.codes(verb + b" / HTTP/1.1\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n") == [421]
    assert talk.closed


# ---------------------------------------------------------------- the budget


def test_what_comes_behind_a_refusal_has_an_end_too() -> None:
    talk = Talk(replace(CONFIG, max_recipients=2))
    talk.answers["MailFrom"] = reply(450, "4.7.1", "later")
    codes = talk.codes(b"EHLO x\r\nMAIL FROM:<a@c.example>\r\n" + b"RCPT TO:<b@mx.example>\r\n" * 100)
    assert codes == [250, 450] + [503] * (2 * UNSEEN + MAX_ERRORS - 1) + [421]


def test_recipients_too_many_have_an_end_too() -> None:
    talk = Talk(replace(CONFIG, max_recipients=2))
    codes = talk.codes(b"EHLO x\r\nMAIL FROM:<a@c.example>\r\n" + b"RCPT TO:<b@mx.example>\r\n" * 100)
    assert codes == [250] * 4 + [452] * (2 * UNSEEN + MAX_ERRORS - 1) + [421]


def test_refused_recipients_end_the_session_between_two_messages() -> None:
    talk = Talk()
    talk.send(ENVELOPE)
    talk.answers["RcptTo"] = reply(550, "5.1.1", "nobody")
    assert talk.codes(b"RCPT TO:<x@mx.example>\r\n" * (MAX_ERRORS * REFUSALS + 9)) == [550] * 100 + [452] * 9
    assert talk.codes(b"DATA\r\nx\r\n.\r\n") == [354, 250]
    assert talk.codes(b"NOOP\r\nMAIL FROM:<a@c.example>\r\nNOOP\r\n") == [250, 421]
    assert talk.closed


@pytest.mark.parametrize("flood", [b"NOOP", b"RSET", b"VRFY x", b"HELP", b"EHLO x", b"HELO x", b"STARTTLS"])
def test_floods_of_commands_have_an_end(flood: bytes) -> None:
    talk = Talk(replace(CONFIG, max_commands=7))
    codes = talk.codes((flood + b"\r\n") * 50)
    assert len(codes) == 8 and codes[-1] == 421 and 421 not in codes[:-1]
    assert talk.closed


def test_senders_without_recipients_have_an_end() -> None:
    talk = Talk(replace(CONFIG, max_commands=7))
    assert talk.codes(b"EHLO x\r\n" + b"MAIL FROM:<>\r\nRSET\r\n" * 50) == [250] * 7 + [421]


def test_empty_chunks_have_an_end() -> None:
    talk = Talk(replace(CONFIG, max_commands=7))
    assert talk.codes(ENVELOPE + b"BDAT 0\r\n" * 50) == [250] * 8 + [421]
    assert talk.codes(b"BDAT 1\r\n") == []


@pytest.mark.parametrize("code", [250, 452])
def test_messages_make_up_for_commands(code: int) -> None:
    """Also those that we cannot store."""
    talk = Talk(replace(CONFIG, max_commands=3))
    talk.answers["ContentEnd"] = reply(code, "2.0.0" if code == 250 else "4.3.1", "that is it")
    talk.send(b"EHLO x\r\n")
    for _ in range(20):
        assert talk.codes(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\nx\r\n.\r\n") == [
            *(250, 250, 250, 354, code),
        ]


# ---------------------------------------------------------------- STARTTLS


@pytest.mark.parametrize("behind", [b"MAIL FROM:<a@b.example>\r\n", b"E", b"\r\n", b"\0", b"\r"])
def test_nothing_may_stand_behind_starttls(behind: bytes) -> None:
    for pieces in ([b"STARTTLS\r\n" + behind], [b"STARTTLS\r", b"\n" + behind]):
        talk = Talk(replace(CONFIG, starttls=True))
        talk.send(b"EHLO x\r\n")
        assert talk.codes(*pieces) == [501]
        assert talk.closed
        assert not any(isinstance(event, StartTls) for event in talk.happened)


def test_octets_between_starttls_and_the_handshake_end_the_session() -> None:
    talk = Talk(replace(CONFIG, starttls=True))
    assert talk.codes(b"EHLO x\r\n", b"STARTTLS\r\n", b"MAIL FROM:<a@b.example>\r\n") == [250, 220]
    talk.session.tls_established()
    talk.pump()
    assert talk.closed
    assert talk.codes(b"NOOP\r\n") == []


def test_state_after_the_handshake() -> None:
    talk = Talk(replace(CONFIG, starttls=True))
    talk.send(b"EHLO before.example\r\n", b"MAIL FROM:<a@c.example>\r\n", b"STARTTLS\r\n")
    assert talk.session.phase is Phase.HANDSHAKE
    assert talk.session.next_event() is PAUSED
    talk.session.tls_established()
    session = talk.session
    assert (session.helo, session.esmtp, session.tls, session.transaction) == ("", False, True, None)
    with pytest.raises(RuntimeError):
        session.tls_established()


def test_submission_wants_tls_before_a_sender() -> None:
    talk = Talk(replace(CONFIG, submission=True, starttls=True))
    assert talk.codes(b"EHLO x\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@mx.example>\r\n") == [250, 530, 503]
    assert not any(isinstance(event, MailFrom) for event in talk.happened)
    assert under_tls(config=replace(CONFIG, submission=True, starttls=True)).codes(b"MAIL FROM:<>\r\n") == [250]


# ---------------------------------------------------------------- the adapter's side


def test_nothing_is_looked_at_while_a_question_is_open() -> None:
    session = ServerSession(CONFIG)
    session.receive_data(ENVELOPE + b"QUIT\r\n")
    assert isinstance(session.next_event(), MailFrom)
    before = session.data_to_send()
    assert session.phase is Phase.ANSWER
    assert session.next_event() is PAUSED
    assert session.buffered > 0
    assert session.data_to_send() == b""
    assert before.endswith(b"LIMITS RCPTMAX=1000\r\n")
    session.answer(reply(451, "4.3.0", "later"))
    assert isinstance(session.next_event(), Closed)
    assert [line[:3] for line in session.data_to_send().splitlines()] == [b"451", b"503", b"221"]


def test_an_answer_without_a_question_is_our_own_mistake() -> None:
    session = ServerSession(CONFIG)
    with pytest.raises(RuntimeError):
        session.answer(OK)
    session.receive_data(ENVELOPE)
    session.next_event()
    session.answer(OK)
    with pytest.raises(RuntimeError):
        session.answer(OK)


def test_abort_drops_the_transaction_and_late_answers_are_ignored() -> None:
    session = ServerSession(CONFIG)
    session.receive_data(ENVELOPE)
    session.next_event()
    session.data_to_send()
    session.abort(reply(421, "4.3.2", "shutting down"))
    session.answer(OK)
    session.receive_data(b"NOOP\r\n")
    assert session.next_event() == Closed("421 4.3.2 shutting down")
    assert session.next_event() is PAUSED
    assert session.data_to_send() == b"421 4.3.2 shutting down\r\n"
    assert (session.phase, session.transaction, session.buffered) == (Phase.CLOSED, None, 0)


def test_the_client_hangs_up_in_its_content() -> None:
    talk = Talk()
    talk.send(ENVELOPE + b"DATA\r\nhalf a mes")
    talk.session.receive_eof()
    talk.pump()
    assert talk.happened[-1] == Closed("connection lost")
    assert talk.contents == []
    assert talk.session.transaction is None


def test_an_adapter_that_does_not_pause_costs_the_session_not_the_memory() -> None:
    session = ServerSession(CONFIG)
    session.receive_data(ENVELOPE)
    session.next_event()
    for _ in range(MAX_STORED // 65536 + 1):
        session.receive_data(b"x" * 65536)
    assert isinstance(session.next_event(), Closed)
    assert session.buffered == 0


def _borders(pieces: list[bytes]) -> Iterator[int]:
    """Every place that is not far inside a long piece: there one octet is as the next."""
    begin = 0
    for piece in pieces:
        end = begin + len(piece)
        yield from range(begin, min(begin + 50, end))
        yield from range(max(end - 50, begin), end)
        begin = end


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from([*COMMANDS.values(), b"\r\n.\r\n", b".\r\n", b"\r\n", b"BDAT 5 LAST\r\n", b"x" * 3000]),
            st.sampled_from([b"AUTH PLAIN\r\n", b"AUTH LOGIN YQ==\r\n", b"Yg==\r\n", b"*\r\n", b"x" * 13000]),
        ),
        max_size=25,
    ),
    places=st.lists(st.integers(0, 4000), max_size=20),
)
def test_anything_at_all_in_any_cut(pieces: list[bytes], places: list[int]) -> None:
    stream = b"".join(pieces)
    talks = [under_tls("PLAIN", "LOGIN", config=replace(CONFIG, max_size=2000, max_commands=20)) for _ in range(3)]
    for talk, cut in zip(talks, (whole, at(*_borders(pieces)), at(*places)), strict=True):
        talk.send(*cut(stream))
    assert talks[0].sent == talks[1].sent == talks[2].sent
    assert talks[0].contents == talks[1].contents == talks[2].contents
