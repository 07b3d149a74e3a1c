"""Failure reports as a mail reader sees them: parsed by the email package, never by their own code."""

from __future__ import annotations

import quopri
from dataclasses import replace
from email import message_from_bytes, message_from_string, policy
from email.message import EmailMessage, Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.dsn import (
    DOUBLE_BOUNCE_SENDER,
    RETURN_LIMIT,
    Report,
    compose,
    delay,
    double_bounce,
    is_double_bounce,
    success,
    wire_reverse_path,
)
from qmtls.delivery.outcome import Fate, Notice, Outcome
from qmtls.delivery.schedule import Lifetimes
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient

SENDER = Address("alice", "client.example")
BOB = Recipient(Address("bob", "x.example"))
EVE = Recipient(Address("eve", "y.example"))
REFUSED = Outcome(
    Fate.FAILED,
    "mx.x.example (192.0.2.1) said at RCPT: 550 5.1.1 no such user",
    "5.1.1",
    "550 5.1.1 no such user",
    "mx.x.example (192.0.2.1)",
)
NO_TLS = Outcome(Fate.FAILED, "mx.y.example shows another key than control/y.example.pem pins", "4.7.5")
CONTENT = b"Received: by us\r\nSubject: hello\r\n\r\nBody.\r\n.\r\nFrom here\r\n"

REPORT = Report(
    me="mail.here.example",
    bounce_from="MAILER-DAEMON",
    bounce_host="here.example",
    id="1700000000.abc",
    original_id="1699999999.xyz",
    now=1_700_000_000.0,
    envelope=Envelope(SENDER, (BOB, EVE), Arrival(1_699_999_999.0)),
    content=CONTENT,
    cut=False,
    about=((BOB, REFUSED), (EVE, NO_TLS)),
)


def read(content: bytes) -> tuple[EmailMessage, list[EmailMessage]]:
    """The report and its three parts; it must be free of defects and of lone line ends."""
    assert content.count(b"\n") == content.count(b"\r\n") == content.count(b"\r")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    parts = [part for part in message.iter_parts() if isinstance(part, EmailMessage)]
    assert not message.defects and not any(part.defects for part in parts)
    assert len(parts) == 3
    return message, parts


def messages_in(part: Message) -> list[Message]:
    payload = part.get_payload()
    assert isinstance(payload, list)
    return [inner for inner in payload if isinstance(inner, Message)]


def raw_part(content: bytes, number: int) -> bytes:
    """Decoded text of the first, second or third part. Python takes a message/global for a message, encoded or not."""
    boundary = message_from_bytes(content).get_boundary()
    assert boundary is not None
    head, _, text = content.split(f"--{boundary}".encode())[number].partition(b"\r\n\r\n")
    return quopri.decodestring(text) if b"quoted-printable" in head else text


def groups_in(content: bytes) -> list[Message]:
    """The groups of fields of the second part, whichever type it has."""
    text = raw_part(content, 2).decode("utf-8").replace("\r\n", "\n")
    return [message_from_string(group + "\n") for group in text.rstrip("\n").split("\n\n")]


def test_who_gets_it_and_from_whom() -> None:
    envelope, content = compose(REPORT)
    assert envelope.reverse_path is None
    assert [recipient.address for recipient in envelope.recipients] == [SENDER]
    assert (envelope.arrival.time, envelope.arrival.protocol, envelope.body) == (REPORT.now, "local", "7BIT")
    message, _ = read(content)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["To"] == "alice@client.example"
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@here.example>"
    assert message["Subject"] == "failure notice"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<1700000000.abc@mail.here.example>"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 -0000"


def test_the_text_names_each_recipient_and_reason() -> None:
    _, (text, _, _) = read(compose(REPORT)[1])
    words = " ".join(text.get_content().split())
    assert f"<bob@x.example>: {REFUSED.reason}" in words
    assert f"<eve@y.example>: {NO_TLS.reason}" in words
    assert "mail.here.example" in words


def test_the_fields_for_programs() -> None:
    _, (_, status, _) = read(compose(REPORT)[1])
    assert status.get_content_type() == "message/delivery-status"
    about, bob, eve = messages_in(status)
    assert about["Reporting-MTA"] == "dns; mail.here.example"
    assert about["X-Qmtls-Queue-Id"] == "1699999999.xyz"
    assert about["Arrival-Date"] == "Tue, 14 Nov 2023 22:13:19 -0000"
    assert dict(bob.items()) == {
        "Final-Recipient": "rfc822; bob@x.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.x.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "Tue, 14 Nov 2023 22:13:20 -0000",
    }
    assert eve["Status"] == "4.7.5" and "Remote-MTA" not in eve
    assert eve["Diagnostic-Code"] == f"x-qmtls; {NO_TLS.reason}"


def test_a_small_message_comes_back_whole() -> None:
    _, (_, _, returned) = read(compose(REPORT)[1])
    assert returned.get_content_type() == "message/rfc822"
    (original,) = messages_in(returned)
    assert original["Subject"] == "hello"
    assert CONTENT in compose(REPORT)[1]


@pytest.mark.parametrize(
    "report",
    [
        replace(REPORT, cut=True),
        replace(REPORT, content=CONTENT + b"x" * 70 + b"\r\n" + b"y" * RETURN_LIMIT),
        replace(REPORT, envelope=replace(REPORT.envelope, requiretls=True)),
    ],
)
def test_a_large_or_guarded_message_comes_back_as_its_headers(report: Report) -> None:
    _, content = compose(report)
    _, (_, _, returned) = read(content)
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_content().splitlines() == ["Received: by us", "Subject: hello"]
    assert b"Body." not in content


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"\r\nBody.\r\n", b""),
        (b"", b""),
        (b"A: b\r\nC: " + b"d" * RETURN_LIMIT, b"A: b\r\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"garbage without an end", b""),
    ],
)
def test_headers_of_odd_messages(content: bytes, headers: bytes) -> None:
    made = compose(replace(REPORT, content=content, cut=True))[1]
    read(made)
    assert made.partition(b"text/rfc822-headers\r\n\r\n")[2].partition(b"\r\n--=_")[0] == headers


def test_eight_bit_content_is_declared() -> None:
    envelope, content = compose(replace(REPORT, content="Subject: ü\r\n\r\nü\r\n".encode()))
    message, (_, _, returned) = read(content)
    assert envelope.body == "8BITMIME"
    assert message["Content-Transfer-Encoding"] == returned["Content-Transfer-Encoding"] == "8bit"


def test_a_message_that_guesses_the_boundary_stays_inside() -> None:
    guess = b"Subject: x\r\n\r\n--=_1700000000.abc\r\nContent-Type: text/html\r\n\r\n--=_1700000000.abcx--\r\n"
    _, (_, _, returned) = read(compose(replace(REPORT, content=guess))[1])
    assert returned.get_content_type() == "message/rfc822"
    assert b"text/html" in returned.as_bytes()


@given(st.text(), st.text(), st.text(), st.text(), st.binary(max_size=200))
def test_no_word_adds_a_field_or_a_part(local: str, domain: str, reason: str, remote: str, body: bytes) -> None:
    evil = Address(local, domain)
    about = Recipient(evil, (("ORCPT", f"rfc822;{local}"), ("NOTIFY", domain)))
    outcome = Outcome(Fate.FAILED, reason, "5.0.0", remote, "h (1)")
    message = b"Subject: x\r\n\r\n" + body.replace(b"\r", b"").replace(b"\n", b"\r\n")
    report = replace(
        REPORT,
        about=((about, outcome), (about, replace(outcome, remote="", host=""))),
        envelope=replace(REPORT.envelope, reverse_path=evil, parameters=(("ENVID", reason or "x"),)),
        content=message,
    )
    made = compose(report)[1]
    head, _, _ = made.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if not line.startswith(b"\t")]
    wide = report.is_wide
    assert len(names) == len(set(names)) == (9 if not body.isascii() and not wide else 8)
    parsed = message_from_bytes(made, policy=policy.compat32)
    parts = messages_in(parsed)
    assert len(parts) == 3
    groups = groups_in(made)
    fields = 7 if remote else 6
    assert [len(group.keys()) for group in groups] == [4, fields, 6]


def test_a_report_is_never_answered_by_a_report() -> None:
    for reverse_path in (None, DOUBLE_BOUNCE_SENDER):
        with pytest.raises(ValueError, match="report"):
            compose(replace(REPORT, envelope=replace(REPORT.envelope, reverse_path=reverse_path)))


def test_a_double_bounce_goes_to_the_postmaster_and_ends_there() -> None:
    bounced = replace(REPORT, envelope=replace(REPORT.envelope, reverse_path=None))
    envelope, content = double_bounce(bounced, "postmaster", "here.example")
    assert envelope.recipients[0].address == Address("postmaster", "here.example")
    assert str(envelope.reverse_path) == "#@[]"
    assert is_double_bounce(envelope) and not is_double_bounce(bounced.envelope)
    message, _ = read(content)
    assert message["To"] == "postmaster@here.example"
    with pytest.raises(ValueError, match="dropped"):
        double_bounce(replace(REPORT, envelope=envelope), "postmaster", "here.example")


def test_other_hosts_see_a_null_path() -> None:
    assert wire_reverse_path(DOUBLE_BOUNCE_SENDER) is None
    assert wire_reverse_path(None) is None
    assert wire_reverse_path(SENDER) is SENDER


# ---------------------------------------------------------------- what the sender asked for (RFC 3461)


def test_what_was_given_with_the_message_comes_back() -> None:
    bob = Recipient(BOB.address, (("NOTIFY", "FAILURE"), ("ORCPT", "rfc822;Bob+2BCo+3D@there.example")))
    envelope = replace(REPORT.envelope, parameters=(("RET", "FULL"), ("ENVID", "QQ+2B314159")))
    _, (_, status, returned) = read(compose(replace(REPORT, envelope=envelope, about=((bob, REFUSED),)))[1])
    about, group = messages_in(status)
    assert about["Original-Envelope-Id"] == "QQ+314159"
    assert group["Original-Recipient"] == "rfc822; Bob+Co=@there.example"
    assert returned.get_content_type() == "message/rfc822"


def test_headers_only_if_the_sender_wants_no_more() -> None:
    envelope = replace(REPORT.envelope, parameters=(("RET", "HDRS"),))
    _, (text, _, returned) = read(compose(replace(REPORT, envelope=envelope))[1])
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "its text is not returned" in " ".join(text.get_content().split())


@pytest.mark.parametrize("notice", Notice)
def test_good_news(notice: Notice) -> None:
    taken = Outcome(Fate.DELIVERED, "mx (1) accepted the message: 250 ok", "2.0.0", "250 ok", "mx (1)", notice=notice)
    envelope, content = success(replace(REPORT, about=((BOB, taken),)))
    message, (text, status, returned) = read(content)
    assert (envelope.reverse_path, envelope.recipients[0].address) == (None, SENDER)
    assert message["Subject"] == "delivery notice"
    _, bob = messages_in(status)
    assert (bob["Action"], bob["Status"], bob["Diagnostic-Code"]) == (notice.value, "2.0.0", "smtp; 250 ok")
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"Body." not in content
    assert "could not" not in text.get_content()


def test_good_news_of_a_mailbox_here() -> None:
    here = Outcome(Fate.DELIVERED, "delivered to the local mailbox", "2.0.0", host="local", notice=Notice.DELIVERED)
    _, (_, status, _) = read(success(replace(REPORT, about=((BOB, here),)))[1])
    assert list(messages_in(status)[1].keys()) == ["Final-Recipient", "Action", "Status", "Last-Attempt-Date"]


def test_nobody_is_told_of_a_report_that_arrived() -> None:
    for reverse_path in (None, DOUBLE_BOUNCE_SENDER):
        with pytest.raises(ValueError, match="report"):
            success(replace(REPORT, envelope=replace(REPORT.envelope, reverse_path=reverse_path)))


def test_a_report_about_guarded_mail_is_guarded() -> None:
    """RFC 8689 section 5."""
    envelope, _ = compose(replace(REPORT, envelope=replace(REPORT.envelope, requiretls=True)))
    assert envelope.requiretls
    assert not compose(REPORT)[0].requiretls


# ---------------------------------------------------------------- warnings

BUSY = Outcome(Fate.DEFERRED, "mx.x.example said at RCPT: 450 4.2.1 later", "4.2.1", "450 4.2.1 later", "mx.x.example")
UNMET = Outcome(Fate.DEFERRED, "mx.y.example: no TLS; mx2 is down", "4.7.4", unmet="mx.y.example: no TLS")
LATE = replace(REPORT, about=((BOB, BUSY), (EVE, UNMET)), lifetimes=Lifetimes(1000.0, 5000.0))


def test_a_warning() -> None:
    envelope, content = delay(LATE)
    message, (text, status, returned) = read(content)
    assert (envelope.reverse_path, envelope.recipients[0].address) == (None, SENDER)
    assert message["Subject"] == "delivery delayed"
    assert "WARNING ONLY" in text.get_content() and "weaker one" in text.get_content()
    _, bob, eve = messages_in(status)
    assert (bob["Action"], bob["Status"], bob["X-Qmtls-TLS-Reason"]) == ("delayed", "4.2.1", None)
    assert (eve["Action"], eve["Status"], eve["X-Qmtls-TLS-Reason"]) == ("delayed", "4.7.4", UNMET.unmet)
    assert eve["Diagnostic-Code"] == f"x-qmtls; {UNMET.reason}"
    assert bob["Will-Retry-Until"] == "Tue, 14 Nov 2023 22:29:59 -0000"
    assert eve["Will-Retry-Until"] == "Tue, 14 Nov 2023 23:36:39 -0000"
    assert returned.get_content_type() == "text/rfc822-headers" and b"Body." not in content


def test_a_warning_says_nothing_of_tls_where_that_is_not_the_reason() -> None:
    assert b"TLS" not in delay(replace(LATE, about=((BOB, BUSY),)))[1]


def test_a_failure_names_the_demand_and_no_end_of_the_wait() -> None:
    failed = replace(UNMET, fate=Fate.FAILED)
    _, (_, status, _) = read(compose(replace(LATE, about=((EVE, failed),)))[1])
    eve = messages_in(status)[1]
    assert (eve["Action"], eve["X-Qmtls-TLS-Reason"], eve["Will-Retry-Until"]) == ("failed", UNMET.unmet, None)


def test_a_warning_of_tls_alone_says_so_at_once_and_since_when() -> None:
    dated = replace(UNMET, since=1_700_000_000.0)
    message, (text, status, _) = read(delay(replace(LATE, about=((EVE, dated),)))[1])
    assert message["Subject"] == "delivery delayed: TLS is not as it must be"
    words = " ".join(text.get_content().split())
    assert "mx2 is down. It has been so since Tue, 14 Nov 2023 22:13:20 -0000." in words
    assert "If it is still so after Tue, 14 Nov 2023 23:36:39 -0000, the message will be returned to you." in words
    assert messages_in(status)[1]["X-Qmtls-TLS-Unmet-Since"] == "Tue, 14 Nov 2023 22:13:20 -0000"


def test_nobody_is_warned_about_a_report() -> None:
    for reverse_path in (None, DOUBLE_BOUNCE_SENDER):
        with pytest.raises(ValueError, match="report"):
            delay(replace(LATE, envelope=replace(REPORT.envelope, reverse_path=reverse_path)))


def test_a_variable_path_is_told_by_its_owner() -> None:
    path = Address("list-return-7-@lists.example-", "[]")
    envelope, content = compose(replace(REPORT, envelope=replace(REPORT.envelope, reverse_path=path)))
    assert str(envelope.recipients[0].address) == "list-return-7-@lists.example"
    assert read(content)[0]["To"] == "list-return-7-@lists.example"


# ---------------------------------------------------------------- beyond ASCII (RFC 6533)

JÖRG = Recipient(Address("jörg", "bücher.example"), (("ORCPT", "utf-8;jörg@bücher.example"),))
WIDE = replace(
    REPORT,
    envelope=replace(REPORT.envelope, smtputf8=True, body="8BITMIME"),
    about=((JÖRG, replace(REFUSED, reason="mx said: jörg?")), (BOB, REFUSED)),
    content="Subject: grüße\r\n\r\nwörter\r\n".encode(),
)


def test_a_report_about_an_international_message() -> None:
    envelope, content = compose(WIDE)
    assert content.isascii(), "nothing of it needs SMTPUTF8 or 8BITMIME on the way back"
    assert (envelope.smtputf8, envelope.body) == (False, "7BIT")
    message, (text, status, returned) = read(content)
    assert message["Content-Transfer-Encoding"] is None
    assert "<jörg@bücher.example>:" in text.get_content() and "mx said: jörg?" in text.get_content()
    assert status.get_content_type() == "message/global-delivery-status"
    _, jörg, bob = groups_in(content)
    assert jörg["Final-Recipient"] == "utf-8; jörg@bücher.example"
    assert jörg["Original-Recipient"] == "utf-8; jörg@bücher.example"
    assert bob["Final-Recipient"] == "rfc822; bob@x.example"
    assert returned.get_content_type() == "message/global"
    assert raw_part(content, 3).rstrip() == WIDE.content.rstrip()


def test_headers_beyond_ascii() -> None:
    _, (_, _, returned) = read(compose(replace(WIDE, cut=True))[1])
    assert returned.get_content_type() == "message/global-headers"
    assert returned["Content-Transfer-Encoding"] == "quoted-printable"


def test_a_sender_beyond_ascii_needs_smtputf8() -> None:
    sender = Address("jörg", "bücher.example")
    envelope, content = compose(replace(REPORT, envelope=replace(REPORT.envelope, reverse_path=sender)))
    assert envelope.smtputf8 and envelope.body == "8BITMIME"
    assert "\r\nTo: <jörg@bücher.example>\r\n".encode() in content


def test_an_escaped_original_recipient_needs_nothing() -> None:
    bob = Recipient(BOB.address, (("ORCPT", "utf-8;j\\x{F6}rg@x.example"),))
    _, (_, status, _) = read(compose(replace(REPORT, about=((bob, REFUSED),)))[1])
    assert messages_in(status)[1]["Original-Recipient"] == "utf-8; j\\x{F6}rg@x.example"
