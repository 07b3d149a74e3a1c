"""Mail of our own making into our own bin, and on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from qmtls.control.settings import Settings
from qmtls.net.commit import Committer
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Envelope, Recipient
from qmtls.spool.api import Spool


@dataclass(frozen=True, slots=True)
class Outbox:
    """`offer` is the relayer's; `is_mailbox` is for recipients that are aliases here."""

    committer: Committer
    own_spool: Callable[[], Spool]
    offer: Callable[[Spool, str, Envelope, bytes], None]
    settings: Callable[[], Settings]
    is_mailbox: Callable[[Address], bool]

    async def put(self, id: str, envelope: Envelope, content: bytes) -> None:
        """Returns when it is safe. Raises SpoolError."""
        to = envelope.recipients[0].address
        paths = self.settings().recipients.expand(to, self.is_mailbox)
        if paths != (to,):
            envelope = replace(envelope, recipients=tuple(Recipient(path) for path in paths))
        spool = self.own_spool()
        incoming = spool.begin(id, envelope)
        incoming.write(content)
        await self.committer.commit(spool, incoming)
        self.offer(spool, id, envelope, content)
