"""The server's side for tests: real protocol and handshakes, a spool in memory, clients that say what they are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from zope.interface import implementer

from qmtls.ledger.clients import ClientSeen
from qmtls.limits import DEFAULT, UNLIMITED
from qmtls.net.buckets import Buckets
from qmtls.net.doorkeeper import Doorkeeper
from qmtls.net.doors import Door, Role
from qmtls.net.house import House
from qmtls.net.ids import Ids
from qmtls.net.inbound import InboundProtocol
from qmtls.net.passwords import Passwords
from qmtls.net.reception import Reception
from qmtls.net.snapshot import Snapshot, make_snapshot
from qmtls.net.welcome import Welcome
from qmtls.smtp.address import Address
from qmtls.spool.api import Spool
from qmtls.spool.memory import MemorySpool
from tests.control.directory import compiled
from tests.net import certs
from tests.net.doubles import Desk, off_reactor
from tests.net.wire import Lines, Reactor

Files = dict[str, str | bytes]

PLAIN_DOOR = Door()
PLAIN: Files = {"me": "mail.example.org\n", "rcpthosts": "there.example\n", "timeoutsmtpd": "300\n"}


def with_tls(**more: str | bytes) -> Files:
    """A control directory that offers STARTTLS and knows our CA; `__` in a name stands for a dot."""
    named = {name.replace("__", "."): content for name, content in more.items()}
    trust: Files = {"servercert.pem": certs.server().bundle, "clientca.pem": certs.authority().pem}
    return {**PLAIN, **trust, "tlsclients": "alice@a.example\n", **named}


class Site:
    """One worker's inbound side."""

    def __init__(self, control: Path, files: Files = PLAIN) -> None:
        self.control = control
        self.reactor = Reactor()
        self.desk = Desk()
        self.spool = MemorySpool()
        self.log: list[str] = []
        self.offered: list[Reception] = []
        self.seen: list[ClientSeen] = []
        self.room = 1 << 40
        self.welcomes: dict[Door, Welcome] = {}
        self.mailboxes: Callable[[Address], bool] = lambda address: False
        self.snapshot = self.make(files)
        self.connections: set[InboundProtocol] = set()
        self.house = House(
            clock=self.reactor,
            now=self.reactor.seconds,
            current=lambda: self.snapshot,
            spool=lambda: self.spool,
            committer=self.desk,  # type: ignore[arg-type]
            next_id=Ids(salt="00000000").next,
            is_mailbox=lambda address: self.mailboxes(address),
            accepted=self.accepted,
            say=self.log.append,
            connections=self.connections,
            doorkeeper=Doorkeeper(
                Buckets(control.with_name(f"{control.name}.state"), self.log.append, self.reactor.seconds),
                self.log.append,
            ),
            passwords=Passwords(off_reactor),
            seen=self.seen.append,
            room=lambda: self.room,
        )

    def make(self, files: Files) -> Snapshot:
        return make_snapshot(compiled(self.control, files))

    def tireless(self) -> None:
        """As many commands without a message as a client likes."""
        for role in Role:
            for limits in (DEFAULT, UNLIMITED):
                config = self.snapshot.config(role, limits)
                key = (role, limits.recipients, limits.errors)
                self.snapshot._configs[key] = replace(config, max_commands=0)

    def accepted(self, spool: Spool, reception: Reception) -> None:
        assert spool is self.spool
        self.offered.append(reception)

    def client(self, source: str = "192.0.2.1", door: Door = PLAIN_DOOR, says: bytes = b"") -> Client:
        """A connected client that has read the greeting; `says` is what it did not wait with."""
        client = Client(self.reactor)
        if door not in self.welcomes:
            self.welcomes[door] = Welcome(self.house, 1000, door)
        made: Any = self.welcomes[door].buildProtocol(IPv4Address("TCP", source, 40000))
        self.reactor.join(client, made, source=source, says=says)
        self.reactor.run()
        accepted = self.reactor.connections[-1][1]
        self.protocol: InboundProtocol = getattr(accepted, "protocol", made)  # behind a proxy it comes later
        return client

    @property
    def stored(self) -> list[str]:
        return sorted(waiting.id for waiting in self.spool.scan())

    def content(self, id: str) -> bytes:
        return b"".join(self.spool.content(id).chunks())


@dataclass
class Session:
    """A session of a client, kept to be resumed; `leaf` is what its next connection shows."""

    session: Any = None
    leaf: certs.Leaf | None = None


@implementer(IOpenSSLClientConnectionCreator)
class Shows:
    """The client's side of a handshake with its own context."""

    def __init__(self, context: SSL.Context, session: Session | None = None) -> None:
        self.context = context
        self.session = session
        self.conn: Any = None

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        self.conn = conn = SSL.Connection(self.context, None)
        kept = self.session
        if kept is not None and kept.session is not None:
            conn.set_session(kept.session)
        if kept is not None and kept.leaf is not None:
            conn.use_certificate(kept.leaf.cert)
            conn.use_privatekey(kept.leaf.key)
        return conn


@implementer(IHandshakeListener)
class Client(Lines):
    """Speaks raw octets; `say` gives the reply."""

    def __init__(self, reactor: Reactor) -> None:
        super().__init__()
        self.reactor = reactor
        self.secured = False
        self.creator: Shows | None = None

    def handshakeCompleted(self) -> None:
        self.secured = True

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)
        self.reactor.run()

    def say(self, *lines: str) -> str:
        """Sends the lines at once; what came back, lines joined by "|"."""
        self.got.clear()
        self.send("".join(f"{line}\r\n" for line in lines).encode())
        return "|".join(self.replies)

    def start_tls(self, context: SSL.Context | None = None, session: Session | None = None) -> None:
        """STARTTLS and the handshake."""
        assert self.say("EHLO c.example").startswith("250")
        assert self.say("STARTTLS") == "220 ready for tls"
        self.shake(context, session)

    def shake(self, context: SSL.Context | None = None, session: Session | None = None) -> None:
        self.got.clear()
        self.creator = Shows(context or certs.context(), session)
        self.transport.startTLS(self.creator)  # type: ignore[union-attr]
        self.reactor.run()

    def begin(self, sender: str = "s@c.example", *recipients: str) -> None:
        """EHLO to RCPT."""
        assert self.say("EHLO c.example").startswith("250")
        assert self.say(f"MAIL FROM:<{sender}>").startswith("250")
        for recipient in recipients or ("r@there.example",):
            assert self.say(f"RCPT TO:<{recipient}>").startswith("250")

    def mail(self, body: str = "Subject: x\r\n\r\nhello", sender: str = "s@c.example") -> str:
        """One whole message; the reply to its end."""
        self.begin(sender)
        assert self.say("DATA").startswith("354")
        return self.say(body, ".")
