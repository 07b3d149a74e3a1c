"""What the manual says of reports, local delivery, sendmail and DKIM: by the program itself, read by others."""

from __future__ import annotations

import email
import email.policy
import re
import signal
import time
from email.message import EmailMessage

import dkim  # type: ignore[import-untyped]
import pytest

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.outbound.sink import Sink, without_trace
from tests.system.waiting import wait_for

MAIL = b"From: Ann <ann@mx.test>\nTo: bob@dest.test\nSubject: hello\n\nbody\n.dot\n"
LATER = Do(b"450 4.2.0 later\r\n")
UNKNOWN = Do(b"550 5.1.1 nobody\r\n")


def parsed(message: bytes) -> EmailMessage:
    found = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def retried(house: House) -> None:
    """One more attempt at all that waits, and its end."""
    before = [row["attempts"] for row in house.queue()]
    house.signal(signal.SIGALRM)
    wait_for(lambda: [row["attempts"] for row in house.queue()] > before, "one more attempt")


# ---------------------------------------------------------------- reports


@pytest.mark.parametrize(
    ("extra", "warned"), [(b"", True), (b"List-Id: <l.mx.test>\n", False), (b"Precedence: bulk\n", False)]
)
def test_one_warning_for_late_mail_and_none_for_lists(house: House, extra: bytes, warned: bool) -> None:
    house.mailbox("ann")
    with FakeMx({"RCPT": LATER}) as mx:
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}").control("delaywarn", "1\n")
        house.start()
        house.qmtls("sendmail", "-f", "ann@mx.test", "bob@dest.test", stdin=extra + MAIL)
        (row,) = wait_for_reasons(house).values()
        wait_for(lambda: time.time() > row["arrived"] + 1, "a second to pass")
        retried(house)
        retried(house)
        warnings = [parsed(mail) for mail in house.delivered("ann")]
        assert len(warnings) == warned
        if warned:
            (status,) = (p for p in warnings[0].walk() if p.get_content_type() == "message/delivery-status")
            fields = dict(status.get_payload()[1].items())  # type: ignore[index, union-attr]
            assert fields["Action"] == "delayed" and fields["Will-Retry-Until"] and fields["Status"] == "4.2.0"
            assert "body" not in warnings[0].as_string()


def test_qmail_s_form_of_a_report(house: House) -> None:
    house.mailbox("ann")
    with FakeMx({"RCPT": UNKNOWN}) as mx:
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}").control("bouncestyle", "qsbmf\n")
        house.start()
        house.qmtls("sendmail", "-f", "ann@mx.test", "bob@dest.test", stdin=MAIL)
        (report,) = house.wait_for_mail(user="ann")
    text = report.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    assert text.startswith(b"Hi. This is the ")
    assert b"\n<bob@dest.test>:\n" in text and b"550 5.1.1 nobody" in text
    assert b"\n--- Below this line is a copy of the message.\n" in text and text.endswith(b"\nbody\n.dot\n")


# ---------------------------------------------------------------- routes and local delivery


def test_a_path_for_each_recipient(house: House) -> None:
    with Sink() as sink:
        open_to_all(house, f":127.0.0.1:{sink.port}").start()
        house.qmtls("sendmail", "-f", "list-@mx.test-@[]", "bob@dest.test", "joe@dest.test", stdin=MAIL)
        taken = sink.wait_for(2)
        house.wait_for_empty_queue()
    assert sorted((t.mail.split()[0], t.recipients) for t in taken) == [
        ("<list-bob=dest.test@mx.test>", ("<bob@dest.test>",)),
        ("<list-joe=dest.test@mx.test>", ("<joe@dest.test>",)),
    ]


def test_a_mailbox_with_an_extension_and_the_size_in_the_name(house: House) -> None:
    box = house.mailbox("joe")
    house.start()
    hand_in(house, "joe+list@mx.test", sender="ann@a.test")
    (message,) = house.wait_for_mail(user="joe")
    (path,) = (box / "new").iterdir()
    found = re.search(r",S=(\d+)", path.name)
    assert found is not None and int(found[1]) == path.stat().st_size == len(message)
    assert parsed(message)["Delivered-To"] == "joe+list@mx.test"
    assert parsed(message)["Return-Path"] == "<ann@a.test>"


# ---------------------------------------------------------------- sendmail


def test_sendmail_while_the_service_is_down(house: House) -> None:
    """From its arguments, from its header, and by a session; all goes out when the service is there."""
    with Sink() as sink:
        open_to_all(house, f":127.0.0.1:{sink.port}")
        house.qmtls(
            "sendmail", "-F", "Ann Other", "-f", "ann@mx.test", "-i", "one@dest.test", stdin=b"Subject: 1\n\n.\nx\n"
        )
        header = (
            b"From: ann@mx.test\nTo: two@dest.test\nCc: Three <three@dest.test>\nBcc: four@dest.test\nSubject: 2\n\nx\n"
        )
        house.qmtls("sendmail", "-t", "-V", "token1", "-N", "failure,delay", "-R", "hdrs", stdin=header)
        commands = b"EHLO x\r\nMAIL FROM:<ann@mx.test>\r\nRCPT TO:<five@dest.test>\r\nDATA\r\n"
        session = commands + b"Subject: 3\r\n\r\nx\r\n.\r\nQUIT\r\n"
        said = house.qmtls("sendmail", "-bs", stdin=session).stdout
        assert [line[:3] for line in said.splitlines() if line[3:4] == " "] == [
            "220",
            "250",
            "250",
            "250",
            "354",
            "250",
            "221",
        ]
        assert "five@dest.test" in house.qmtls("sendmail", "-bp").stdout
        assert house.qmtls("sendmail", "-q", status=None).returncode in (0, 75)
        house.qmtls("sendmail", "-f", "ann@mx.test", stdin=MAIL, status=64)  # EX_USAGE: nobody to send it to
        house.start()
        taken = sink.wait_for(3)
        house.wait_for_empty_queue()
    by_subject = {str(parsed(t.content)["Subject"]): t for t in taken}
    assert sorted(by_subject) == ["1", "2", "3"]
    assert without_trace(by_subject["1"].content).endswith(b"\r\n\r\n.\r\nx\r\n")
    assert parsed(by_subject["1"].content)["From"] == "Ann Other <ann@mx.test>"
    assert sorted(by_subject["2"].recipients) == ["<four@dest.test>", "<three@dest.test>", "<two@dest.test>"]
    assert parsed(by_subject["2"].content)["Bcc"] is None


# ---------------------------------------------------------------- DKIM


@pytest.mark.parametrize("algorithm", ["rsa:2048", "ed25519"])
def test_dkimpy_believes_what_we_sign(house: House, algorithm: str) -> None:
    with Sink() as sink:
        open_to_all(house, f":127.0.0.1:{sink.port}").start()
        house.qmtls("sendmail", "-f", "ann@mx.test", "bob@dest.test", stdin=MAIL)
        sink.wait_for(1)
        assert b"DKIM-Signature" not in sink.messages[0].content, "off unless there is a key"
        record = house.qmtls("dkim", "make", "mx.test", "sel", "--key", algorithm).stdout
        text = "".join(re.findall(r'"([^"]*)"', record)).encode()
        assert text.startswith(b"v=DKIM1;"), record
        house.reload()
        house.qmtls("sendmail", "-f", "ann@mx.test", "bob@dest.test", stdin=MAIL)
        signed = sink.wait_for(2)[1].content
    asked: list[bytes] = []

    def look_up(name: bytes, timeout: int = 5) -> bytes:
        asked.append(name)
        return text

    assert dkim.DKIM(signed).verify(dnsfunc=look_up)
    assert asked == [b"sel._domainkey.mx.test."]
    with pytest.raises(dkim.ValidationError, match="body hash"):
        dkim.DKIM(signed.replace(b"body", b"b0dy")).verify(dnsfunc=look_up)
