"""Mail made on this host into the queue: the bin `inject`, by the same commit as received mail.

Works while the service is down; a running one is woken by the new file. When `inject` returns, the message is
synced to the disk. On failure nothing of it is left, and CommandError or SpoolError says why.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from qmtls.cli.compose import Defaults, Draft, complete
from qmtls.cli.home import Home
from qmtls.cli.owner import as_owner_of
from qmtls.net.ids import Ids
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.smtp.trace import received_field
from qmtls.spool.bins import INJECT
from qmtls.spool.maildir import MaildirSpool

# The control files that make other recipients out of those that were given.
EXPANDING = ("aliases", "virtualdomains", "percenthack")


class BadControl(Exception):
    """A control file about recipients cannot be used; str() says which, and how to mend it."""


@dataclass(frozen=True, slots=True)
class Posting:
    """Who sends to whom, and what the header says if the draft does not."""

    sender: Address | None  # None = the null reverse-path
    recipients: Sequence[Address]
    author: str
    full_name: str = ""
    subject: str | None = None
    to: Sequence[str] = ()
    parameters: tuple[tuple[str, str], ...] = ()  # of MAIL: RET, ENVID
    notify: str = ""  # NOTIFY of each recipient


def login_name() -> str:
    """Who runs this; the number of the account if it has no name."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid{uid}"


def inject(home: Home, draft: Draft, posting: Posting) -> str:
    """Completes the draft and commits it. Returns the queue id. BadControl: nothing was queued."""
    me = home.me()
    now = time.time()
    id = Ids().next()
    complete(draft, Defaults(posting.author, me, id, now, posting.full_name, posting.subject, posting.to))
    asked = (("NOTIFY", posting.notify),) if posting.notify else ()
    recipients = tuple(Recipient(address, asked) for address in meant(home, me, posting.recipients))
    envelope = Envelope(
        reverse_path=posting.sender,
        recipients=recipients,
        arrival=Arrival(now, protocol="local", identity=login_name()),
        body="8BITMIME" if draft.eight_bit else "7BIT",
        parameters=posting.parameters,
    )
    sole = str(recipients[0].address) if len(recipients) == 1 else ""
    received = received_field(envelope.arrival, by=me, id=id, recipients=len(recipients), recipient=sole)
    with as_owner_of(home.queue):
        _store(MaildirSpool(home.queue / INJECT), id, envelope, received, draft)
    return id


def inject_made(home: Home, id: str, envelope: Envelope, content: bytes) -> None:
    """Commits a message that is complete, and of our own making. BadControl: nothing was queued."""
    to = meant(home, home.me(), [recipient.address for recipient in envelope.recipients])
    envelope = replace(envelope, recipients=tuple(map(Recipient, to)))
    with as_owner_of(home.queue):
        spool = MaildirSpool(home.queue / INJECT)
        incoming = spool.begin(id, envelope)
        incoming.write(content)
        problem = spool.commit([incoming])[0]
        if problem is not None:
            incoming.abort()
            raise problem


def meant(home: Home, me: str, addresses: Sequence[Address]) -> Sequence[Address]:
    """The recipients to store: each once, aliases expanded. BadControl."""
    if any((home.control / name).exists() for name in EXPANDING):
        found: Sequence[Address] = import_module("qmtls.cli.expand").expand(home, me, addresses)
        return found
    return tuple(dict.fromkeys(addresses))


def _store(spool: MaildirSpool, id: str, envelope: Envelope, received: bytes, draft: Draft) -> None:
    incoming = spool.begin(id, envelope)
    try:
        incoming.write(received)
        for chunk in draft.chunks():
            if incoming.write(chunk):
                incoming.flush()
        problem = spool.commit([incoming])[0]
        if problem is not None:
            raise problem
    except BaseException:
        incoming.abort()
        raise
