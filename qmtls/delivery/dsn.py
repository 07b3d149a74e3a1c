"""Failure reports: what the sender gets back when a message could not be delivered (RFC 3464, RFC 6522).

A report is one multipart/report message: a text for people, fields for programs, and the message itself, whole if it
is small and headers only if not. Its reverse-path is null, so it can never cause another; if it fails in its turn it
becomes a double bounce to the postmaster, and when that fails there is nobody left to tell (qmail's rules).

Promises: no word of the peer or of the message can add a header field, a MIME part or a report field.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from email.utils import formatdate

from qmtls.delivery.outcome import Outcome
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.smtp.reply import printable

# A larger message comes back as its headers only.
RETURN_LIMIT = 50 * 1024

# The reverse-path of a double bounce: it can be no mailbox, and says "drop me if I fail" (qmail).
DOUBLE_BOUNCE_SENDER = Address("#", "[]")

# RFC 5322 section 2.1.1: 78 is polite for text, 998 the law for everything.
_TEXT_WIDTH = 76
_FIELD_LIMIT = 900


@dataclass(frozen=True, slots=True)
class FailureReport:
    """Everything that a report is made of; `envelope` and `content` are those of the original.

    `content` is its beginning, the whole of it if `cut` is False; RETURN_LIMIT octets are enough.
    """

    me: str  # the reporting host
    bounce_from: str
    bounce_host: str
    id: str  # the report's own name in the queue: unique, so it makes the Message-ID and the boundary
    original_id: str
    now: float  # Unix seconds
    envelope: Envelope
    content: bytes
    cut: bool
    failures: tuple[tuple[Address, Outcome], ...]


def compose(report: FailureReport) -> tuple[Envelope, bytes]:
    """The report to the original's reverse-path, as envelope and content (CRLF line ends).

    ValueError if that is null or a double bounce's: see `double_bounce`.
    """
    sender = report.envelope.reverse_path
    if sender is None or is_double_bounce(report.envelope):
        raise ValueError("a report is never sent about a report")
    intro = (
        f"This is the mail system at host {_field(report.me)}. Your message could not be delivered to the recipients "
        "below. It will not be tried again; the reasons follow. "
    )
    return _message(report, sender, None, intro)


def double_bounce(report: FailureReport, to: str, host: str) -> tuple[Envelope, bytes]:
    """The report about a message with a null reverse-path, to the postmaster `to`@`host`.

    ValueError if the message is a double bounce itself: drop that, and say so in the log.
    """
    if is_double_bounce(report.envelope):
        raise ValueError("a double bounce that fails is dropped")
    intro = (
        f"This is the mail system at host {_field(report.me)}. A failure report, or other mail with a null "
        "reverse-path, could not be delivered to the recipients below. Nobody else will be told. "
    )
    return _message(report, Address(to, host), DOUBLE_BOUNCE_SENDER, intro)


def is_double_bounce(envelope: Envelope) -> bool:
    """True for what `double_bounce` made: nobody is told when it fails."""
    return envelope.reverse_path == DOUBLE_BOUNCE_SENDER


def wire_reverse_path(reverse_path: Address | None) -> Address | None:
    """What MAIL says: other hosts take `#@[]` for a syntax error, and the null path means the same to them."""
    return None if reverse_path == DOUBLE_BOUNCE_SENDER else reverse_path


def _message(report: FailureReport, to: Address, reverse_path: Address | None, intro: str) -> tuple[Envelope, bytes]:
    subtype, returned = _returned(report)
    eight_bit = not returned.isascii()
    boundary = f"=_{report.id}"
    while boundary.encode("ascii") in returned:
        boundary += "x"
    encoding = "Content-Transfer-Encoding: 8bit\r\n" if eight_bit else ""
    whole = subtype == "message/rfc822"
    text = "".join(
        (
            _header(report, to, boundary, encoding),
            f"--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
            _text(report, intro, whole),
            f"--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n",
            _status_fields(report),
            f"--{boundary}\r\nContent-Type: {subtype}\r\n{encoding}\r\n",
        )
    )
    content = text.encode("ascii") + returned + f"\r\n--{boundary}--\r\n".encode("ascii")
    envelope = Envelope(
        reverse_path,
        (Recipient(to),),
        Arrival(report.now, protocol="local"),
        body="8BITMIME" if eight_bit else "7BIT",
    )
    return envelope, content


def _returned(report: FailureReport) -> tuple[str, bytes]:
    """Media type and octets of the third part. REQUIRETLS mail is never returned whole (RFC 8689 section 5)."""
    content = report.content
    if not report.cut and len(content) <= RETURN_LIMIT and not report.envelope.requiretls:
        return "message/rfc822", content
    # A message without header fields begins with its empty line; one that was cut counts up to its last CRLF.
    head = b"\r\n" + content[:RETURN_LIMIT]
    end = head.find(b"\r\n\r\n")
    if end < 0:
        end = head.rfind(b"\r\n")
    return "text/rfc822-headers", head[2 : end + 2]


def _header(report: FailureReport, to: Address, boundary: str, encoding: str) -> str:
    return (
        f"Date: {formatdate(report.now)}\r\n"
        f"From: Mail Delivery System <{_field(report.bounce_from)}@{_field(report.bounce_host)}>\r\n"
        f"To: <{_field(str(to))}>\r\n"
        "Subject: failure notice\r\n"
        f"Message-ID: <{_field(report.id)}@{_field(report.me)}>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"\r\n'
        f"{encoding}\r\n"
    )


def _text(report: FailureReport, intro: str, whole: bool) -> str:
    tail = "The message is attached." if whole else "The headers of the message are attached; its text is not returned."
    paragraphs = [_wrap(intro + tail)]
    paragraphs.extend(
        f"<{_field(str(address))}>:\r\n{_wrap(_field(outcome.reason))}" for address, outcome in report.failures
    )
    return "\r\n\r\n".join(paragraphs) + "\r\n\r\n"


def _status_fields(report: FailureReport) -> str:
    """RFC 3464 section 2: one group of fields about the message, then one per recipient."""
    about = (
        f"Reporting-MTA: dns; {_field(report.me)}\r\n"
        f"X-Qmtls-Queue-Id: {_field(report.original_id)}\r\n"
        f"Arrival-Date: {formatdate(report.envelope.arrival.time)}\r\n"
    )
    groups = [about]
    for address, outcome in report.failures:
        group = (
            f"Final-Recipient: rfc822; {_field(str(address))}\r\n"
            f"Action: failed\r\nStatus: {outcome.status or '5.0.0'}\r\n"
        )
        if outcome.remote:
            if outcome.host:
                group += f"Remote-MTA: dns; {_field(outcome.host.partition(' ')[0])}\r\n"
            group += f"Diagnostic-Code: smtp; {_field(outcome.remote)}\r\n"
        else:
            group += f"Diagnostic-Code: x-qmtls; {_field(outcome.reason)}\r\n"
        groups.append(group + f"Last-Attempt-Date: {formatdate(report.now)}\r\n")
    return "\r\n".join(groups) + "\r\n"


def _field(text: str) -> str:
    """Safe inside one line: printable ASCII, of a length that every mail reader takes."""
    return printable(text, _FIELD_LIMIT)


def _wrap(text: str) -> str:
    return "\r\n".join(textwrap.wrap(text, _TEXT_WIDTH, break_long_words=False, break_on_hyphens=False))
