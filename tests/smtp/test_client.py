"""The client session: dialogues cut in every way, every reply at every stage, and what may never get on the wire."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp.address import Address
from qmtls.smtp.client import ClientSession, Outgoing, Unsendable, time_limit
from qmtls.smtp.client_states import CALLS, STAGES, Call, State
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import (
    NEED_DATA,
    PAUSED,
    ClientEvent,
    Ended,
    Greeted,
    SendContent,
    Sent,
    Signal,
    Stage,
    TlsGo,
    TlsRefused,
)
from qmtls.smtp.offers import Limits
from tests.smtp.client_dialogue import FILES, Cut, by_byte, by_line, run, whole

A = Address("a", "client.example")
B = Recipient(Address("b", "mx.example"))
C = Recipient(Address("c", "mx.example"))
ONE = Outgoing(A, (B,), 100)


@pytest.mark.parametrize("cut", [whole, by_line, by_byte])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue(path: Path, cut: Cut) -> None:
    run(path, cut)


def test_there_are_dialogues() -> None:
    assert len(FILES) > 20


def say(session: ClientSession, *lines: str) -> list[ClientEvent]:
    """The server says these lines in one segment; all events that follow."""
    session.receive_data("".join(line + "\r\n" for line in lines).encode())
    return events(session)


def events(session: ClientSession) -> list[ClientEvent]:
    found = []
    while not isinstance(event := session.next_event(), Signal):
        found.append(event)
    return found


def greeted(*extensions: str) -> ClientSession:
    session = ClientSession("client.example")
    ehlo = ["mx.example", *extensions]
    lines = [f"250-{word}" for word in ehlo[:-1]] + [f"250 {ehlo[-1]}"]
    assert isinstance(say(session, "220 hi", *lines)[-1], Greeted)
    session.data_to_send()
    return session


def sending(*extensions: str) -> ClientSession:
    session = greeted("PIPELINING", *extensions)
    session.begin(ONE)
    assert say(session, "250 ok", "250 ok", "354 go") == [SendContent()]
    session.data_to_send()
    return session


# ------------------------------------------------------------ every reply at every stage


def _at_starttls() -> ClientSession:
    session = greeted("STARTTLS")
    session.start_tls()
    return session


def _walk(*replies: str) -> Callable[[], ClientSession]:
    def make() -> ClientSession:
        session = greeted()
        session.begin(ONE)
        for reply in replies:
            say(session, reply)
        return session

    return make


def _at_content() -> ClientSession:
    session = sending()
    session.end_content()
    return session


def _at_quit() -> ClientSession:
    session = greeted()
    session.quit()
    return session


def _at_ehlo() -> ClientSession:
    session = ClientSession("client.example")
    assert say(session, "220 hi") == []
    return session


def _at_helo() -> ClientSession:
    session = _at_ehlo()
    assert say(session, "500 what") == []
    return session


# Per stage: how to get there, and the first digits that the session goes on with.
STAGED: dict[str, tuple[Callable[[], ClientSession], Stage, str]] = {
    "greeting": (lambda: ClientSession("client.example"), Stage.GREETING, "2"),
    "EHLO": (_at_ehlo, Stage.EHLO, "25"),
    "HELO": (_at_helo, Stage.EHLO, "2"),
    "ready": (greeted, Stage.MAIL, ""),
    "STARTTLS": (_at_starttls, Stage.STARTTLS, "245"),
    "MAIL": (_walk(), Stage.MAIL, "245"),
    "RCPT": (_walk("250 ok"), Stage.RCPT, "245"),
    "DATA": (_walk("250 ok", "250 ok"), Stage.DATA, "345"),
    "sending": (sending, Stage.SENDING, ""),
    "content": (_at_content, Stage.CONTENT, "245"),
    "QUIT": (_at_quit, Stage.QUIT, ""),
}
IN_TRANSACTION = ("MAIL", "RCPT", "DATA", "sending", "content")


@pytest.mark.parametrize("name", STAGED)
def test_every_code_at_every_stage(name: str) -> None:
    make, stage, goes_on = STAGED[name]
    for code in range(1000):
        session = make()
        assert session.stage is stage
        found = say(session, f"{code:03} text")
        ended = bool(found) and isinstance(found[-1], Ended)
        assert ended is (code == 421 or f"{code:03}"[0] not in goes_on), code
        for event in found:
            if isinstance(event, Ended):
                assert event.stage is stage
                assert len(event.results) == (name in IN_TRANSACTION)
            results = event.results if isinstance(event, Sent | Ended) else ()
            for result in results:
                delivered = result.stage is Stage.CONTENT and result.reply is not None and result.reply.code < 300
                assert delivered is (name == "content" and 200 <= code < 300), code
                if result.reply is not None:
                    assert (result.reply.code == code and 400 <= code < 600) or delivered
        if ended:
            assert session.next_event() is PAUSED


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.parametrize("octets", [b"25\r\n", b"2500 ok\r\n", b"250_ok\r\n", b" 250 ok\r\n", b"\r\n", b"x" * 2001])
def test_malformed_reply_ends_the_session_at_every_stage(name: str, octets: bytes) -> None:
    make, stage, _ = STAGED[name]
    session = make()
    session.receive_data(octets)
    (ended,) = events(session)
    assert isinstance(ended, Ended) and ended.stage is stage and ended.reply is None
    assert all(result.reply is None for result in ended.results)
    assert len(ended.results) == (name in IN_TRANSACTION)


@pytest.mark.parametrize("name", STAGED)
def test_loss_and_silence_end_the_session_at_every_stage(name: str) -> None:
    make, stage, _ = STAGED[name]
    lost, silent = make(), make()
    lost.receive_eof()
    silent.give_up("timed out")
    silent.give_up("again")
    for session, why in ((lost, "connection lost"), (silent, "timed out")):
        (ended,) = events(session)
        assert isinstance(ended, Ended)
        assert (ended.stage, ended.why, len(ended.results)) == (stage, why, name in IN_TRANSACTION)
        assert all(result.why == why and result.reply is None for result in ended.results)
        assert session.data_to_send() == b""
        session.receive_data(b"250 ok\r\n")
        assert session.next_event() is PAUSED


# ------------------------------------------------------------ STARTTLS


@pytest.mark.parametrize("behind", [b"2", b"\n", b"250 ok\r\n", b"250-a\r\n", b"\x16\x03\x01"])
def test_anything_behind_the_220_is_injected(behind: bytes) -> None:
    for pieces in ((b"220 go\r\n" + behind,), (b"220 go\r\n", behind)):
        session = _at_starttls()
        found = []
        for piece in pieces:
            session.receive_data(piece)
            found += events(session)
        ended = found[-1]
        assert isinstance(ended, Ended) and ended.injected
        with pytest.raises(RuntimeError):
            session.tls_established()


def test_octets_that_come_as_the_handshake_ends_are_injected() -> None:
    session = _at_starttls()
    assert say(session, "220 go") == [TlsGo()]
    session.receive_data(b"250 ok\r\n")
    session.tls_established()
    (ended,) = events(session)
    assert isinstance(ended, Ended) and ended.injected
    assert session.data_to_send() == b""


def test_tls_is_established_once_and_forgets() -> None:
    session = _at_starttls()
    session.data_to_send()
    say(session, "220 go")
    assert session.next_event() is PAUSED and not session.ready
    session.tls_established()
    assert session.extensions == {}
    assert session.data_to_send() == b"EHLO client.example\r\n"
    assert say(session, "250-mx", "250 STARTTLS") == [Greeted({"STARTTLS": ""}, tls=True, name="mx")]
    with pytest.raises(RuntimeError):
        session.start_tls()


def test_refused_starttls_leaves_a_usable_session() -> None:
    session = _at_starttls()
    (refused,) = say(session, "502 no")
    assert isinstance(refused, TlsRefused) and session.ready


# ------------------------------------------------------------ calls


def _in_state(state: State) -> ClientSession:
    makers = {STAGED[name][0]: name for name in STAGED}
    for make in makers:
        if (session := make())._state is state:
            return session
    session = _at_starttls()
    if state is State.HANDSHAKE:
        say(session, "220 go")
    elif state is State.RSET:
        session = _walk("250 ok", "550 no")()
        session.begin(ONE)
    elif state is State.ENDED:
        session.give_up("enough")
    elif state in (State.ASKED, State.CHALLENGED):
        session = greeted("AUTH PLAIN")
        session.ask(b"AUTH PLAIN")
        if state is State.CHALLENGED:
            say(session, "334 ")
    return session


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("call", Call)
def test_calls_that_the_table_does_not_list_raise(state: State, call: Call) -> None:
    session = _in_state(state)
    assert session._state is state
    calls: dict[Call, Callable[[], None]] = {
        Call.START_TLS: session.start_tls,
        Call.TLS_ESTABLISHED: session.tls_established,
        Call.BEGIN: lambda: session.begin(ONE),
        Call.SEND_CONTENT: lambda: session.send_content(b"x"),
        Call.END_CONTENT: session.end_content,
        Call.ASK: lambda: session.ask(b"x"),
        Call.QUIT: session.quit,
    }
    if (state, call) in CALLS:
        calls[call]()
    else:
        with pytest.raises(RuntimeError):
            calls[call]()


def test_every_state_but_the_last_has_a_stage_and_every_stage_a_limit() -> None:
    assert set(STAGES) == set(State) - {State.ENDED}
    assert all(time_limit(stage) > 0 for stage in Stage)
    assert time_limit(Stage.CONTENT) == 600 and time_limit(Stage.DATA) == 120 and time_limit(Stage.SENDING) == 180


def test_what_is_queued_goes_out_as_one_write() -> None:
    session = greeted("PIPELINING")
    session.begin(Outgoing(A, (B, C), 5))
    assert session.data_to_send().splitlines() == [
        b"MAIL FROM:<a@client.example>",
        b"RCPT TO:<b@mx.example>",
        b"RCPT TO:<c@mx.example>",
        b"DATA",
    ]
    assert session.data_to_send() == b""


def test_reply_that_waits_before_begin_is_not_the_answer_to_mail() -> None:
    session = ClientSession("client.example")
    session.receive_data(b"220 hi\r\n250 mx.example\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")
    assert isinstance(session.next_event(), Greeted)
    assert not session.ready
    session.begin(ONE)
    (ended,) = events(session)
    assert isinstance(ended, Ended) and ended.results[0].reply is None
    assert session.data_to_send() == b""


# ------------------------------------------------------------ what we refuse to say

EVIL = [
    "a\r\nRCPT TO:<x",
    "a\n",
    "a\rb",
    "a\0b",
    "a\x7fb",
    "a\tb",
    "a b",
    "a> SIZE=1 <b",
    "<a",
    '"a',
    'a"b',
    '"a\\',
    "",
    "a\\b",
]


@pytest.mark.parametrize("evil", EVIL)
def test_no_address_can_leave_its_path(evil: str) -> None:
    session = greeted("PIPELINING")
    for address in (Address(evil, "mx.example"), Address("a", f"x.example{evil or ' '}")):
        for outgoing in (Outgoing(address, (B,), 1), Outgoing(A, (B, Recipient(address)), 1)):
            with pytest.raises(Unsendable) as caught:
                session.begin(outgoing)
            assert caught.value.recipient == (None if outgoing.reverse_path is address else 1)
            assert session.data_to_send() == b"" and session.ready
    session.begin(ONE)


@given(st.text(), st.text())
def test_whatever_is_sent_as_a_path_is_one_line(local_part: str, domain: str) -> None:
    session = greeted()
    try:
        session.begin(Outgoing(Address(local_part, domain), (B,), 1))
    except Unsendable:
        return
    sent = session.data_to_send()
    assert sent.startswith(b"MAIL FROM:<") and sent.endswith(b">\r\n")
    assert not any(octet < 32 or octet > 126 for octet in sent[:-2])


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (Address("#", "[]"), b"<#@[]>"),
        (Address('"a b>"', "x.example"), b'<"a b>"@x.example>'),
        (Address("u", "[IPv6:2001:db8::1]"), b"<u@[IPv6:2001:db8::1]>"),
        (Address("postmaster", ""), b"<postmaster>"),
    ],
)
def test_odd_but_lawful_paths(address: Address, path: bytes) -> None:
    session = greeted()
    session.begin(Outgoing(address, (B,), 1))
    assert session.data_to_send() == b"MAIL FROM:" + path + b"\r\n"


def test_what_the_server_cannot_take_is_not_offered_to_it() -> None:
    session = greeted("SIZE 1000")
    for outgoing, status in (
        (Outgoing(A, (B,), 1001), "5.3.4"),
        (Outgoing(A, (B,), 10, "8BITMIME"), "5.6.3"),
        (Outgoing(A, (Recipient(Address("bücher", "mx.example")),), 10), "5.6.7"),
        (Outgoing(A, (), 10), "5.5.4"),
    ):
        with pytest.raises(Unsendable) as caught:
            session.begin(outgoing)
        assert caught.value.status == status
    session.begin(Outgoing(A, (B,), 1000))


@pytest.mark.parametrize("limit", ["SIZE", "SIZE 0", "SIZE many", "SIZE " + "9" * 400])
def test_size_without_a_limit(limit: str) -> None:
    session = greeted(limit)
    session.begin(Outgoing(A, (B,), 10**9))
    assert session.data_to_send() == b"MAIL FROM:<a@client.example> SIZE=1000000000\r\n"


@pytest.mark.parametrize("helo", ["", "a b", "a\r\nMAIL", "ü.example"])
def test_name_for_ehlo_is_one_word(helo: str) -> None:
    with pytest.raises(ValueError, match="EHLO"):
        ClientSession(helo)


# ------------------------------------------------------------ content and segments


@given(
    st.lists(st.sampled_from([b".", b"..", b"", b"text", b".x", b"x" * 70]), max_size=12),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_content_arrives_whatever_its_pieces(lines: list[bytes], cuts: list[int]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    session = sending()
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    for start, end in pairwise(edges):
        session.send_content(content[start:end])
    session.end_content()
    sent = session.data_to_send()
    *stuffed, dot, nothing = sent.split(b"\r\n")
    assert (dot, nothing) == (b".", b"")
    assert b"." not in stuffed
    assert [line.removeprefix(b".") for line in stuffed] == lines


DIALOGUE = (
    b"220 hi\r\n250-mx.example\r\n250-PIPELINING\r\n250 SIZE\r\n",
    b"250 2.1.0 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n250 ok\r\n354 go\r\n",
    b"250 2.0.0 done\r\n",
)


@given(st.data())
def test_segments_change_nothing(data: st.DataObject) -> None:
    session = ClientSession("client.example")
    found: list[ClientEvent] = []
    sent = b""
    for said in DIALOGUE:
        while said:
            size = data.draw(st.integers(1, len(said)))
            session.receive_data(said[:size])
            said = said[size:]
            found += events(session)
            sent += session.data_to_send()
        if len(found) == 1:
            session.begin(Outgoing(A, (B, C), 3))
        elif len(found) == 2:
            session.send_content(b"x\r\n")
            session.end_content()
        sent += session.data_to_send()
    assert session.next_event() is NEED_DATA and session.ready
    kinds = [type(event) for event in found]
    assert kinds == [Greeted, SendContent, Sent]
    assert isinstance(found[2], Sent)
    assert [str(result.reply) for result in found[2].results] == ["550 5.1.1 no such user", "250 2.0.0 done"]
    assert sent == (
        b"EHLO client.example\r\nMAIL FROM:<a@client.example> SIZE=3\r\nRCPT TO:<b@mx.example>\r\n"
        b"RCPT TO:<c@mx.example>\r\nDATA\r\nx\r\n.\r\n"
    )


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_server_makes_it_raise_or_deliver_unsent_mail(segments: list[bytes]) -> None:
    session = greeted("PIPELINING")
    session.begin(ONE)
    for segment in segments:
        session.receive_data(segment)
        for event in events(session):
            assert not isinstance(event, Sent) or event.results[0].stage is not Stage.CONTENT


# ------------------------------------------------------------ extensions


def under_tls(*extensions: str) -> ClientSession:
    session = greeted("STARTTLS")
    session.start_tls()
    say(session, "220 go")
    session.tls_established()
    say(session, *[f"250-{word}" for word in ("mx.example", *extensions)], "250 8BITMIME")
    session.data_to_send()
    return session


def test_requiretls_is_not_believed_in_plaintext() -> None:
    secret = Outgoing(A, (B,), 10, requiretls=True)
    for session in (greeted("REQUIRETLS"), under_tls()):
        with pytest.raises(Unsendable) as caught:
            session.begin(secret)
        assert (caught.value.status, caught.value.recipient) == ("5.7.30", None)
    session = under_tls("REQUIRETLS")
    session.begin(secret)
    assert session.data_to_send() == b"MAIL FROM:<a@client.example> REQUIRETLS\r\n"


def test_what_needs_smtputf8_and_does_not_get_it() -> None:
    session = greeted("8BITMIME")
    jörg = Address("jörg", "mx.example")
    for outgoing, recipient in (
        (Outgoing(A, (B,), 10, smtputf8=True), None),
        (Outgoing(jörg, (B,), 10), None),
        (Outgoing(A, (B, Recipient(jörg)), 10), 1),
    ):
        with pytest.raises(Unsendable) as caught:
            session.begin(outgoing)
        assert (caught.value.status, caught.value.recipient) == ("5.6.7", recipient)


@pytest.mark.parametrize("value", ["a b", "a\r\nQUIT", "", "a\x00", "\u2028", "\udcff"])
def test_no_parameter_can_leave_its_place(value: str) -> None:
    session = greeted("DSN", "SMTPUTF8")
    for outgoing, recipient in (
        (Outgoing(A, (B,), 10, parameters=(("ENVID", value),)), None),
        (Outgoing(A, (B, Recipient(C.address, (("ORCPT", value),))), 10), 1),
    ):
        with pytest.raises(Unsendable) as caught:
            session.begin(outgoing)
        assert (caught.value.status, caught.value.recipient) == ("5.5.4", recipient)


@given(st.text(), st.text(), st.text(), st.booleans())
def test_whatever_is_sent_is_one_line_each(local_part: str, domain: str, value: str, utf8: bool) -> None:
    session = greeted("DSN", *(["SMTPUTF8"] if utf8 else []), "PIPELINING")
    recipient = Recipient(Address(local_part, domain), (("ORCPT", value),))
    try:
        session.begin(Outgoing(A, (recipient,), 1, parameters=(("ENVID", value),)))
    except Unsendable:
        return
    sent = session.data_to_send()
    assert utf8 or sent.isascii()
    lines = sent.decode("utf-8").split("\r\n")
    assert [line.partition(":")[0] for line in lines] == ["MAIL FROM", "RCPT TO", "DATA", ""]
    assert not any(line and not line.isprintable() for line in lines)


def test_limits_are_those_of_the_last_ehlo() -> None:
    session = greeted("LIMITS RCPTMAX=10 mailmax=3 RCPTDOMAINMAX=1 OTHER=x", "STARTTLS")
    assert session.limits == Limits(10, 3, 1)
    session.start_tls()
    say(session, "220 go")
    session.tls_established()
    assert session.limits == Limits()
    say(session, "250 mx.example")
    assert session.limits == Limits()
    session.begin(ONE)
    assert session.transactions == 1


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("mx.example.org Hello [192.0.2.1]", "mx.example.org"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("", ""),
        ("<script> at your service", ""),
        ("x" * 256, ""),
    ],
)
def test_what_the_server_calls_itself(line: str, name: str) -> None:
    event = say(ClientSession("client.example"), "220 hi", f"250 {line}")[-1]
    assert isinstance(event, Greeted) and event.name == name
