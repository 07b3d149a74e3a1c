"""Command lines to verbs and arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp import commands, parameters
from qmtls.smtp.address import Address
from qmtls.smtp.commands import Chunk, Verb
from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import RcptTo, Transaction

SENDER = Address("a", "b.example")
MAIL = parameters.of_mail(esmtp=True)
RCPT = parameters.of_rcpt(esmtp=True)


def mail(argument: bytes) -> Transaction:
    return commands.mail(argument, MAIL)


def recipient(argument: bytes) -> RcptTo:
    return commands.recipient(argument, RCPT)


def utf8_recipient(argument: bytes) -> RcptTo:
    return commands.recipient(argument, parameters.of_rcpt(esmtp=True, smtputf8=True), smtputf8=True)


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"NOOP", Verb.NOOP, b""),
        (b"nOoP  x ", Verb.NOOP, b"x"),
        (b"DATA\t ", Verb.DATA, b""),
        (b"MAIL\tFROM:<>", Verb.MAIL, b"FROM:<>"),
        (b"MAIL FROM:<a@b>  SIZE=1 ", Verb.MAIL, b"FROM:<a@b>  SIZE=1"),
        (b"", Verb.UNKNOWN, b""),
        (b" NOOP", Verb.UNKNOWN, b"NOOP"),
        (b"\0RSET", Verb.UNKNOWN, b""),
        (b"NOOP\0", Verb.UNKNOWN, b""),
        (b"\xff\xfe\x80", Verb.UNKNOWN, b""),
        (b"MAILFROM:<a@b>", Verb.UNKNOWN, b""),
        (b"UNKNOWN", Verb.UNKNOWN, b""),
        (b"__class__", Verb.UNKNOWN, b""),
        (b"post / HTTP/1.1", Verb.HTTP, b"/ HTTP/1.1"),
        (b"ETRN x", Verb.UNIMPLEMENTED, b"x"),
    ],
)
def test_verbs(line: bytes, verb: Verb, argument: bytes) -> None:
    found = commands.parse(line)
    assert found.verb is verb
    if verb is not Verb.UNKNOWN:
        assert found.argument == argument


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        (b"FROM:<>", Transaction(None)),
        (b"from: <a@b.example>", Transaction(SENDER)),
        (b"FROM:<a@b.example> SIZE=0", Transaction(SENDER, size=0)),
        (b"FROM:<a@b.example> size=100000000000 body=8bitmime", Transaction(SENDER, body="8BITMIME", size=10**11)),
        (b"FROM:<a@b.example>\tBODY=7BIT", Transaction(SENDER)),
        (b'FROM:<"x> SIZE=1"@b.example>', Transaction(Address('"x> SIZE=1"', "b.example"))),
        (b"FROM:<@c.example,@d.example:a@b.example>", Transaction(SENDER)),
    ],
)
def test_mail(argument: bytes, wanted: Transaction) -> None:
    assert mail(argument) == wanted


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        (b"", 501, "5.5.4"),
        (b"FROM:", 501, "5.5.4"),
        (b"FROM:a@b", 501, "5.5.4"),
        (b"TO:<a@b>", 501, "5.5.4"),
        (b"FROM:<a@b", 501, "5.5.4"),
        (b"FROM:<a@b>x", 501, "5.5.4"),
        (b'FROM:<"a>', 501, "5.5.4"),
        (b"FROM:<<a@b>>", 501, "5.5.4"),
        (b"FROM:<a>", 501, "5.1.7"),
        (b"FROM:<postmaster>", 501, "5.1.7"),
        (b"FROM:<a@@b>", 501, "5.1.7"),
        (b"FROM:<a\0@b>", 501, "5.1.7"),
        (b"FROM:<@c@d:a@b>", 501, "5.1.7"),
        (b"FROM:<@c d:a@b>", 501, "5.1.7"),
        (b"FROM:<@c:>", 501, "5.1.7"),
        (b"FROM:<" + b"x" * 300 + b"@b>", 501, "5.1.7"),
        (b"FROM:<\xc3\xbc@b>", 553, "5.6.7"),
        (b"FROM:<\xff@b>", 553, "5.6.7"),
        (b"FROM:<a@b> SIZE=-1", 501, "5.5.4"),
        (b"FROM:<a@b> SIZE=abc", 501, "5.5.4"),
        (b"FROM:<a@b> SIZE=1e3", 501, "5.5.4"),
        (b"FROM:<a@b> SIZE=100000000000000000000000", 501, "5.5.4"),
        (b"FROM:<a@b> SIZE=\xd9\xa1", 501, "5.5.4"),
        (b"FROM:<a@b> SIZE", 501, "5.5.4"),
        (b"FROM:<a@b> SIZE=1 SIZE=2", 501, "5.5.4"),
        (b"FROM:<a@b> SIZE=1\x0bBODY=7BIT", 501, "5.5.4"),
        (b"FROM:<a@b> =x", 501, "5.5.4"),
        (b"FROM:<a@b> garbage here", 555, "5.5.4"),
        (b"FROM:<a@b> FOO=bar", 555, "5.5.4"),
        (b"FROM:<a@b> BODY=xx", 555, "5.5.4"),
        (b"FROM:<a@b> BODY=BINARYMIME", 555, "5.5.4"),
        (b"FROM:<a@b> SMTPUTF8=yes", 501, "5.5.4"),
        (b"FROM:<\xff@b> SMTPUTF8", 501, "5.1.7"),
        ("FROM:<ü\u2028@b> SMTPUTF8".encode(), 501, "5.1.7"),
        (b"FROM:<a@b> REQUIRETLS", 555, "5.5.4"),
        (b"FROM:<a@b> AUTH=<>", 555, "5.5.4"),
        (b"FROM:<a@b> RET=BODY", 501, "5.5.4"),
        (b"FROM:<a@b> NOTIFY=NEVER", 555, "5.5.4"),
    ],
)
def test_bad_mail(argument: bytes, code: int, status: str) -> None:
    with pytest.raises(CommandError) as error:
        mail(argument)
    assert (error.value.reply.code, error.value.reply.status) == (code, status)


def test_rcpt() -> None:
    assert recipient(b"TO:<a@b.example>") == RcptTo(SENDER)
    assert recipient(b"to:<POSTmaster>") == RcptTo(Address("postmaster", ""))
    assert recipient(b"to:<POSTmaster> NOTIFY=never") == RcptTo(Address("postmaster", ""), (("NOTIFY", "NEVER"),))
    assert utf8_recipient("TO:<ü@b>".encode()) == RcptTo(Address("ü", "b"))
    with pytest.raises(CommandError) as error:
        utf8_recipient("TO:<ü@b> ORCPT=utf-8;".encode() + b"\xff@b")
    assert error.value.reply.code == 501
    with pytest.raises(CommandError) as error:
        commands.recipient(b"TO:<a@b> NOTIFY=NEVER", parameters.of_rcpt(esmtp=False))
    assert error.value.reply.code == 555


def test_what_the_next_hop_gets() -> None:
    known = parameters.of_mail(esmtp=True, tls=True, auth=True)
    found = commands.mail(
        "FROM:<ü@b.example> smtputf8 requiretls ret=hdrs envid=Q+2B auth=a+40b size=1".encode(), known
    )
    assert found == Transaction(
        Address("ü", "b.example"),
        size=1,
        smtputf8=True,
        requiretls=True,
        parameters=(("RET", "HDRS"), ("ENVID", "Q+2B")),
    )


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"", 0),
        (b"alice", 0),
        (b"al\0ice", 501),
        ("ü".encode(), 553),
        ("ü SMTPUTF8x".encode(), 553),
        ("ü smtputf8".encode(), 0),
        (b"\xff SMTPUTF8", 501),
        ("ü\u2028 SMTPUTF8".encode(), 501),
    ],
)
def test_vrfy(argument: bytes, code: int) -> None:
    if not code:
        commands.verify(argument)
        return
    with pytest.raises(CommandError) as error:
        commands.verify(argument)
    assert error.value.reply.code == code


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        (b"TO:<>", 501, "5.1.3"),
        (b"TO:<u@@d>", 501, "5.1.3"),
        (b"TO:<u@d", 501, "5.5.4"),
        (b"TO:<u@d>x", 501, "5.5.4"),
        (b"TO: u@d", 501, "5.5.4"),
        (b'TO:<"a', 501, "5.5.4"),
        (b'TO:<"a>', 501, "5.5.4"),
        (b"TO:<" + b"x" * 65 + b"@d>", 501, "5.1.3"),
        (b"TO:<a\tb@d>", 501, "5.1.3"),
        (b"TO:<a\x0b@d>", 501, "5.1.3"),
        (b"TO:<\xff@d>", 553, "5.6.7"),
        (b"TO:<u@d> NOTIFY=ALWAYS", 501, "5.5.4"),
        (b"TO:<u@d> RET=FULL", 555, "5.5.4"),
        (b"TO:<u@d> ORCPT=utf-8;\xc3\xbc@d", 501, "5.5.4"),
    ],
)
def test_bad_rcpt(argument: bytes, code: int, status: str) -> None:
    with pytest.raises(CommandError) as error:
        recipient(argument)
    assert (error.value.reply.code, error.value.reply.status) == (code, status)


def test_chunk() -> None:
    assert commands.chunk(b"0") == Chunk(0, False)
    assert commands.chunk(b"86400 last") == Chunk(86400, True)
    for argument in (b"", b"x", b"-1", b"1 LAST LAST", b"1LAST", b"1 FIRST", b"1" * 21, b"+1", b"\xd9\xa1"):
        with pytest.raises(CommandError):
            commands.chunk(argument)


def test_hello() -> None:
    assert commands.hello(b"client.example") == "client.example"
    assert commands.hello(b"[IPv6:::1]") == "[IPv6:::1]"
    for argument in (b"", b"a\0b", b"a\tb", b"a\x0bb", b"a\x85", b"\xe2\x80\xa8", b"x" * 256):
        with pytest.raises(CommandError) as error:
            commands.hello(argument)
        assert error.value.reply.code == 501


@given(st.binary(max_size=200))
def test_any_line_gives_a_command_or_a_reply(line: bytes) -> None:
    _, argument = commands.parse(line)
    for parser in (mail, recipient, utf8_recipient, commands.chunk, commands.hello, commands.text, commands.verify):
        for text in (argument, b"FROM:<" + argument, b"TO:<a@b> " + argument):
            try:
                parser(text)
            except CommandError as error:
                assert 500 <= error.reply.code < 560
                assert error.reply.text.isascii() and error.reply.text.isprintable()


def test_a_hostile_path_costs_one_pass() -> None:
    for text in (b'FROM:<"' * 3000, b'FROM:<"a"' * 200, b'FROM:<"' + b"\\" * 20001, b"FROM:<@a," + b"@a," * 5000):
        with pytest.raises(CommandError):
            mail(text)
