"""The relaying half of a worker in a network of scripted hosts: queue and DNS in memory, time by order."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from qmtls.ledger.handshakes import Handshake
from qmtls.net.buckets import Buckets
from qmtls.net.ids import Ids
from qmtls.net.mailboxes import FOLDERS, Mailboxes
from qmtls.net.snapshot import make_snapshot
from qmtls.service.filing import Registrar
from qmtls.service.lane import Workshop
from qmtls.service.local import LocalDelivery
from qmtls.service.relayer import Relayer
from qmtls.service.signing import Signer
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import Attempt as Entry
from qmtls.spool.memory import MemorySpool
from tests.control.directory import compiled
from tests.net.doubles import Desk, Names, Policies, off_reactor
from tests.net.hosts import Host
from tests.net.house import Files
from tests.net.wayout import dialer_of
from tests.net.wire import Reactor

CONTENT = b"Subject: hello\r\n\r\n.dot\r\nbody\r\n"
START = 1_800_000_000.0


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


def recipient(text: str) -> Recipient:
    """`x@a.example`, and parameters behind it: `x@a.example/NOTIFY=NEVER`."""
    path, *words = text.split("/")
    parameters = [word.partition("=") for word in words]
    return Recipient(address(path), tuple((key, value) for key, _, value in parameters))


class Office:
    """`post` a message; `run` and `pass_time` (of `reactor`) let it go."""

    def __init__(self, path: Path, files: Files | None = None) -> None:
        self.path = path
        self.reactor = Reactor()
        self.reactor.rightNow = START
        self.clock_set_by = 0.0  # seconds: what somebody does to the clock of the host
        self.desk = Desk()
        self.names = Names()
        self.log: list[str] = []
        self.spool = MemorySpool("1")
        self.ids = Ids(now=lambda: int(self.reactor.seconds() * 1e9), salt="00000000")
        self.load(files or {})
        self.policies = Policies()
        self.shown: list[Handshake] = []
        dialer = dialer_of(self.reactor, self.names, frozenset, self.log.append, self.policies)
        dialer = replace(dialer, show=self.shown.append)
        signer = Signer(lambda: self.snapshot.settings.dkim, off_reactor, self.log.append, self.now)
        shop = Workshop(self.reactor, dialer, lambda: self.snapshot, off_reactor, self.log.append, signer, now=self.now)
        self.relayer = relayer = Relayer(self.reactor, self.now, self.desk, shop, self.log.append)  # type: ignore[arg-type]
        relayer.destinations.counts = Buckets(path / "state", self.log.append, self.reactor.seconds)
        relayer.registrar = Registrar(
            self.reactor,
            self.now,
            self.desk,  # type: ignore[arg-type]
            self.ids,
            lambda: self.snapshot.settings,
            lambda: self.spool,
            relayer.offer,
            relayer.waits,
            relayer.finished,
            self.log.append,
            Mailboxes(path / "mail").may_exist,
        )
        mail = path / "mail"
        mail.mkdir(exist_ok=True)
        (path / "state").mkdir(exist_ok=True)
        relayer.local = LocalDelivery(
            Mailboxes(mail),
            off_reactor,
            lambda: self.snapshot.settings.concurrency_local,
            lambda: self.snapshot.settings.recipients,
        )
        relayer.adopt(self.spool)

    def now(self) -> float:
        """The time of day."""
        return self.reactor.seconds() + self.clock_set_by

    def load(self, files: Files) -> None:
        """New settings, as a reload brings them."""
        shutil.rmtree(self.path / "control", ignore_errors=True)
        self.snapshot = make_snapshot(compiled(self.path / "control", {"timeoutremote": "60\n", **files}))

    def host(self, name: str, host: Host | None = None, ip: str = "", port: int = 25) -> Host:
        """An MX host `name` of the domain that it is named after: mx.DOMAIN, mx2.DOMAIN ..."""
        host = host or Host()
        first, _, domain = name.partition(".")
        number = int(first.removeprefix("mx") or 1)
        ip = ip or f"192.0.2.{len(self.names.hosts) + 1}"
        self.names.mail.setdefault(domain, []).append((number, name))
        self.names.hosts[name] = ip
        self.reactor.hosts[ip, port] = host.accept
        return host

    def mailbox(self, user: str) -> Path:
        for folder in FOLDERS:
            (self.path / "mail" / user / folder).mkdir(parents=True)
        return self.path / "mail" / user / "new"

    def post(
        self,
        *recipients: str,
        sender: str | None = "s@here.example",
        content: bytes = CONTENT,
        spool: MemorySpool | None = None,
        offer: bool = True,
        **more: Any,
    ) -> str:
        """Stores a message and offers it, as the inbound side does; its id."""
        spool = spool or self.spool
        envelope = Envelope(
            reverse_path=address(sender) if sender else None,
            recipients=tuple(recipient(r) for r in recipients),
            arrival=Arrival(self.now(), "192.0.2.200"),
            **more,
        )
        id = self.ids.next()
        incoming = spool.begin(id, envelope)
        incoming.write(content)
        assert spool.commit([incoming]) == [None]
        if offer:
            self.relayer.offer(spool, id, envelope, content)
        return id

    def run(self) -> None:
        self.reactor.run()

    def pass_time(self, seconds: float, step: float = 0.0) -> None:
        self.reactor.pass_time(seconds, step or max(1.0, seconds / 100))

    @property
    def ids_stored(self) -> list[str]:
        return sorted(waiting.id for waiting in self.spool.scan())

    def due(self, id: str) -> float:
        """Seconds from now."""
        (found,) = [w.due for w in self.spool.scan() if w.id == id]
        return found - self.now()

    def history(self, id: str) -> tuple[Entry, ...]:
        return self.spool.history(id)

    def said(self, word: str) -> list[str]:
        return [line for line in self.log if line.startswith(word)]


def taken(*hosts: Host) -> list[str]:
    """Who got something, with repetitions."""
    return sorted(r for host in hosts for mail in host.mail for r in mail.recipients)


def verbs(host: Host) -> list[list[str]]:
    return [visit.verbs for visit in host.visits]


def count(items: Iterable[Any]) -> int:
    return sum(1 for _ in items)
