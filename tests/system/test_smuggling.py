"""SMTP smuggling: whatever looks like an end of data and is none, in every segmentation, over a real connection.

A message to ann, a sequence, a second transaction to victim hidden behind it, a true end. The table says what must
come back after the 354, to the last octet before the server closes; victim's mailbox stays empty.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House

HIDDEN = (
    b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@mx.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\nQUIT\r\n"
)
BODY = b"Subject: first\r\n\r\nhello"

BARE = ["550 5.5.2 bare CR or LF; lines end with CRLF only"]  # and the connection is closed
NUL = ["550 5.6.0 NUL in the message", "221 2.0.0 mx.test"]  # the hidden commands were content
SEQUENCES = {
    b"\n.\n": BARE,
    b"\n.\r\n": BARE,
    b"\r.\r": BARE,
    b"\r.\r\n": BARE,
    b"\r\n.\n": BARE,
    b"\r\n.\r": BARE,
    b"\r\n\0.\r\n": NUL,
    b"\r\0\n.\r\n": BARE,
    b"\r\n.\0\r\n": NUL,
    b"\r\n.\r\0\n": BARE,
    b"\r\r\n.\r\n": BARE,
    b"\r\n.\r\r\n": BARE,
    b"\n\n.\r\n": BARE,
    b"\n\r.\r\n": BARE,
    b"\r\n\n.\r\n": BARE,
    b"\r\n.\n\r\n": BARE,
    b"\r\n..\r\n": ["250 2.0.0 ok", "221 2.0.0 mx.test"],  # a stuffed dot: all of it is one message
    b"\r\n.\t\r\n": ["250 2.0.0 ok", "221 2.0.0 mx.test"],
    b"\x0b.\x0c\r\n": ["250 2.0.0 ok", "221 2.0.0 mx.test"],
    "\u2028.\u2028\r\n".encode(): ["250 2.0.0 ok", "221 2.0.0 mx.test"],
    b"\xc2\x85.\xc2\x85\r\n": ["250 2.0.0 ok", "221 2.0.0 mx.test"],
}


@pytest.fixture(scope="module")
def mx(standing_house: House) -> House:
    standing_house.mailbox("ann")
    standing_house.mailbox("victim")
    return standing_house.start()


def segmentations(sequence: bytes) -> Iterator[list[bytes]]:
    """Whole, by line, by octet, and with one cut at each place in and around the sequence."""
    data = BODY + sequence + HIDDEN
    yield [data]
    yield data.splitlines(keepends=True)
    yield [data[n : n + 1] for n in range(len(data))]
    for cut in range(len(BODY) - 1, len(BODY) + len(sequence) + 2):
        yield [data[:cut], data[cut:]]
    cuts = [0, *range(len(BODY), len(BODY) + len(sequence) + 1), len(data)]
    yield [data[begin:end] for begin, end in pairwise(cuts)]


def answers(mx: House, segments: list[bytes], tls: ssl.SSLContext | None = None) -> list[str]:
    with SmtpClient(mx.port) as client:
        if tls is None:
            client.command("EHLO client.test", 250)
        else:
            client.starttls(tls)
        client.command("MAIL FROM:<joe@client.test>", 250)
        client.command("RCPT TO:<ann@mx.test>", 250)
        client.command("DATA", 354)
        try:
            client.send_parts(*segments)
        except ConnectionError:
            pass  # closed while we were still talking
        return [strip_id(str(answer)) for answer in client.answers_to_end()]


def strip_id(answer: str) -> str:
    return "250 2.0.0 ok" if answer.startswith("250 2.0.0 ok ") else answer


@pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)
def test_nothing_hidden_is_executed(mx: House, sequence: bytes, anonymous: ssl.SSLContext) -> None:
    for segments in segmentations(sequence):
        assert answers(mx, segments) == SEQUENCES[sequence], segments
    assert answers(mx, [BODY + sequence + HIDDEN], anonymous) == SEQUENCES[sequence]
    assert mx.delivered("victim") == []
    assert "to=<victim@mx.test>" not in mx.log()


def test_a_true_end_is_one(mx: House) -> None:
    """The test can fail: a real CRLF.CRLF does begin a second transaction. To postmaster, not to victim."""
    hidden = HIDDEN.replace(b"victim", b"postmaster")
    for end, first in ((b"\r\n.\r\n", "250 2.0.0 ok"), (b"\0\r\n.\r\n", "550 5.6.0 NUL in the message")):
        before = len(mx.delivered())
        said = answers(mx, [BODY + end + hidden])
        assert [answer[:3] for answer in said] == [first[:3], "250", "250", "354", "250", "221"]
        assert said[0] == first
        mx.wait_for_mail(before + 1)


def test_a_command_behind_the_end_that_begins_with_nul(mx: House) -> None:
    said = answers(mx, [BODY + b"\r\n.\r\n\0" + HIDDEN])
    assert [answer[:3] for answer in said[:4]] == ["250", "500", "503", "503"]
    assert mx.delivered("victim") == []


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\n\r", b"\r\r\n"], ids=repr)
def test_commands_end_with_crlf_only(mx: House, line_end: bytes) -> None:
    with SmtpClient(mx.port) as client:
        client.command("EHLO client.test", 250)
        client.send(b"MAIL FROM:<joe@client.test>" + line_end + b"RCPT TO:<victim@mx.test>\r\nDATA\r\nx\r\n.\r\n")
        assert [str(answer) for answer in client.answers_to_end()] == BARE


def test_bdat_is_octets_not_lines(mx: House) -> None:
    """Inside a chunk CRLF.CRLF means nothing, and behind it the next command begins exactly there."""
    content = BODY + b"\r\n.\r\n" + HIDDEN
    with SmtpClient(mx.port) as client:
        client.command("EHLO client.test", 250)
        client.command("MAIL FROM:<joe@client.test>", 250)
        client.command("RCPT TO:<ann@mx.test>", 250)
        client.send(b"BDAT %d LAST\r\n" % len(content) + content + b"QUIT\r\n", size=7)
        assert [strip_id(str(answer)) for answer in client.answers_to_end()] == ["250 2.0.0 ok", "221 2.0.0 mx.test"]
    assert mx.delivered("victim") == []
