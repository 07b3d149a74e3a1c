# Invariant: nothing that a client sends raises; replies are well formed; replies and accepted messages are the same
# however the stream was cut; an accepted message has CR and LF only as CRLF; after Closed nothing is said.
"""Fuzz target: the whole server session, DATA and BDAT (qmtls/smtp/server.py)."""

from __future__ import annotations

import re

from fuzz.harness import main, pieces
from qmtls.smtp.events import Closed, Content, ContentEnd, DataStart, MailFrom, RcptTo, Signal
from qmtls.smtp.reply import reply
from qmtls.smtp.server import GO_AHEAD, ServerConfig, ServerSession

CONFIG = ServerConfig("mx.example", "mx.example ESMTP", max_size=500)
OK = reply(250, "2.0.0", "ok")
REPLIES = re.compile(rb"(?:[2-5][0-9][0-9][ -][ -~]*\r\n)*")

ENVELOPE = b"EHLO a\r\nMAIL FROM:<a@b> SIZE=9\r\nRCPT TO:<c@d>\r\n"
SEEDS = (
    b"\x00" + ENVELOPE + b"DATA\r\n..x\r\n.\r\nQUIT\r\n",
    b"\x00" + ENVELOPE + b"BDAT 3\r\na\r\nBDAT 2 LAST\r\nb\nRSET\r\n",
    b"\x05" + ENVELOPE + b"DATA\r\na\n.\r\nMAIL FROM:<e@f>\r\n.\r\nNOOP\r\n",
    b"\x00BDAT 5 LAST\r\nhelloSTARTTLS\r\nVRFY x\r\nHELP\r\n",
)


def talk(parts: list[bytes]) -> tuple[bytes, list[bytes]]:
    session, said, content, taken = ServerSession(CONFIG), b"", b"", list[bytes]()
    for part in parts:
        session.receive_data(part)
        while not isinstance(event := session.next_event(), Signal):
            match event:
                case Content(data):
                    content += data
                case MailFrom() | RcptTo():
                    session.answer(OK)
                case DataStart():
                    content = b""
                    session.answer(GO_AHEAD)
                case ContentEnd(size):
                    assert size == len(content) <= CONFIG.max_size
                    taken.append(content)
                    session.answer(OK)
                case Closed():
                    return said + session.data_to_send(), taken
        said += session.data_to_send()
    return said, taken


def target(data: bytes) -> None:
    stream, parts = pieces(data)
    said, taken = talk([stream])
    assert (said, taken) == talk(parts)
    assert not said or REPLIES.fullmatch(said)
    for content in taken:
        assert not {*content.replace(b"\r\n", b"")} & {*b"\r\n\0"}


if __name__ == "__main__":
    main(target, SEEDS)
