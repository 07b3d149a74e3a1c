"""What the answers of a next hop mean for one recipient: delivered, to be tried again, or failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from qmtls.smtp.events import Result, Stage

# How much of a peer's reply is kept for people to read (qmail keeps 5000 octets).
MAX_REMOTE = 1000


class Fate(Enum):
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    HELD = "held"  # not tried: an operator holds it, or pauses the host; it does not grow too old meanwhile


class Notice(Enum):
    """Good news that the sender asked for (NOTIFY=SUCCESS), in the words of RFC 3464 section 2.3.3.

    RELAYED: to a host that will send no word of its own.
    """

    DELIVERED = "delivered"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of one recipient in one attempt.

    `reason` is the one sentence that log, listing and failure report show: it names the host and, for
    TLS trouble, the rule. `status` is the enhanced status code for the report ("4.7.5").
    `remote` is the remote host's own reply, "" if it said nothing (RFC 3464 Diagnostic-Code).
    `host` is the host that answered, "" if none was reached. `tls` is the verdict's summary for the log.
    `notice` of a delivery: the sender is to be told of it by us.
    `unmet` is the verdict's sentence where a TLS demand was not met: such mail has a lifetime of its own.
    `look` is when a next hop that was left alone is looked at again, Unix seconds: mail that waits for it is due then.
    `since` is when the first of a row of attempts met none, Unix seconds; 0.0 if nobody asked yet.
    """

    fate: Fate
    reason: str
    status: str = ""
    remote: str = ""
    host: str = ""
    tls: str = ""
    notice: Notice | None = None
    unmet: str = ""
    since: float = 0.0
    look: float = 0.0

    @property
    def leaves_nothing(self) -> bool:
        """Delivered, and nobody is to be told."""
        return self.fate is Fate.DELIVERED and self.notice is None


# The stages whose 5xx speaks of this message or recipient. Before them it speaks of us or of that host's state:
# mail waits, as with qmail and Postfix.
_DECISIVE = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.SENDING, Stage.CONTENT})

# RFC 3463, without the class: what is said when the reply has no enhanced status of its own.
_REFUSED_STATUS: Mapping[Stage, str] = {
    Stage.GREETING: "4.2",  # bad connection
    Stage.EHLO: "4.2",
    Stage.STARTTLS: "7.5",  # cryptographic failure
    Stage.MAIL: "1.0",  # other address status
    Stage.RCPT: "1.0",
}
# The same for no reply at all.
_SILENT_STATUS: Mapping[Stage, str] = {
    Stage.CONNECT: "4.1",  # no answer from host
    Stage.STARTTLS: "7.5",
    Stage.HANDSHAKE: "7.5",
}

_TOO_MANY = frozenset({"", "4.5.3", "5.5.3"})


def judge_result(result: Result, host: str, tls: str = "") -> Outcome:
    """What `result` means. `host` as people read it: "mx.example (192.0.2.1)"; `tls` the verdict's summary.

    Delivered only by a 2xx to the whole content, failed only by the peer's own 5xx to this message or
    recipient; all else is tried again.
    """
    reply = result.reply
    if reply is None:
        return Outcome(Fate.DEFERRED, _silence(result, host), _status(result, Fate.DEFERRED), "", host, tls)
    said = str(reply)[:MAX_REMOTE]
    if result.stage is Stage.CONTENT and 200 <= reply.code < 300:
        return Outcome(Fate.DELIVERED, f"{host} accepted the message: {said}", reply.status or "2.0.0", said, host, tls)
    permanent = reply.is_permanent and result.stage in _DECISIVE and not too_many_recipients(result)
    fate = Fate.FAILED if permanent else Fate.DEFERRED
    return Outcome(fate, f"{host} said at {result.stage.value}: {said}", _status(result, fate), said, host, tls)


def too_many_recipients(result: Result) -> bool:
    """True if RCPT was refused because the transaction had enough of them: try this recipient again at once.

    RFC 5321 section 4.5.3.1.10: code 452, or an old server's 552, which then is temporary too. With another
    enhanced status they mean a full mailbox. Only sensible if other recipients of the transaction were taken.
    """
    reply = result.reply
    return result.stage is Stage.RCPT and reply is not None and reply.code in (452, 552) and reply.status in _TOO_MANY


def _silence(result: Result, host: str) -> str:
    if result.stage is Stage.CONTENT:
        return f"{host}: {result.why} after all content was sent; it may have been accepted (possible duplicate)"
    return f"{host}: {result.why} at {result.stage.value}"


def _status(result: Result, fate: Fate) -> str:
    """The reply's own enhanced status if its class fits the fate, else the default of the stage."""
    kind = "5" if fate is Fate.FAILED else "4"
    if result.reply is None:
        return f"{kind}.{_SILENT_STATUS.get(result.stage, '4.2')}"
    if result.reply.status.startswith(kind):
        return result.reply.status
    return f"{kind}.{_REFUSED_STATUS.get(result.stage, '0.0')}"
