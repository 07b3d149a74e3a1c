"""The fields for programs in a report: RFC 3464, with what RFC 3461 carries back and RFC 6533 makes of addresses.

`wide` fields may hold any printable character; they belong into a message/global-delivery-status part.

Promises: a value is one line, of a length that every mail reader takes, and never more than one field.
"""

from __future__ import annotations

import re
from email.utils import formatdate

from qmtls.delivery.outcome import Fate, Outcome
from qmtls.smtp.envelope import Envelope, Recipient
from qmtls.smtp.reply import printable

# RFC 5322 section 2.1.1: 998 is the law for a line.
_FIELD_LIMIT = 900
_END = "\r\n"
_HEX = re.compile(r"\+([0-9A-F]{2})")


def field(text: str, wide: bool = False) -> str:
    """`text` inside one line; what cannot be shown is "?"."""
    if not wide:
        return printable(text, _FIELD_LIMIT)
    return "".join(c if c.isprintable() else "?" for c in text[:_FIELD_LIMIT])


def parameter(parameters: tuple[tuple[str, str], ...], name: str) -> str:
    """The value of one ESMTP parameter, "" if it was not given."""
    return next((value for key, value in parameters if key == name), "")


def about_message(me: str, queue_id: str, envelope: Envelope, wide: bool) -> str:
    """The first group: RFC 3464 section 2.2."""
    id = parameter(envelope.parameters, "ENVID")
    return (
        f"{f'Original-Envelope-Id: {field(_from_xtext(id), wide)}{_END}' if id else ''}"
        f"Reporting-MTA: dns; {field(me)}{_END}"
        f"X-Qmtls-Queue-Id: {field(queue_id)}{_END}"
        f"Arrival-Date: {formatdate(envelope.arrival.time)}{_END}"
    )


def about_recipient(recipient: Recipient, outcome: Outcome, now: float, wide: bool, until: float = 0.0) -> str:
    """One group for each recipient: RFC 3464 section 2.3. `until` of one who waits: when that ends, Unix seconds."""
    original = _original_recipient(recipient, wide)
    address = str(recipient.address)
    group = (
        f"{f'Original-Recipient: {original}{_END}' if original else ''}"
        f"Final-Recipient: {'rfc822' if address.isascii() else 'utf-8'}; {field(address, wide)}{_END}"
        f"Action: {action(outcome)}{_END}"
        f"Status: {outcome.status or '5.0.0'}{_END}"
    )
    if outcome.remote:
        if outcome.host:
            group += f"Remote-MTA: dns; {field(outcome.host.partition(' ')[0])}{_END}"
        group += f"Diagnostic-Code: smtp; {field(outcome.remote)}{_END}"
    elif outcome.fate is not Fate.DELIVERED:
        group += f"Diagnostic-Code: x-qmtls; {field(outcome.reason, wide)}{_END}"
    if outcome.unmet:
        group += f"X-Qmtls-TLS-Reason: {field(outcome.unmet, wide)}{_END}"
    if outcome.unmet and outcome.since:
        group += f"X-Qmtls-TLS-Unmet-Since: {formatdate(outcome.since)}{_END}"
    group += f"Last-Attempt-Date: {formatdate(now)}{_END}"
    return group + (f"Will-Retry-Until: {formatdate(until)}{_END}" if until else "")


def action(outcome: Outcome) -> str:
    """RFC 3464 section 2.3.3."""
    if outcome.notice is not None:
        return outcome.notice.value
    return "delayed" if outcome.fate is Fate.DEFERRED else "failed"


def _original_recipient(recipient: Recipient, wide: bool) -> str:
    """ORCPT as it came, without its xtext (RFC 3461 section 4.2). The type utf-8 keeps its own escapes (RFC 6533)."""
    kind, semicolon, value = parameter(recipient.parameters, "ORCPT").partition(";")
    if not semicolon:
        return ""
    text = value if kind.lower() == "utf-8" else _from_xtext(value)
    return f"{field(kind)}; {field(text, wide)}"


def _from_xtext(text: str) -> str:
    """RFC 3461 section 4: "+" and two hexadecimal digits stand for a character."""
    return _HEX.sub(lambda found: chr(int(found[1], 16)), text)
