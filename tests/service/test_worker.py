"""The assembly: a message through all of a worker, with its real threads, queue on disk and mailboxes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from qmtls.net.bins import Bins
from qmtls.net.doors import Door
from qmtls.net.mailboxes import FOLDERS
from qmtls.service.live import load
from qmtls.service.places import places
from qmtls.service.worker import ADOPT_SECONDS, DRAIN_SECONDS, LOOK_SECONDS, RESCAN_SECONDS, RESCAN_SHARE, Worker
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.maildir import MaildirSpool
from tests.control.directory import write
from tests.net.house import Client, with_tls
from tests.net.wire import Reactor
from tests.spool.mail import store

ID = "0123456789abc00000000"


class Port:
    """A bound socket, as far as the worker needs one."""

    def __init__(self) -> None:
        self.stopped = False

    def getHost(self) -> Any:
        return type("Host", (), {"host": "192.0.2.25"})

    def stopListening(self) -> None:
        self.stopped = True


class Home:
    """A home with one worker in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write(path / "control", {**with_tls(), "locals": "here.example\n", "rcpthosts": "here.example\n"})
        for folder in FOLDERS:
            (path / "mail/joe" / folder).mkdir(parents=True)
        self.inbox = path / "mail/joe/new"
        self.log: list[str] = []
        self.start()

    def start(self) -> None:
        self.reactor = Reactor()
        self.reactor.rightNow = 1_800_000_000.0
        self.places = places(str(self.path))
        self.worker = Worker(
            self.reactor, self.places, load(self.places.control), self.log.append, self.reactor.seconds
        )
        self.port = cast(Any, Port())
        self.worker.listens(self.port)
        self.factory = self.worker.factory(Door())
        self.worker.start()

    def client(self) -> Client:
        client = Client(self.reactor)
        self.protocol = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40000))
        self.reactor.join(client, self.protocol)
        self.reactor.run()
        return client

    def mail(self, client: Client) -> None:
        client.begin("s@c.example", "joe@here.example")
        client.say("DATA")
        client.say("Subject: x", "", "hello", ".")

    def wait(self, what: Any) -> None:
        self.reactor.run(until=what)

    def stop(self) -> list[Any]:
        done: list[Any] = []
        Deferred.fromCoroutine(self.worker.stop()).addCallbacks(done.append, done.append)
        self.reactor.run()
        return done

    def delivered(self) -> list[Path]:
        return list(self.inbox.iterdir())

    def queued(self) -> list[Path]:
        return [path for part in ("new", "cur") for path in (self.path / "queue").glob(f"*/{part}/*")]

    def finish(self) -> None:
        """Ends it within its time."""
        done = self.stop()
        for _ in range(int(DRAIN_SECONDS * 25)):
            if self.worker.committer._stopping:
                break
            self.reactor.pass_time(0.05, 0.05)
        self.wait(lambda: done)
        assert done == [None]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    umask = os.umask(0o022)
    made = Home(tmp_path)
    assert os.umask(umask) == 0o077, "queue files are for nobody else"
    yield made
    if not made.worker.committer._stopping:
        for connection in list(made.worker._connections):
            connection.cut_off()
        made.reactor.run()
        made.finish()


def test_a_message_through_all_of_it(home: Home) -> None:
    client = home.client()
    client.start_tls()
    home.mail(client)
    home.wait(lambda: home.delivered())
    home.wait(lambda: not home.queued())
    (path,) = home.delivered()
    text = path.read_bytes()
    assert text.startswith(b"Return-Path: <s@c.example>\nDelivered-To: joe@here.example\nReceived: from c.example")
    assert b"ESMTPS" in text and text.endswith(b"\nSubject: x\n\nhello\n")
    assert client.replies[-1].startswith("250 2.0.0 ok ")
    assert [line for line in home.log if line.startswith("accepted id=")]
    assert [line for line in home.log if line.startswith("delivered id=")]
    assert any("worker started pid=" in line and "bin=1" in line for line in home.log)


def test_no_such_mailbox(home: Home) -> None:
    client = home.client()
    client.say("EHLO c", "MAIL FROM:<>")
    assert client.say("RCPT TO:<nobody@here.example>").startswith("550 5.1.1")


def test_a_reload_is_seen_within_two_seconds(home: Home) -> None:
    write(home.path / "control", {"databytes": "5\n", "dnsserver": "192.0.2.53\n"})
    home.reactor.pass_time(2 * LOOK_SECONDS + 0.1, 0.5)
    client = home.client()
    assert "SIZE 5" in client.say("EHLO c")
    servers: list[Any] = list(home.worker._resolver._resolver.nameservers)
    assert [server.address for server in servers] == ["192.0.2.53"]


def test_the_bin_of_a_dead_worker_is_adopted(home: Home) -> None:
    dead = home.path / "queue/7"
    envelope = Envelope(None, (Recipient(Address("joe", "here.example")),), Arrival(1_799_999_000.0))
    spool = MaildirSpool(dead)
    store(spool, ID, b"Subject: left\r\n\r\n", envelope)
    spool.close()
    home.reactor.pass_time(ADOPT_SECONDS + 0.1, 0.5)
    home.wait(lambda: home.delivered())
    home.wait(lambda: not home.queued())
    assert "adopted bin=7" in home.log
    assert b"Subject: left" in home.delivered()[0].read_bytes()


def test_mail_put_into_the_queue_by_others(home: Home) -> None:
    """Into `inject`, which announces it; and what nothing announced is found by the next rescan."""
    home.reactor.pass_time(1, 0.2)
    inject = MaildirSpool(home.path / "queue/inject")
    envelope = Envelope(None, (Recipient(Address("joe", "here.example")),), Arrival(1_799_999_000.0))
    store(inject, ID, b"Subject: one\r\n\r\n", envelope)
    inject.close()
    home.reactor.pass_time(LOOK_SECONDS + 0.1, 0.5)
    home.wait(lambda: home.delivered())
    own = MaildirSpool(home.path / "queue/1")
    store(own, ID[:-1] + "1", b"Subject: two\r\n\r\n", envelope)
    own.close()
    home.reactor.pass_time(RESCAN_SECONDS + 1, 5)
    home.wait(lambda: len(home.delivered()) == 2)
    home.wait(lambda: not home.queued())


def test_a_long_listing_is_not_made_all_the_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[float] = []
    listing: list[Deferred[None]] = []

    def rescan(spool: object) -> Deferred[None]:
        began.append(home.reactor.seconds())
        listing.append(Deferred())
        return listing[-1]

    home.reactor.pass_time(ADOPT_SECONDS + 1, 1)
    monkeypatch.setattr(home.worker.relayer, "rescan", rescan)
    home.reactor.pass_time(3 * RESCAN_SECONDS, 5)
    bins = len(home.worker.relayer.spools)
    assert len(began) == bins, "not while one is under way"
    for each in listing:
        each.callback(None)
    took = home.reactor.seconds() - began[0]
    home.reactor.pass_time(RESCAN_SHARE * took - RESCAN_SECONDS, 5)
    assert len(began) == bins
    home.reactor.pass_time(3 * RESCAN_SECONDS, 5)
    assert len(began) == 2 * bins


def test_what_is_no_bin_is_named_once(home: Home) -> None:
    (home.path / "queue/lost+found").mkdir()
    home.reactor.pass_time(ADOPT_SECONDS * 3, 0.5)
    assert len([line for line in home.log if "lost+found: not a bin" in line]) == 1


def test_a_fault_in_a_timer_does_not_end_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Bins, "poked", broken)
        home.reactor.pass_time(LOOK_SECONDS * 2, 0.5)
    assert failures
    failures.clear()
    write(home.path / "control", {"databytes": "5\n"})
    home.reactor.pass_time(2 * LOOK_SECONDS + 0.1, 0.5)
    assert "SIZE 5" in home.client().say("EHLO c")


def test_the_end_when_nothing_is_under_way(home: Home) -> None:
    idle = home.client()
    home.finish()
    assert idle.replies[-1].startswith("421 4.3.2")
    assert home.port.stopped
    assert home.log[-1] == "worker stopped"
    again = Bins(home.path / "queue")
    assert again.acquire_own().name == "1", "the bin is free again"
    again.release_all()


def test_the_end_waits_for_a_message_under_way(home: Home) -> None:
    client = home.client()
    client.begin("s@c.example", "joe@here.example")
    done = home.stop()
    home.reactor.pass_time(10, 0.5)
    assert not done
    client.say("DATA")
    client.say("Subject: late", "", ".")
    home.wait(lambda: b"250 2.0.0" in client.got)
    for _ in range(100):
        home.reactor.pass_time(0.05, 0.05)
        if home.worker.committer._stopping:
            break
    home.wait(lambda: done)
    assert client.replies[-2].startswith("250 2.0.0 ok") and client.replies[-1].startswith("421")
    assert len(home.queued()) == 1, "it is for the next start"
    home.start()
    home.wait(lambda: home.delivered())


def test_the_end_does_not_wait_for_ever(home: Home) -> None:
    client = home.client()
    client.begin("s@c.example", "joe@here.example")
    done = home.stop()
    home.reactor.pass_time(DRAIN_SECONDS - 1, 0.5)
    assert not done and client.lost is None
    home.reactor.pass_time(2, 0.5)
    home.wait(lambda: done)
    assert client.lost is not None


def test_a_unix_socket_is_no_address_of_ours(home: Home) -> None:
    """Asked for with each MX list: it must not be a fault."""

    class Unix(Port):
        def getHost(self) -> Any:
            return type("Host", (), {"name": b"/run/qmtls"})

    home.worker.listens(cast(Any, Unix()))
    assert list(home.worker._hosts()) == ["192.0.2.25"]


def test_a_client_too_many_is_told_so(home: Home) -> None:
    home.factory._most = 2
    first, _ = home.client(), home.client()
    late = home.client()
    assert late.replies == ["421 4.3.2 too many connections, try again later"]
    assert late.lost is not None
    home.client()
    assert len([line for line in home.log if line.startswith("too many connections: 2")]) == 1, "the log is no place"
    first.say("QUIT")
    home.reactor.run()
    assert home.client().replies[-1].startswith("220")
