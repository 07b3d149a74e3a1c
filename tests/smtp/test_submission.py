"""What is added to submitted mail, and what is left alone."""

from __future__ import annotations

from email import message_from_bytes

import pytest

from qmtls.smtp.header import MAX_HEADER, HeaderScan
from qmtls.smtp.submission import missing_fields

DATE = b"Date: Fri, 2 Jan 2026 03:04:05 +0000\r\n"
ID = b"Message-ID: <q1@mx.example>\r\n"


def added(content: bytes) -> bytes:
    scan = HeaderScan()
    if not scan.feed(content):
        scan.finish()
    return missing_fields(scan, time=1767323045.9, id="q1", host="mx.example")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"From: a\r\nSubject: x\r\n\r\nDate: in the body\r\n", DATE + ID),
        (b"dATE: x\r\n\r\n", ID),
        (b"message-ID: <1@b>\r\n\r\n", DATE),
        (b"Message-Id:\r\n <1@b>\r\nDate : x\r\n\r\n", b""),
        (b"\r\nbody\r\n", DATE + ID),
        (b"", DATE + ID),
        (b"Resent-Date: x\r\nResent-Message-ID: <1@b>\r\n\r\n", DATE + ID),
        (b"X: " + b"y" * MAX_HEADER + b"\r\n\r\n", b""),
    ],
)
def test_what_is_added(content: bytes, wanted: bytes) -> None:
    assert added(content) == wanted


def test_what_is_added_is_read_as_fields() -> None:
    content = b"Subject: x\r\n\r\nbody\r\n"
    message = message_from_bytes(added(content) + content)
    assert message.keys() == ["Date", "Message-ID", "Subject"]
    assert message.get_payload() == "body\r\n"
