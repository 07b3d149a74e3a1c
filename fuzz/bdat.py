# Invariant: messages sent in chunks of any sizes arrive octet for octet or are refused, those that have no fault always
# arrive, and nothing in a chunk is ever taken for a command, however the stream was cut.
"""Fuzz target: BDAT from the client's side (qmtls/smtp/server_content.py, qmtls/smtp/intake.py).

The input makes a well-formed session: its first octet says how that is cut, the next ones how the messages behind them
are divided into chunks. What happens to BDATs that are not well formed is the target `session`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from fuzz.harness import main
from qmtls.smtp.content import MAX_CONTENT_LINE
from qmtls.smtp.events import Closed, Content, ContentEnd, DataStart, MailFrom, RcptTo, Signal
from qmtls.smtp.reply import reply
from qmtls.smtp.server import GO_AHEAD, ServerConfig, ServerSession

CONFIG = ServerConfig("mx.example", "mx.example ESMTP", max_size=150, max_errors=0, max_commands=0)
OK = reply(250, "2.0.0", "ok")
BETWEEN = b"\xff\xfe"  # two messages
MOST_MESSAGES = 3
LONGEST = 200  # octets of one; more than CONFIG takes

SEEDS = (
    b"\x00\x01\x05Subject: x\r\n\r\n.\r\n..\r\nMAIL FROM:<evil@x>\r\n",
    b"\x03\x02\x01\x07\r\n\r\n\r\n" + BETWEEN + b"QUIT\r\n.\r\nRSET\r\n",
    b"\x01\x03\x00\x10\x01bare\nLF" + BETWEEN + b"good\r\n" + BETWEEN + b"bare\rCR\r\n",
    b"\x05\x01\x3fa\0b\r\n" + BETWEEN + b"x" * 180 + BETWEEN + b"no line end",
)


def chunks(message: bytes, ruler: bytes) -> Iterator[bytes]:
    """BDAT commands with their octets: as long as the ruler says, the last one empty or not."""
    begin = 0
    for length in cycle(ruler):
        piece = message[begin : begin + length % 64 + 1]
        begin += len(piece)
        last = begin == len(message) and (length < 128 or not piece)
        yield b"BDAT %d%s\r\n%s" % (len(piece), b" LAST" * last, piece)
        if last:
            return


def is_clean(message: bytes) -> bool:
    """Nothing that a server may refuse."""
    rest = message.replace(b"\r\n", b"")
    return (
        not {*rest} & {*b"\r\n\0"}
        and len(message) <= CONFIG.max_size
        and max(map(len, message.split(b"\r\n"))) <= MAX_CONTENT_LINE
        and message.lower().count(b"received") + message.lower().count(b"delivered-to") < 20
    )


def talk(parts: list[bytes]) -> tuple[list[str], list[bytes], bytes]:
    """The senders, the messages taken, and all replies."""
    session, content, senders, taken, said = ServerSession(CONFIG), b"", list[str](), list[bytes](), b""
    for part in parts:
        session.receive_data(part)
        while not isinstance(event := session.next_event(), Signal):
            match event:
                case MailFrom(transaction):
                    senders.append(str(transaction.reverse_path))
                    session.answer(OK)
                case RcptTo():
                    session.answer(OK)
                case DataStart():
                    content = b""
                    session.answer(GO_AHEAD)
                case Content(data):
                    content += data
                case ContentEnd(size):
                    assert size == len(content)
                    taken.append(content)
                    session.answer(OK)
                case Closed():
                    return senders, taken, said + session.data_to_send()
        said += session.data_to_send()
    return senders, taken, said


def target(data: bytes) -> None:
    size = data[1] % 8 + 1 if len(data) > 1 else 1
    ruler, text = data[2 : 2 + size] or b"\x10", data[2 + size :]
    messages = [message[:LONGEST] for message in text.split(BETWEEN)[:MOST_MESSAGES]]
    stream = b"EHLO c\r\n"
    for number, message in enumerate(messages):
        stream += b"MAIL FROM:<m%d@c>\r\nRCPT TO:<a@b>\r\n" % number + b"".join(chunks(message, ruler))
    stream += b"QUIT\r\n"
    senders, taken, said = talk([stream])
    step = data[0] + 1 if data else 1
    assert (senders, taken, said) == talk([stream[begin : begin + step] for begin in range(0, len(stream), step)])
    assert senders == [f"m{number}@c" for number in range(len(senders))]
    clean = [message for message in messages if is_clean(message)]
    assert all(message in messages for message in taken)
    if len(clean) == len(messages):
        assert taken == messages and senders == [f"m{number}@c" for number in range(len(messages))]
        assert said.endswith(b"221 2.0.0 mx.example\r\n")
    elif taken != clean:  # a bare CR or LF ends the session
        assert taken == clean[: len(taken)] and b"\r\n550 " in said


if __name__ == "__main__":
    main(target, SEEDS)
