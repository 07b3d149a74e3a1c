"""Whatever a server says wherever one reply is due: what the client session makes of it, for each recipient."""

from __future__ import annotations

import pytest

from qmtls.delivery.outcome import Fate, judge_result
from qmtls.smtp.address import Address
from qmtls.smtp.client import ClientSession, Outgoing
from qmtls.smtp.client_lmtp import LmtpSession
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.events import Ended, Greeted, Result, SendContent, Sent, Signal
from tests.replies import SAID, STAGES, Kind, Said, Then, fates, perhaps_taken
from tests.smtp.client_dialogue import Cut, by_byte, by_line, whole

SENDER = Address("s", "client.example")
THREE = tuple(Recipient(Address(name, "mx.example")) for name in "abc")
LETTERS = {Fate.DELIVERED: "D", Fate.DEFERRED: "W", Fate.FAILED: "F"}
ODD_RECIPIENT = 1


class Server:
    """Answers as it should, but for one reply. It knows which recipients it may have taken the message for."""

    def __init__(self, pipelining: bool, lmtp: bool, stage: str, said: Said) -> None:
        self.stage, self.said, self.lmtp = stage, said, lmtp
        self.offer = b"250-there\r\n250 PIPELINING\r\n" if pipelining else b"250 there\r\n"
        self.refuses_all = stage == "RSET"  # the first transaction
        self.rest = b""
        self.in_content = False
        self.recipients: list[bytes] = []
        self.contents: list[bytes] = []  # ended by a dot, whatever was answered
        self.ends: Then | None = None
        self.over = False  # the odd reply was given

    def due(self, stage: str, good: bytes, odd: bool = True) -> bytes:
        """The reply at `stage`: the odd one if it is now."""
        if self.ends is not None:
            return b""
        if stage != self.stage or self.over or not odd:
            return good
        self.over = True
        if self.said.then is not Then.GO_ON:
            self.ends = self.said.then
        return self.said.octets

    def hears(self, data: bytes) -> bytes:
        self.rest += data
        answer = b""
        while b"\r\n" in self.rest and self.ends is None:
            line, _, self.rest = self.rest.partition(b"\r\n")
            answer += self.content_line(line) if self.in_content else self.command(line)
        return answer

    def content_line(self, line: bytes) -> bytes:
        if line != b".":
            return b""
        self.in_content = False
        self.contents.append(line)
        if not self.lmtp:
            return self.due("content", b"250 taken\r\n")
        return b"".join(self.due("content", b"250 taken\r\n", n == ODD_RECIPIENT) for n in range(len(self.recipients)))

    def command(self, line: bytes) -> bytes:
        match line[:4]:
            case b"EHLO" | b"LHLO":
                return self.due("EHLO", self.offer)
            case b"HELO":
                return b"250 there\r\n"
            case b"RSET":
                self.refuses_all = False
                return self.due("RSET", b"250 ok\r\n")
            case b"MAIL":
                self.recipients = []
                return self.due("MAIL", b"250 ok\r\n")
            case b"RCPT":
                if self.refuses_all:
                    return b"550 nobody\r\n"
                odd = line.startswith(b"RCPT TO:<b@")
                answer = self.due("RCPT", b"250 ok\r\n", odd)
                if answer.startswith(b"2"):
                    self.recipients.append(line)
                return answer
            case b"DATA":
                if not self.recipients:
                    return b"554 nobody\r\n"
                answer = self.due("DATA", b"354 go\r\n")
                self.in_content = answer.startswith(b"3")
                return answer
        return self.due("QUIT", b"221 bye\r\n")


def converse(session: ClientSession, server: Server, cut: Cut) -> tuple[Result, ...] | None:
    """One message, or two if the first is to be refused; the results of the last. None: no transaction began."""
    results: tuple[Result, ...] | None = None
    goal = 2 if server.refuses_all else 1
    said = server.due("greeting", b"220 there\r\n")
    while True:
        for piece in cut(said) or [b""]:
            session.receive_data(piece)
            while not isinstance(event := session.next_event(), Signal):
                match event:
                    case Greeted():
                        session.begin(Outgoing(SENDER, THREE, 9))
                    case SendContent():
                        session.send_content(b"hello\r\n")
                        session.end_content()
                    case Sent(results):
                        goal -= 1
                        if goal:
                            session.begin(Outgoing(SENDER, THREE, 9))
                        else:
                            session.quit()
                    case Ended():
                        return event.results or results
        said = server.hears(session.data_to_send())
        if not said:
            if server.ends in (Then.CLOSE, Then.RESET, Then.HALF):
                session.receive_eof()
            else:
                session.give_up("timed out")


@pytest.mark.parametrize("way", ["pipelined", "one by one", "LMTP"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_reply_at_every_stage(stage: str, way: str) -> None:
    for name in SAID:
        for cut in (whole, by_line, by_byte):
            if stage == "DATA" and SAID[name].kind is Kind.TOO_MUCH and cut is not whole:
                continue  # the content is out when the second reply comes: nobody can tell that it is no answer
            try:
                check(SAID[name], stage, way, cut)
            except AssertionError as wrong:
                raise AssertionError(f"{name}, {cut.__name__}: {wrong}") from wrong


def check(said: Said, stage: str, way: str, cut: Cut) -> None:
    lmtp = way == "LMTP"
    server = Server(way != "one by one", lmtp, stage, said)
    session = (LmtpSession if lmtp else ClientSession)("client.example")
    results = converse(session, server, cut)
    if results is None:
        assert stage in ("greeting", "EHLO")
        assert fates(stage, said, lmtp=lmtp) == "WWW"
        assert not server.recipients
        return
    outcomes = [judge_result(result, "there") for result in results]
    assert "".join(LETTERS[outcome.fate] for outcome in outcomes) == fates(stage, said, lmtp=lmtp)
    for n, outcome in enumerate(outcomes):
        assert outcome.reason.isascii() and outcome.reason.isprintable() and len(outcome.reason) < 2000
        doubt = outcome.fate is Fate.DEFERRED and perhaps_taken(stage, said, n, lmtp=lmtp)
        assert ("possible duplicate" in outcome.reason) is doubt, outcome.reason
    assert len(server.contents) <= 1
    if not server.contents:
        assert all(outcome.fate is not Fate.DELIVERED for outcome in outcomes)


# ---------------------------------------------------------------- replies before their command


@pytest.mark.parametrize("before", [[], ["250 ok"], ["250 ok", "550 5.1.1 a"], ["250 ok", "550 5.1.1 a", "250 b"]])
def test_a_reply_before_its_command_is_no_answer(before: list[str]) -> None:
    """One by one, each command goes out when the reply before it is there: a reply that has come already is another's,
    and so the one before it may be."""
    session = ClientSession("client.example")
    session.receive_data(b"220 there\r\n")
    session.next_event()
    session.receive_data(b"250 there\r\n")
    assert isinstance(session.next_event(), Greeted)
    session.begin(Outgoing(SENDER, THREE, 9))
    for line in before:
        session.receive_data(line.encode() + b"\r\n")
        session.next_event()
    session.data_to_send()
    session.receive_data(b"250 ok\r\n550 5.1.1 early\r\n")
    ended = session.next_event()
    assert isinstance(ended, Ended) and not session.data_to_send()
    assert all(result.reply is None for result in ended.results)


def test_421_may_come_at_any_time() -> None:
    session = ClientSession("client.example")
    session.receive_data(b"220 there\r\n")
    session.next_event()
    session.receive_data(b"250 there\r\n")
    session.next_event()
    session.begin(Outgoing(SENDER, THREE, 9))
    session.receive_data(b"250 ok\r\n421 4.3.2 closing\r\n")
    ended = session.next_event()
    assert isinstance(ended, Ended)
    assert [result.reply.code for result in ended.results if result.reply] == [421, 421, 421]


@pytest.mark.parametrize(
    ("rest", "code"), [(b"50 ok\r\n", 0), (b"52 5.3.4 too big\r\n", 552), (b"21 4.3.2 closing\r\n", 421)]
)
def test_a_reply_that_began_before_the_end_of_the_content(rest: bytes, code: int) -> None:
    """The final dot is not sent, so nobody can have the message."""
    session = ClientSession("client.example")
    for said in (b"220 there\r\n", b"250-there\r\n250 PIPELINING\r\n"):
        session.receive_data(said)
        session.next_event()
    session.begin(Outgoing(SENDER, THREE, 9))
    session.receive_data(b"250 ok\r\n" * 4 + b"354 go\r\n")
    assert isinstance(session.next_event(), SendContent)
    session.data_to_send()
    session.send_content(b"hello\r\n")
    session.receive_data({0: b"2", 552: b"5", 421: b"4"}[code])
    session.end_content()
    assert session.data_to_send() == b"hello\r\n"
    session.receive_data(rest)
    ended = session.next_event()
    assert isinstance(ended, Ended)
    assert {result.reply.code if result.reply else 0 for result in ended.results} == {code}
    assert not any("duplicate" in judge_result(result, "there").reason for result in ended.results)


def test_a_reply_too_many_makes_the_last_refusal_that_of_data() -> None:
    """c is refused, a and b are not; the server's go-ahead behind it tells that the count is wrong."""
    session = ClientSession("client.example")
    for said in (b"220 there\r\n", b"250-there\r\n250 PIPELINING\r\n"):
        session.receive_data(said)
        session.next_event()
    session.begin(Outgoing(SENDER, THREE, 9))
    session.receive_data(b"250 ok\r\n250 ok\r\n250 a\r\n250 b\r\n550 5.1.1 c\r\n354 go\r\n")
    ended = session.next_event()
    assert isinstance(ended, Ended)
    assert [result.reply for result in ended.results] == [None] * 3


def test_every_kind_is_there() -> None:
    assert {said.kind for said in SAID.values()} == set(Kind)
