"""What the sender is told about mail that could not be delivered, and the postmaster about reports that could not."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all

ORIGINAL = b"Subject: =?utf-8?q?caf=C3=A9?=\r\nFrom: postmaster@mx.test\r\nTo: bob@dest.test\r\n\r\nhello\r\n.dots\r\n"
UNKNOWN = Do(b"550 5.1.1 <bob@dest.test>: nobody here\r\n")


def parsed(message: bytes) -> EmailMessage:
    found = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_the_local_sender_gets_a_report(house: House) -> None:
    with FakeMx({"RCPT": [UNKNOWN, Do()]}) as mx:
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}").start()
        (id,) = hand_in(house, "bob@dest.test", "carol@dest.test", sender="postmaster@mx.test", contents=[ORIGINAL])
        (stored,) = house.wait_for_mail()
        (message,) = mx.messages
    assert message.recipients == ("carol@dest.test",)
    house.wait_for_empty_queue()

    report = parsed(stored)
    assert report["Return-Path"] == "<>"
    assert report["To"] == "postmaster@mx.test"
    assert report["Auto-Submitted"] == "auto-replied"
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    assert not report.defects
    text, status, returned = report.iter_parts()
    for word in ("bob@dest.test", "nobody here", "127.0.0.1"):
        assert word in text.get_content()
    about, recipient = (EmailMessage.items(part) for part in status.get_payload())  # type: ignore[arg-type]
    assert dict(about)["Reporting-MTA"] == "dns; mx.test"
    assert dict(about)["X-Qmtls-Queue-Id"] == id
    fields = dict(recipient)
    assert fields["Final-Recipient"] == "rfc822; bob@dest.test"
    assert fields["Action"] == "failed"
    assert fields["Status"] == "5.1.1"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 <bob@dest.test>: nobody here"
    (original,) = returned.iter_parts()
    assert original["Subject"] == "café"
    assert original.get_content() == "hello\n.dots\n"


def test_old_mail_is_returned_with_the_last_reason(house: House) -> None:
    with FakeMx({"RCPT": Do(b"451 4.2.1 mailbox busy\r\n")}) as mx:
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}").control("queuelifetime", "0\n")
        house.start()
        hand_in(house, "bob@dest.test", sender="postmaster@mx.test")
        (report,) = house.wait_for_mail()
    assert b"451 4.2.1 mailbox busy; it has been in the queue too long" in report.replace(b"\n", b" ")
    house.wait_for_empty_queue()


def test_a_report_that_fails_goes_to_the_postmaster_and_no_further(house: House) -> None:
    with FakeMx({"RCPT": Do(b"550 5.1.1 unknown\r\n")}) as mx:
        open_to_all(house, f":127.0.0.1:{mx.port}").start()
        hand_in(house, "bob@dest.test", sender="ann@elsewhere.test")
        (double,) = house.wait_for_mail()
        assert b"Return-Path: <#@[]>" in double
        assert b"failure report" in double
        assert b"ann@elsewhere.test" in double
        house.wait_for_empty_queue()
        assert [c for c in mx.commands if c.startswith("MAIL")][1].startswith("MAIL FROM:<>")

        house.control("doublebouncehost", "elsewhere.test\n")
        house.reload()
        hand_in(house, "bob@dest.test", sender="ann@elsewhere.test")
        house.wait_for_log("discarded ")
        house.wait_for_empty_queue()
    assert len(house.delivered()) == 1


def test_a_report_from_a_null_sender_never_answers_itself(house: House) -> None:
    """Mail loops: a house that routes everything to itself ends it by counting, and tells the postmaster once."""
    open_to_all(house, f"loop.test:127.0.0.1:{house.port}").start()
    hand_in(house, "bob@loop.test", sender="postmaster@mx.test")
    (report,) = house.wait_for_mail()
    assert b"5.4.6" in report
    house.wait_for_empty_queue()
    assert len(house.delivered()) == 1
