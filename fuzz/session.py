# Invariant: nothing that a client sends raises; replies are well formed; replies and accepted messages are the same
# however the stream was cut; an accepted message has CR and LF only as CRLF; after Closed nothing is said.
"""Fuzz target: the whole server session, DATA, BDAT and AUTH, in plaintext and under TLS (qmtls/smtp/server.py).

The first octet also says whether it is a session under TLS, or one in plaintext that offers STARTTLS, or neither.
"""

from __future__ import annotations

import re
from dataclasses import replace

from fuzz.harness import main, pieces
from qmtls.smtp.events import Authenticate, Closed, Content, ContentEnd, DataStart, MailFrom, RcptTo, Signal, StartTls
from qmtls.smtp.reply import reply
from qmtls.smtp.server import GO_AHEAD, ServerConfig, ServerSession

CONFIG = ServerConfig("mx.example", "mx.example ESMTP", max_size=500, max_recipients=5, max_commands=20)
TLS = replace(CONFIG, tls_first=True, submission=True)
STARTTLS = replace(CONFIG, starttls=True)
UNDER_TLS = 0x80  # in the first octet
OFFERS_TLS = 0x40
MECHANISMS = ("EXTERNAL", "PLAIN", "LOGIN")
OK = reply(250, "2.0.0", "ok")
REPLIES = re.compile(rb"(?:[2-5][0-9][0-9][ -][ -~]*\r\n)*")

ENVELOPE = b"EHLO a\r\nMAIL FROM:<a@b> SIZE=9\r\nRCPT TO:<c@d>\r\n"
SEEDS = (
    b"\x00" + ENVELOPE + b"DATA\r\n..x\r\n.\r\nQUIT\r\n",
    b"\x00" + ENVELOPE + b"BDAT 3\r\na\r\nBDAT 2 LAST\r\nb\nRSET\r\n",
    b"\x05" + ENVELOPE + b"DATA\r\na\n.\r\nMAIL FROM:<e@f>\r\n.\r\nNOOP\r\n",
    b"\x00BDAT 5 LAST\r\nhelloSTARTTLS\r\nVRFY x\r\nHELP\r\n",
    b"\x83" + b"EHLO a\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@b> REQUIRETLS RET=HDRS ENVID=a+2B\r\nRSET\r\n",
    b"\x81" + b"EHLO a\r\nAUTH LOGIN\r\nYQ==\r\n*\r\nAUTH LOGIN YQ==\r\nYg==\r\nAUTH EXTERNAL =\r\n",
    b"\x40" + b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<injected@b>\r\n",
    b"\x40" + b"EHLO a\r\nNOOP\r\nSTARTTLS\r\n",
    b"\x10" + ENVELOPE + b"RCPT TO:<e@f> NOTIFY=NEVER ORCPT=rfc822;e@f\r\nMAIL FROM:<>\r\nDATA x\r\nBDAT x\r\n",
    b"\x80EHLO a\r\nAUTH PLAIN\r\nAGEAYg==\r\nMAIL FROM:<a@b> REQUIRETLS SMTPUTF8 RET=HDRS ENVID=x\r\n",
    b"\x81EHLO a\r\nAUTH LOGIN YQ==\r\n*\r\nAUTH EXTERNAL =\r\nNOOP\r\n",
    b"\x80" + ENVELOPE + b"RCPT TO:<e@f> NOTIFY=NEVER ORCPT=rfc822;a+2Bb\r\nDATA\r\n.\r\n",
)


def talk(parts: list[bytes], config: ServerConfig) -> tuple[bytes, list[bytes]]:
    """All replies, and the messages taken."""
    session, said, content, taken = ServerSession(config), b"", b"", list[bytes]()
    if config.tls_first:
        session.tls_established(MECHANISMS)
    for part in parts:
        session.receive_data(part)
        while not isinstance(event := session.next_event(), Signal):
            match event:
                case Content(data):
                    content += data
                case MailFrom() | RcptTo() | Authenticate():
                    session.answer(OK)
                case DataStart():
                    content = b""
                    session.answer(GO_AHEAD)
                case ContentEnd(size):
                    assert size == len(content) <= config.max_size
                    taken.append(content)
                    session.answer(OK)
                case StartTls():
                    assert not session.buffered and session.data_to_send().endswith(b"220 ready for tls\r\n")
                    session.tls_established(MECHANISMS)
                case Closed():
                    return said + session.data_to_send(), taken
        said += session.data_to_send()
    return said, taken


def target(data: bytes) -> None:
    stream, parts = pieces(data)
    mode = data[0] if data else 0
    if mode & OFFERS_TLS and not mode & UNDER_TLS:
        said, taken = talk([stream], STARTTLS)  # whatever is behind STARTTLS in one piece with it was injected
        check(said, taken)
        return
    config = TLS if mode & UNDER_TLS else CONFIG
    said, taken = talk([stream], config)
    assert (said, taken) == talk(parts, config)
    check(said, taken)


def check(said: bytes, taken: list[bytes]) -> None:
    assert REPLIES.fullmatch(said)
    for content in taken:
        assert not {*content.replace(b"\r\n", b"")} & {*b"\r\n\0"}


if __name__ == "__main__":
    main(target, SEEDS)
