"""Failure reports in qmail's own format (the QSBMF memo), for programs that read that and nothing else.

What such programs go by: the first paragraph begins with "Hi. This is the", one that begins with "<" is about a
recipient, one that begins with "-" ends them, and a status stands as (#5.1.1). Whatever comes behind it is the message,
after a Return-Path line: whole if it is small, as in a DSN, else its header.

Warnings and news of a delivery have no form there: a reader would take them for failures. They stay DSNs.

Promises: no word of the peer can begin a paragraph or a field.
"""

from __future__ import annotations

from email.utils import formatdate

from qmtls.delivery.dsn import DOUBLE_BOUNCE_SENDER, Report, envelope_of, is_double_bounce, returned, sender_of
from qmtls.delivery.outcome import Outcome
from qmtls.delivery.status import field
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Envelope


def compose(report: Report) -> tuple[Envelope, bytes]:
    """The failures to the original's reverse-path, as envelope and content (CRLF line ends).

    ValueError if that is null or a double bounce's: see `double_bounce`.
    """
    intro = (
        "I could not deliver your message to the addresses below.",
        "I have given up and will not try again; the reasons follow.",
    )
    return _message(report, sender_of(report), None, intro)


def double_bounce(report: Report, to: str, host: str) -> tuple[Envelope, bytes]:
    """The report about a message with a null reverse-path, to the postmaster `to`@`host`.

    ValueError if the message is a double bounce itself: drop that, and say so in the log.
    """
    if is_double_bounce(report.envelope):
        raise ValueError("a double bounce that fails is dropped")
    intro = (
        "I could not deliver a failure report, or other mail without a sender,",
        "to the addresses below. Nobody else will be told.",
    )
    return _message(report, Address(to, host), DOUBLE_BOUNCE_SENDER, intro)


def _message(
    report: Report, to: Address, reverse_path: Address | None, intro: tuple[str, ...]
) -> tuple[Envelope, bytes]:
    whole, octets = returned(report, True)
    below = "a copy of the message" if whole else "the header of the message; the rest is not returned"
    if reverse_path is not None:
        below = "the original bounce" if whole else "the header of the original bounce"
    lines = [
        f"Date: {formatdate(report.now)}",
        f"From: {field(report.bounce_from)}@{field(report.bounce_host)}",
        f"To: {field(str(to), wide=True)}",
        "Subject: failure notice",
        f"Message-ID: <{field(report.id)}@{field(report.me)}>",
        "Auto-Submitted: auto-replied",
        "",
        f"Hi. This is the qmtls program at {field(report.me)}.",
        *intro,
        "",
        *[line for recipient, outcome in report.about for line in _about(str(recipient.address), outcome)],
        f"--- Below this line is {below}.",
        "",
        f"Return-Path: <{field(str(report.envelope.reverse_path or ''), wide=True)}>",
        "",
    ]
    content = "\r\n".join(lines).encode("utf-8") + octets
    return envelope_of(report, to, reverse_path, content), content


def _about(address: str, outcome: Outcome) -> tuple[str, ...]:
    """One paragraph; a reason is one line."""
    return f"<{field(address, wide=True)}>:", f"{field(outcome.reason, wide=True)} (#{outcome.status or '5.0.0'})", ""
