"""The scope of an identity: for which senders, recipients, sizes, how often and until when its rule holds.

Pure: a scope says yes or no and why; counting messages against a rate is others' work. Nothing given = no bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Protocol

from qmtls.lookup import folded, parents


class Mailbox(Protocol):
    """What a pattern wants to know of an address: `host` is for comparisons (lower case, A-labels, no final dot)."""

    @property
    def local_part(self) -> str: ...
    @property
    def host(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` messages in `seconds`; `text` as written: "100/h"."""

    count: int
    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class Patterns:
    """Addresses: "@a.example" (this domain), ".b.example" (every name below), "c@d.example", "<>" (the null path).

    All in lower case, domains as A-labels; `text` is the list as written.
    """

    words: frozenset[str]
    text: str

    def admit(self, address: Mailbox | None) -> bool:
        """True if one of them fits."""
        return not self.words.isdisjoint(words_for(address))


def words_for(address: Mailbox | None) -> list[str]:
    """Every pattern that fits the address. ASCII letters of the local part are compared without case."""
    if address is None:
        return ["<>"]
    host = address.host
    return [f"@{host}", f"{folded(address.local_part)}@{host}", *parents(host)]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule is good for. `size` in octets, 0 = no bound; `until` in Unix seconds, the first moment too late."""

    senders: Patterns | None = None
    recipients: Patterns | None = None
    rate: Rate | None = None
    size: int = 0
    until: float = inf
    label: str = ""

    def permits_sender(self, address: Mailbox | None) -> bool:
        return self.senders is None or self.senders.admit(address)

    def permits_recipient(self, address: Mailbox) -> bool:
        return self.recipients is None or self.recipients.admit(address)

    def permits(self, sender: Mailbox | None, recipient: Mailbox, now: float) -> bool:
        return now < self.until and self.permits_sender(sender) and self.permits_recipient(recipient)

    def sender_bound(self) -> str:
        """ "from=@a.example", for a refusal."""
        return f"from={self.senders.text}" if self.senders is not None else ""

    def objection(self, sender: Mailbox | None, recipient: Mailbox, now: float) -> str:
        """What it does not permit, in the words of its line: "to=@a.example"; "" if it permits all."""
        if now >= self.until:
            return f"until={datetime.fromtimestamp(self.until - 1, UTC):%Y-%m-%d} has passed"
        if not self.permits_sender(sender):
            return self.sender_bound()
        if self.recipients is not None and not self.permits_recipient(recipient):
            return f"to={self.recipients.text}"
        return ""


UNBOUNDED = Scope()
