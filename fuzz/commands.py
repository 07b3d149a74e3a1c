# Invariant: any line gives a command; any argument gives a value or a CommandError with a 5xx reply of printable
# ASCII on one line; no value holds a control character.
"""Fuzz target: commands and their arguments (qmtls/smtp/commands.py)."""

from __future__ import annotations

from fuzz.harness import main
from qmtls.smtp import commands, parameters
from qmtls.smtp.commands import Chunk
from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import RcptTo, Transaction

SEEDS = (
    b"EHLO client.example",
    b"MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME",
    b'MAIL FROM:<"a b"@[IPv6:::1]>',
    b"RCPT TO:<@a.example,@b.example:c@d.example>",
    "RCPT TO:<jürgen@bücher.example>".encode(),
    b"RCPT TO:<Postmaster>",
    b"MAIL FROM:<a@b.example> SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+2Bb AUTH=<>",
    b"RCPT TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c",
    "RCPT TO:<ü@b.example> NOTIFY=NEVER ORCPT=utf-8;ü\\x{2B}\\x{1F600}@b".encode(),
    "VRFY ü SMTPUTF8".encode(),
    b"BDAT 100 LAST",
)


def mail(argument: bytes) -> Transaction:
    return commands.mail(argument, parameters.of_mail(esmtp=True, tls=True, auth=True))


def recipient(argument: bytes) -> RcptTo:
    return commands.recipient(argument, parameters.of_rcpt(esmtp=True))


def smtputf8_recipient(argument: bytes) -> RcptTo:
    return commands.recipient(argument, parameters.of_rcpt(esmtp=True, smtputf8=True), smtputf8=True)


PARSERS = (mail, recipient, smtputf8_recipient, commands.chunk, commands.hello, commands.text, commands.verify)


def target(data: bytes) -> None:
    _, argument = commands.parse(data)
    for parser in PARSERS:
        try:
            check(parser(argument))
        except CommandError as error:
            wire = error.reply.encode()
            assert 500 <= error.reply.code <= 599
            assert wire.endswith(b"\r\n") and all(0x20 <= octet < 0x7F for octet in wire[:-2])


def check(value: Transaction | RcptTo | Chunk | str | None) -> None:
    match value:
        case Transaction(reverse_path, body, size, smtputf8, _, pairs):
            text = f"{reverse_path or ''}{body}{pairs}"
            assert size is None or 0 <= size < 10**20
            assert smtputf8 or text.isascii()
            assert all(parameters.of_mail(esmtp=True)[key].takes(value) for key, value in pairs)
        case RcptTo(address, pairs):
            text = f"{address}{pairs}"
        case str():
            text = value
        case _:
            return
    assert text.isprintable()


if __name__ == "__main__":
    main(target, SEEDS)
