"""What the answers of a next hop mean for one recipient: delivered, to be tried again, or failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of one recipient in one attempt.

    `reason` is the one sentence that log, listing and failure report show: it names the host and, for
    TLS trouble, the rule. `status` is the enhanced status code for the report ("4.7.5").
    `remote` is the remote host's own reply, "" if it said nothing (RFC 3464 Diagnostic-Code).
    `host` is the host that answered, "" if none was reached. `tls` is the verdict's summary for the log.
    """

    fate: Fate
    reason: str
    status: str = ""
    remote: str = ""
    host: str = ""
    tls: str = ""
