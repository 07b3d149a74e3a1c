"""Reports in qmail's format, read as the QSBMF memo tells its readers to."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.qsbmf import compose, double_bounce
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient
from tests.delivery.test_dsn import BOB, CONTENT, EVE, NO_TLS, REFUSED, REPORT, SENDER


def parse(content: bytes) -> tuple[list[str], dict[str, str], bytes]:
    """Header lines, recipients with their paragraphs, and what is behind the break."""
    head, _, body = content.partition(b"\r\n\r\n")
    assert body.startswith(b"Hi. This is the")
    found: dict[str, str] = {}
    position = 0
    for paragraph in re.finditer(rb"(.*?)\r\n\r\n", body, re.DOTALL):
        text = paragraph[1].decode()
        position = paragraph.end()
        if text.startswith("-"):
            break
        if text.startswith("<"):
            first, _, rest = text.partition("\r\n")
            found[first] = rest
    return head.decode().split("\r\n"), found, body[position:]


def test_a_failure() -> None:
    envelope, content = compose(REPORT)
    assert (envelope.reverse_path, envelope.recipients[0].address) == (None, SENDER)
    head, about, rest = parse(content)
    assert "To: alice@client.example" in head and "From: MAILER-DAEMON@here.example" in head
    assert "Subject: failure notice" in head and "Auto-Submitted: auto-replied" in head
    assert about == {
        "<bob@x.example>:": f"{REFUSED.reason} (#5.1.1)",
        "<eve@y.example>:": f"{NO_TLS.reason} (#4.7.5)",
    }
    assert rest == b"Return-Path: <alice@client.example>\r\n" + CONTENT
    assert b"--- Below this line is a copy of the message." in content


@pytest.mark.parametrize(
    "report", [replace(REPORT, cut=True), replace(REPORT, envelope=replace(REPORT.envelope, requiretls=True))]
)
def test_a_large_or_guarded_message_comes_back_as_its_header(report: type(REPORT)) -> None:  # type: ignore[valid-type]
    _, content = compose(report)
    assert parse(content)[2].endswith(b"Subject: hello\r\n")
    assert b"the header of the message" in content and b"Body." not in content


def test_a_double_bounce() -> None:
    bounced = replace(REPORT, envelope=replace(REPORT.envelope, reverse_path=None))
    envelope, content = double_bounce(bounced, "postmaster", "here.example")
    assert (str(envelope.reverse_path), str(envelope.recipients[0].address)) == ("#@[]", "postmaster@here.example")
    assert b"--- Below this line is the original bounce." in content
    assert parse(content)[2].startswith(b"Return-Path: <>\r\n")
    with pytest.raises(ValueError, match="report"):
        compose(bounced)
    with pytest.raises(ValueError, match="dropped"):
        double_bounce(replace(REPORT, envelope=envelope), "postmaster", "here.example")


def test_eight_bit_content_is_declared() -> None:
    assert compose(replace(REPORT, content="Subject: ü\r\n\r\n".encode()))[0].body == "8BITMIME"
    assert compose(REPORT)[0].body == "7BIT"


@given(st.text(), st.text())
def test_no_word_begins_a_paragraph(local: str, reason: str) -> None:
    outcome = Outcome(Fate.FAILED, reason, "5.0.0")
    evil = Recipient(Address(local, "x.example"))
    head, about, rest = parse(compose(replace(REPORT, about=((evil, outcome), (BOB, REFUSED), (EVE, NO_TLS))))[1])
    assert len(head) == 6 and len(about) == 3 - (local in ("bob",))
    assert rest.startswith(b"Return-Path: <alice@client.example>\r\n")
