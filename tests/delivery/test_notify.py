"""Who wants to be told of what."""

from __future__ import annotations

import pytest

from qmtls.delivery.dsn import DOUBLE_BOUNCE_SENDER
from qmtls.delivery.notify import DELAY, FAILURE, SUCCESS, is_from_a_list, to_be_confirmed, wants
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient

BOB = Address("bob", "x.example")


@pytest.mark.parametrize(
    ("notify", "failure", "success"),
    [
        (None, True, False),
        ("NEVER", False, False),
        ("FAILURE", True, False),
        ("SUCCESS", False, True),
        ("success,delay", False, True),
        ("DELAY,SUCCESS,FAILURE", True, True),
        ("DELAY", False, False),
    ],
)
def test_notify(notify: str | None, failure: bool, success: bool) -> None:
    parameters = (("ORCPT", "rfc822;x"), *((("NOTIFY", notify),) if notify else ()))
    bob = Recipient(BOB, parameters)
    assert (wants(bob, FAILURE), wants(bob, SUCCESS)) == (failure, success)
    envelope = Envelope(Address("a", "b.example"), (Recipient(BOB), bob), Arrival(1.0))
    assert (to_be_confirmed(envelope, 0), to_be_confirmed(envelope, 1)) == (False, success)
    assert wants(bob, DELAY) == (notify is None or "DELAY" in notify.upper())


@pytest.mark.parametrize("sender", [None, DOUBLE_BOUNCE_SENDER])
def test_nobody_waits_for_news_of_a_report(sender: Address | None) -> None:
    envelope = Envelope(sender, (Recipient(BOB, (("NOTIFY", "SUCCESS"),)),), Arrival(1.0))
    assert not to_be_confirmed(envelope, 0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"List-Id: <x.example>\r\n\r\n", True),
        (b"A: b\r\nlist-id : x\r\n\r\nbody", True),
        (b"A: b\r\nPrecedence: bulk\r\nB: c\r\n\r\n", True),
        (b"PRECEDENCE:\tList\r\n\r\n", True),
        (b"Precedence: junk \r\n\r\n", True),
        (b"Precedence: first-class\r\n\r\n", False),
        (b"Precedence: listless\r\n\r\n", False),
        (b"X-List-Id: x\r\nSubject: List-Id: x\r\n\r\n", False),
        (b"A: b\r\n\r\nList-Id: <x.example>\r\n", False),
        (b"\r\nList-Id: <x.example>\r\n\r\n", False),
        (b"", False),
    ],
)
def test_lists(content: bytes, expected: bool) -> None:
    assert is_from_a_list(content) is expected
