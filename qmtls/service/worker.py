"""One worker: accepts into its own bin, relays from its own bins, adopts the bins of workers that died.

The assembly of the parts; nothing here knows SMTP or TLS. `stop` takes no new mail, lets what is in flight finish
for 30 seconds, and leaves the rest to the next start: it is all on the disk.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from random import random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from qmtls.ledger.schema import FILE as LEDGER
from qmtls.net.bins import Bins
from qmtls.net.buckets import Buckets
from qmtls.net.commit import Committer
from qmtls.net.diskroom import disk_room
from qmtls.net.doorkeeper import Doorkeeper
from qmtls.net.doors import Door
from qmtls.net.house import Connection, House
from qmtls.net.ids import Ids
from qmtls.net.kernelsync import kernel_sync
from qmtls.net.ledger import Ledger
from qmtls.net.mailboxes import Mailboxes
from qmtls.net.openfiles import for_clients, for_lanes, raise_limit
from qmtls.net.outbound import Dialer
from qmtls.net.passwords import Passwords
from qmtls.net.resolver import Resolver
from qmtls.net.snapshot import Snapshot
from qmtls.net.stscache import StsCache
from qmtls.net.stsfiles import StsFiles
from qmtls.net.targets import Finder
from qmtls.net.weblater import Web
from qmtls.net.welcome import Welcome
from qmtls.net.witness import Witness
from qmtls.service.filing import Registrar
from qmtls.service.lane import Workshop
from qmtls.service.listening import own_addresses
from qmtls.service.live import LiveSettings
from qmtls.service.local import LocalDelivery
from qmtls.service.outbox import Outbox
from qmtls.service.places import Places
from qmtls.service.relayer import Relayer
from qmtls.service.signing import Signer
from qmtls.service.tlsreports import Outlets, Sender, TlsReports
from qmtls.service.upkeep import HOUR, Upkeep
from qmtls.spool.api import Spool
from qmtls.spool.maildir import MaildirSpool

STS = "sts"  # directory of cached MTA-STS policies, in HOME/state
UMASK = 0o077  # twistd sets it only as a daemon
LOOK_SECONDS = 1.0  # control directory, pokes, room on the disk
ADOPT_SECONDS = 5.0  # bins without an owner
RESCAN_SECONDS = 60.0  # everything, for what no poke announced
RESCAN_SHARE = 20  # times as long as a listing took, at least, until the next
REPORT_SECONDS = 600.0  # TLS reports that are due
DRAIN_SECONDS = 30.0  # for what is in flight at TERM

log = Logger()


def _guarded(work: Callable[[], None]) -> Callable[[], None]:
    """A timer that a fault does not end: it would mean no reload, no adoption, no retry until the next start."""

    def run() -> None:
        try:
            work()
        except Exception:
            log.failure("a timer of ours")

    return run


class Worker:
    """`start` takes the bins; `factory()` is for the listening sockets."""

    def __init__(
        self,
        reactor: Any,
        places: Places,
        first: Snapshot,
        say: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._places = places
        self._say = say
        self._now = now
        self._own: MaildirSpool | None = None
        self._ports: list[IListeningPort] = []
        self._connections: set[Connection] = set()
        self._loops: list[LoopingCall] = []
        self._rescan_again = 0.0
        self._room = disk_room(places.queue)
        self._files = raise_limit()
        # The parts, each made of those before it.
        self.live = LiveSettings(places.control, first, self._off_reactor, say)
        self.live.changed = self._reloaded
        self._ids = Ids()
        self._bins = Bins(places.queue)
        self._mailboxes = Mailboxes(places.mail)
        self._syncs = kernel_sync(reactor)
        self.committer = Committer(reactor.callFromThread, self._syncs)
        self._ledger = Ledger(places.state / LEDGER, reactor.callFromThread, say, now)
        settings = self.live.settings()
        self._resolver = Resolver(reactor, settings.dns_servers, settings.dns_trusted)
        self._web = Web(reactor, self._resolver)
        self._policies = StsCache(StsFiles(places.state / STS), self._resolver, self._web.fetch, self._off_reactor, now)
        self._upkeep = Upkeep(self._resolver, self._policies, self.live.settings, say)
        self._buckets = Buckets(places.state, say)
        self.relayer = self._make_relayer()
        self._house = self._make_house()
        self._reports = self._make_reports()

    def _off_reactor(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    def _hosts(self) -> Iterable[str]:
        hosts = (port.getHost() for port in self._ports)
        return [host.host for host in hosts if hasattr(host, "host")]  # a unix socket has none

    def _spool(self) -> Spool:
        assert self._own is not None
        return self._own

    # ------------------------------------------------------------ assembly

    def _make_shop(self) -> Workshop:
        """What connections out are made with."""
        reactor, off_reactor, now, say = self._reactor, self._off_reactor, self._now, self._say
        finder = Finder(self._resolver, own_addresses(self._hosts), reactor, for_lanes(self._files))
        witness = Witness(self._resolver, self._policies, now)
        dialer = Dialer(reactor, finder, witness, off_reactor, say, self._ledger.session, self._ledger.handshake)
        signer = Signer(lambda: self.live.settings().dkim, off_reactor, say, now)
        return Workshop(reactor, dialer, self.live.current, off_reactor, say, signer, now=now)

    def _make_relayer(self) -> Relayer:
        """With those who end its attempts and who deliver here: both call it back."""
        settings, boxes = self.live.settings, self._mailboxes
        relayer = Relayer(self._reactor, self._now, self.committer, self._make_shop(), self._say)
        relayer.lanes.limit = for_lanes(self._files)
        relayer.destinations.counts = self._buckets
        relayer.registrar = Registrar(
            clock=self._reactor,
            now=self._now,
            committer=self.committer,
            ids=self._ids,
            settings=settings,
            own_spool=self._spool,
            offer=relayer.offer,
            waits=relayer.waits,
            finished=relayer.finished,
            say=self._say,
            is_mailbox=boxes.may_exist,
        )
        relayer.local = LocalDelivery(
            boxes, self._off_reactor, lambda: settings().concurrency_local, lambda: settings().recipients
        )
        return relayer

    def _make_reports(self) -> TlsReports:
        settings = self.live.settings
        outbox = Outbox(self.committer, self._spool, self.relayer.offer, settings, self._mailboxes.may_exist)
        outlets = Outlets(self._resolver.txt, self._web.post, outbox.put)
        sender = Sender(self._places.state / LEDGER, outlets, self._off_reactor, self._ids.next, self._say)
        return TlsReports(sender, settings, self._now, random)

    def _make_house(self) -> House:
        """What connections in have in common."""
        return House(
            clock=self._reactor,
            now=self._now,
            current=self.live.current,
            spool=self._spool,
            committer=self.committer,
            next_id=self._ids.next,
            is_mailbox=self._mailboxes.exists,
            accepted=self.relayer.accepted,
            say=self._say,
            connections=self._connections,
            doorkeeper=Doorkeeper(self._buckets, self._say),
            passwords=Passwords(self._off_reactor),
            seen=self._ledger.saw,
            room=lambda: self._room,
        )

    # ------------------------------------------------------------ life

    def factory(self, door: Door) -> Welcome:
        """For one listening socket."""
        return Welcome(self._house, for_clients(self._files), door)

    def listens(self, port: IListeningPort) -> None:
        """A bound port of ours: its address is one of our own, and it closes when we stop."""
        self._ports.append(port)

    def start(self) -> None:
        """Takes a bin; the sockets may be open before, connections are served from the next reactor turn on."""
        os.umask(UMASK)
        self._own = self._bins.acquire_own()
        self._say(f"worker started pid={os.getpid()} bin={self._own.name}")
        self.relayer.adopt(self._own)
        for seconds, work in (
            (LOOK_SECONDS, self._look),
            (ADOPT_SECONDS, self._adopt),
            (RESCAN_SECONDS, self._rescan),
            (HOUR, self._upkeep.hourly),
            (REPORT_SECONDS, self._reports.look),
        ):
            loop = LoopingCall(_guarded(work))
            loop.clock = self._reactor
            self._loops.append(loop)
            loop.start(seconds, now=False).addErrback(lambda failure: log.failure("a timer of ours", failure=failure))
        self._reactor.callLater(0.2, self._adopt)
        self._reactor.callLater(0.2, self._upkeep.look)

    def _reloaded(self) -> None:
        settings = self.live.settings()
        self._resolver.use(settings.dns_servers, settings.dns_trusted)
        self._upkeep.look()
        self.relayer.reloaded()
        self.relayer.local.wake()

    def _look(self) -> None:
        self._room = disk_room(self._places.queue)
        self.live.look()
        self.committer.run(self._bins.tidy).addErrback(lambda failure: log.failure("tidying up", failure=failure))
        if self.live.changing:
            return  # who replaces a pin and then says `queue retry` means the new one
        for spool in self._bins.poked():
            self.relayer.rescan(spool)

    def _adopt(self) -> None:
        for spool in self._bins.adopt():
            self._say(f"adopted bin={spool.name}")
            self.relayer.adopt(spool)
        warnings = self._bins.warnings
        while warnings:
            self._say(f"left alone {warnings.pop(0)}")

    def _rescan(self) -> None:
        began = self._reactor.seconds()
        if began >= self._rescan_again:
            self._rescan_again = math.inf
            listings = [self.relayer.rescan(spool) for spool in self.relayer.spools.values()]
            DeferredList(listings).addCallback(lambda _: self._rescanned(began))

    def _rescanned(self, began: float) -> None:
        """A listing of a million names takes ten seconds: it must not be most of what is done."""
        now = self._reactor.seconds()
        self._rescan_again = now + RESCAN_SHARE * (now - began)

    async def stop(self) -> None:
        """Graceful end."""
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self.relayer.stop()
        self._reports.stop()
        for connection in list(self._connections):
            connection.shut_down()
        deadline = self._reactor.seconds() + DRAIN_SECONDS
        while (self._connections or self.relayer.busy) and self._reactor.seconds() < deadline:
            await self._pause(0.05)
        for connection in list(self._connections):
            connection.cut_off()
        await self.committer.stop()
        if self._syncs is not None:
            self._syncs.close()
        await self._ledger.stop()
        self._bins.release_all()
        self._say("worker stopped")

    def _pause(self, seconds: float) -> Deferred[None]:
        waking: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, waking.callback, None)
        return waking
