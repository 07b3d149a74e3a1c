"""Who wants to be told what became of a message (RFC 3461 section 4.1), and whom nobody else will tell."""

from __future__ import annotations

import re

from qmtls.delivery.dsn import is_double_bounce
from qmtls.smtp.envelope import Envelope, Recipient

SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
DELAY = "DELAY"

_OF_A_LIST = re.compile(rb"\n(?:list-id[ \t]*:|precedence[ \t]*:[ \t]*(?:list|bulk|junk)[ \t\r])", re.IGNORECASE)


def wants(recipient: Recipient, event: str) -> bool:
    """What NOTIFY says; without it failures and delays are reported, deliveries are not. NEVER is neither."""
    for key, value in recipient.parameters:
        if key == "NOTIFY":
            return event in value.upper().split(",")
    return event != SUCCESS


def to_be_confirmed(envelope: Envelope, index: int) -> bool:
    """True if the sender asked for word of this recipient's delivery, and there is a sender."""
    recipient = envelope.recipients[index]
    if not recipient.parameters or envelope.reverse_path is None or is_double_bounce(envelope):
        return False
    return wants(recipient, SUCCESS)


def is_from_a_list(content: bytes) -> bool:
    """True if the header at the beginning of `content` says that it went to many: nobody there waits for a warning."""
    head = b"\r\n" + content
    return _OF_A_LIST.search(head, 0, head.find(b"\r\n\r\n") + 1 or len(head)) is not None
