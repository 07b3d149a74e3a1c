"""Reports: what the sender is told about a message that failed or is late, or of a delivery that he wanted word of.

A report is one multipart/report message (RFC 6522): a text for people, fields for programs (RFC 3464), and the message
itself, whole if it is small and nothing speaks against it, else headers only. Its reverse-path is null, so it can never
cause another; if it fails in its turn it becomes a double bounce to the postmaster, and when that fails there is nobody
left to tell (qmail's rules).

Where an address is beyond ASCII, or the message was sent as SMTPUTF8, the parts are those of RFC 6533, as
quoted-printable: then only the report's own To field can need SMTPUTF8.

Promises: no word of the peer or of the message can add a header field, a MIME part or a report field.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from email.utils import formatdate

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.delivery.schedule import Lifetimes
from qmtls.delivery.sevenbit import quoted_printable
from qmtls.delivery.status import about_message, about_recipient, field, parameter
from qmtls.delivery.verp import owner
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient

# A larger message comes back as its headers only.
RETURN_LIMIT = 50 * 1024

# The reverse-path of a double bounce: it can be no mailbox, and says "drop me if I fail" (qmail).
DOUBLE_BOUNCE_SENDER = Address("#", "[]")

# RFC 5322 section 2.1.1: 78 is polite for text.
_TEXT_WIDTH = 76


@dataclass(frozen=True, slots=True)
class Report:
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
    about: tuple[tuple[Recipient, Outcome], ...]
    lifetimes: Lifetimes | None = None  # of who waits

    @property
    def is_wide(self) -> bool:
        """True if it has to speak of something beyond ASCII (RFC 6533)."""
        envelope = self.envelope
        if envelope.smtputf8 or not str(envelope.reverse_path).isascii():
            return True
        return not all(
            str(recipient.address).isascii() and parameter(recipient.parameters, "ORCPT").isascii()
            for recipient, _ in self.about
        )


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is different from one kind of report to the next."""

    subject: str
    intro: str
    whole: bool  # the message itself may come back, not only its headers


def compose(report: Report) -> tuple[Envelope, bytes]:
    """The failures to the original's reverse-path, as envelope and content (CRLF line ends).

    ValueError if that is null or a double bounce's: see `double_bounce`.
    """
    intro = (
        f"This is the mail system at host {field(report.me)}. Your message could not be delivered to the recipients "
        "below. It will not be tried again; the reasons follow. "
    )
    return _message(report, sender_of(report), None, _Kind("failure notice", intro, True))


def delay(report: Report) -> tuple[Envelope, bytes]:
    """The recipients who still wait: a warning, not a failure. RFC 3461 section 6.2: headers only.

    ValueError if there is no sender.
    """
    intro = (
        f"This is the mail system at host {field(report.me)}. THIS IS A WARNING ONLY; you need not send your message "
        "again. It could not be delivered to the recipients below yet, and it will be tried on. "
    )
    subject = "delivery delayed"
    if any(outcome.unmet for _, outcome in report.about):
        intro += (
            "It waits because it may travel only over a TLS connection that meets the rule named below, and such a "
            "connection could not be made. It will not be sent over a weaker one. "
        )
    if all(outcome.unmet for _, outcome in report.about):
        subject = "delivery delayed: TLS is not as it must be"
    return _message(report, sender_of(report), None, _Kind(subject, intro, False))


def success(report: Report) -> tuple[Envelope, bytes]:
    """The deliveries that the sender wanted to be told of. RFC 3461 section 6.2: headers only.

    ValueError if there is no sender.
    """
    intro = (
        f"This is the mail system at host {field(report.me)}. As you asked for, here is what became of your message: "
        "it was delivered to the recipients below, or passed on to a host that will send you no further word. "
    )
    return _message(report, sender_of(report), None, _Kind("delivery notice", intro, False))


def double_bounce(report: Report, to: str, host: str) -> tuple[Envelope, bytes]:
    """The report about a message with a null reverse-path, to the postmaster `to`@`host`.

    ValueError if the message is a double bounce itself: drop that, and say so in the log.
    """
    if is_double_bounce(report.envelope):
        raise ValueError("a double bounce that fails is dropped")
    intro = (
        f"This is the mail system at host {field(report.me)}. A failure report, or other mail with a null "
        "reverse-path, could not be delivered to the recipients below. Nobody else will be told. "
    )
    return _message(report, Address(to, host), DOUBLE_BOUNCE_SENDER, _Kind("failure notice", intro, True))


def is_double_bounce(envelope: Envelope) -> bool:
    """True for what `double_bounce` made: nobody is told when it fails."""
    return envelope.reverse_path == DOUBLE_BOUNCE_SENDER


def wire_reverse_path(reverse_path: Address | None) -> Address | None:
    """What MAIL says: other hosts take `#@[]` for a syntax error, and the null path means the same to them."""
    return None if reverse_path == DOUBLE_BOUNCE_SENDER else reverse_path


def sender_of(report: Report) -> Address:
    """Who is told. ValueError if a report would be about a report."""
    sender = report.envelope.reverse_path
    if sender is None or is_double_bounce(report.envelope):
        raise ValueError("a report is never sent about a report")
    return owner(sender)


def envelope_of(report: Report, to: Address, reverse_path: Address | None, content: bytes) -> Envelope:
    """The envelope of a report that says `content`."""
    return Envelope(
        reverse_path,
        (Recipient(to),),
        Arrival(report.now, protocol="local"),
        body="7BIT" if content.isascii() else "8BITMIME",
        smtputf8=not str(to).isascii(),
        requiretls=report.envelope.requiretls,  # RFC 8689 section 5
    )


def _message(report: Report, to: Address, reverse_path: Address | None, kind: _Kind) -> tuple[Envelope, bytes]:
    wide = report.is_wide
    type_, returned = _returned(report, kind)
    parts = [
        _part(f"text/plain; charset={'utf-8' if wide else 'us-ascii'}", _text(report, kind, type_, wide), wide),
        _part(f"message/{'global-' if wide else ''}delivery-status", _status_fields(report, wide), wide),
        _part(_GLOBAL[type_] if wide and not returned.isascii() else type_, returned, wide),
    ]
    boundary = f"=_{report.id}"
    while any(boundary.encode("ascii") in part for part in parts):
        boundary += "x"
    frame = f"--{boundary}\r\n".encode("ascii")
    eight_bit = not all(part.isascii() for part in parts)
    content = b"".join(
        (
            _header(report, to, boundary, kind.subject, eight_bit).encode("utf-8"),
            *[frame + part for part in parts],
            f"\r\n--{boundary}--\r\n".encode("ascii"),
        )
    )
    return envelope_of(report, to, reverse_path, content), content


_GLOBAL = {"message/rfc822": "message/global", "text/rfc822-headers": "message/global-headers"}


def _part(type_: str, data: bytes, wide: bool) -> bytes:
    encoding = ""
    if not data.isascii():
        encoding = f"Content-Transfer-Encoding: {'quoted-printable' if wide else '8bit'}\r\n"
        data = quoted_printable(data) if wide else data
    return f"Content-Type: {type_}\r\n{encoding}\r\n".encode("ascii") + data


def _returned(report: Report, kind: _Kind) -> tuple[str, bytes]:
    """Media type and octets of the third part."""
    whole, octets = returned(report, kind.whole)
    return "message/rfc822" if whole else "text/rfc822-headers", octets


def returned(report: Report, whole: bool) -> tuple[bool, bytes]:
    """What comes back: the message, or (False) its header. REQUIRETLS mail never whole (RFC 8689 section 5)."""
    content, envelope = report.content, report.envelope
    wanted = whole and not envelope.requiretls and parameter(envelope.parameters, "RET").upper() != "HDRS"
    if wanted and not report.cut and len(content) <= RETURN_LIMIT:
        return True, content
    # A message without header fields begins with its empty line; one that was cut counts up to its last CRLF.
    head = b"\r\n" + content[:RETURN_LIMIT]
    end = head.find(b"\r\n\r\n")
    if end < 0:
        end = head.rfind(b"\r\n")
    return False, head[2 : end + 2]


def _header(report: Report, to: Address, boundary: str, subject: str, eight_bit: bool) -> str:
    encoding = "Content-Transfer-Encoding: 8bit\r\n" if eight_bit else ""
    return (
        f"Date: {formatdate(report.now)}\r\n"
        f"From: Mail Delivery System <{field(report.bounce_from)}@{field(report.bounce_host)}>\r\n"
        f"To: <{field(str(to), wide=True)}>\r\n"
        f"Subject: {subject}\r\n"
        f"Message-ID: <{field(report.id)}@{field(report.me)}>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"\r\n'
        f"{encoding}\r\n"
    )


def _text(report: Report, kind: _Kind, type_: str, wide: bool) -> bytes:
    tail = "The headers of the message are attached; its text is not returned."
    if type_ == "message/rfc822":
        tail = "The message is attached."
    paragraphs = [_wrap(kind.intro + tail)]
    for recipient, outcome in report.about:
        reason = field(outcome.reason, wide) + _waits_for_tls(report, outcome)
        paragraphs.append(f"<{field(str(recipient.address), wide)}>:\r\n{_wrap(reason)}")
    return ("\r\n\r\n".join(paragraphs) + "\r\n\r\n").encode("utf-8")


def _status_fields(report: Report, wide: bool) -> bytes:
    """RFC 3464 section 2: one group of fields about the message, then one per recipient."""
    groups = [about_message(report.me, report.original_id, report.envelope, wide)]
    groups.extend(
        about_recipient(recipient, outcome, report.now, wide, _until(report, outcome))
        for recipient, outcome in report.about
    )
    return ("\r\n".join(groups) + "\r\n").encode("utf-8")


def _waits_for_tls(report: Report, outcome: Outcome) -> str:
    """How long a demand has not been met, and until when that is waited for; "" for other mail."""
    until = _until(report, outcome)
    if not (until and outcome.unmet):
        return ""
    since = f" It has been so since {formatdate(outcome.since)}." if outcome.since else ""
    return f".{since} If it is still so after {formatdate(until)}, the message will be returned to you."


def _until(report: Report, outcome: Outcome) -> float:
    """When the wait ends; 0.0 for who does not wait."""
    if report.lifetimes is None or outcome.fate is not Fate.DEFERRED:
        return 0.0
    return report.envelope.arrival.time + report.lifetimes.of(outcome)


def _wrap(text: str) -> str:
    return "\r\n".join(textwrap.wrap(text, _TEXT_WIDTH, break_long_words=False, break_on_hyphens=False))
