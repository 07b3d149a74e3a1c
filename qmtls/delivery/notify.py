"""Who wants to be told what became of a message (RFC 3461 section 4.1), and whom nobody else will tell."""

from __future__ import annotations

from qmtls.delivery.dsn import is_double_bounce
from qmtls.smtp.envelope import Envelope, Recipient

SUCCESS = "SUCCESS"
FAILURE = "FAILURE"


def wants(recipient: Recipient, event: str) -> bool:
    """What NOTIFY says; without it failures are reported and deliveries are not. NEVER is neither."""
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
