"""One message on its way into the spool: its envelope, its trace field, its octets.

Small content is also remembered, so that the relayer need not read back what it just wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from qmtls.access import Peer
from qmtls.ledger.clients import ClientSeen, ShownClient
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.smtp.header import HeaderScan, says_nothing
from qmtls.smtp.reply import Reply
from qmtls.smtp.server import ServerSession
from qmtls.smtp.submission import missing_fields
from qmtls.smtp.trace import protocol, received_field
from qmtls.spool.api import Incoming, Spool
from qmtls.spool.incoming import gather
from qmtls.tls.clients import USER, ClientRule

REMEMBERED = 64 * 1024  # octets of content kept in memory for the first attempt


@dataclass(frozen=True, slots=True)
class Came:
    """How the message came: for the envelope and the trace field."""

    peer: Peer
    relay_by: str
    time: float  # Unix seconds
    me: str
    rule: ClientRule | None = None  # of the client's identities, the one that permitted the message
    shown: ShownClient | None = None  # who met it


class Reception:
    """A message being received; `trouble` is the reply if the disk failed before its end.

    The spool is opened when the header section has passed, because the envelope says what stands in it (RFC 8689).
    Until then `HeaderScan` holds its octets, and no more of them than it looks at.
    """

    __slots__ = (
        "_came",
        "_pieces",
        "_scan",
        "_trace",
        "envelope",
        "id",
        "incoming",
        "size",
        "spool",
        "trouble",
    )

    def __init__(self, spool: Spool, id: str, envelope: Envelope, trace: bytes, came: Came) -> None:
        self.spool = spool
        self.id = id
        self.envelope = envelope
        self.incoming: Incoming | None = None
        self.size = 0
        self.trouble: Reply | None = None
        self._came = came
        self._trace = trace
        self._scan: HeaderScan | None = None
        self._pieces: list[bytes] | None = []

    @classmethod
    def begin(
        cls, spool: Spool, id: str, session: ServerSession, recipients: tuple[Recipient, ...], came: Came
    ) -> Reception:
        """For the session's transaction, whose content now comes."""
        transaction = session.transaction
        assert transaction is not None
        peer, relay_by = came.peer, came.relay_by
        arrival = Arrival(
            time=came.time,
            client=peer.address,
            helo=session.helo,
            protocol=protocol(
                session.esmtp, peer.tls, authenticated=bool(session.authenticated), smtputf8=transaction.smtputf8
            ),
            tls=peer.tls_summary,
            identity=relay_by,
        )
        envelope = Envelope(
            reverse_path=transaction.reverse_path,
            recipients=recipients,
            arrival=arrival,
            body=transaction.body,
            smtputf8=transaction.smtputf8,
            requiretls=transaction.requiretls,
            parameters=transaction.parameters,
        )
        one = str(recipients[0].address) if len(recipients) == 1 else ""
        cert = came.rule.name if came.rule is not None and came.rule.kind != USER else ""
        trace = received_field(arrival, by=came.me, id=id, recipients=len(recipients), recipient=one, cert=cert)
        return cls(spool, id, envelope, trace, came)

    def write(self, data: bytes) -> bool:
        """True: the spool wants to write to the disk before it takes more. After trouble content is passed over."""
        self.size += len(data)
        if self.trouble is not None:
            return False
        if self.incoming is not None:
            return self._keep(self.incoming, data)
        if self._scan is None:
            if not self._came.peer.submission and says_nothing(data):
                return self._open(data)
            self._scan = HeaderScan()
        return self._open() if self._scan.feed(data) else False

    def end(self) -> Incoming:
        """All of it is there: what is to be committed."""
        if self.incoming is None:
            if self._scan is None:
                self._scan = HeaderScan()  # no content at all
            self._scan.finish()
            self._open()
        assert self.incoming is not None
        return self.incoming

    def _open(self, data: bytes = b"") -> bool:
        """With what the scan held, or with `data` if there was nothing to scan."""
        added, scan, came = b"", self._scan, self._came
        if scan is not None:
            if scan.tls_optional and not self.envelope.requiretls:
                self.envelope = replace(self.envelope, tls_optional=True)
            if came.peer.submission:
                added = missing_fields(scan, time=came.time, id=self.id, host=came.me)
            if scan.headless:
                added += b"\r\n"  # or its first line might continue our field
            data, self._scan = scan.take(), None
        incoming = self.incoming = self.spool.begin(self.id, self.envelope)
        return self._keep(incoming, b"".join((self._trace, added, data)))

    def _keep(self, incoming: Incoming, data: bytes) -> bool:
        if self._pieces is not None:
            gather(self._pieces, data)
            if self.size > REMEMBERED:
                self._pieces = None
        return incoming.write(data)

    @property
    def remembered(self) -> bytes | None:
        """The stored octets (trace field and content), if they were few enough."""
        return None if self._pieces is None else b"".join(self._pieces)

    def abort(self) -> None:
        """Nothing of it stays."""
        if self.incoming is not None:
            self.incoming.abort()

    def seen(self) -> ClientSeen | None:
        """For the ledger: which identity let it in; None if none had to."""
        came = self._came
        if came.rule is None or came.shown is None:
            return None
        return ClientSeen(came.rule.text, came.shown, came.peer.address, came.time, self.size)

    def log_accepted(self, say: Callable[[str], None]) -> None:
        """One line: what was accepted, from whom, and what opened the relay."""
        e, a = self.envelope, self.envelope.arrival
        first = str(e.recipients[0].address)
        more = f" recipients={len(e.recipients)}" if len(e.recipients) > 1 else ""
        tls = f' tls="{a.tls}"' if a.tls else ""
        relay = f' relay="{a.identity}"' if a.identity else ""
        say(
            f"accepted id={self.id} client={a.client} from=<{e.reverse_path or ''}> to=<{first}>{more}"
            f" size={self.size}{tls}{relay}"
        )
