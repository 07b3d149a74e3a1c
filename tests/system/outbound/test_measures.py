"""Memory, descriptors, and a long queue: what the program needs, printed, and held to generous bounds.

QMTLS_QUEUE sets the number of waiting messages (5,000 by default).
"""

from __future__ import annotations

import os
import resource
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qmtls.delivery.window import INITIAL
from qmtls.ledger.schema import FILE as LEDGER
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.maildir import MaildirSpool
from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.load import message
from tests.system.outbound.processes import KIB, MIB, forget_peak, open_files, peak, resident
from tests.system.outbound.sink import Sink, without_trace
from tests.system.pki import Authority
from tests.system.waiting import free_port, wait_for

QUEUE = int(os.environ.get("QMTLS_QUEUE", "5000"))
SESSIONS = 1000
BIG = 50_000_000

Say = pytest.CaptureFixture[str]


def fill(house: House, domain: str, count: int) -> None:
    """Messages for `domain`, stored as a service of an earlier time would have."""
    spool = MaildirSpool(house.home / "queue" / "1")
    envelope = Envelope(Address("ann", "a.test"), (Recipient(Address("bob", domain)),), Arrival(time.time()))
    for start in range(0, count, 100):
        batch = [spool.begin(f"{n:014x}", envelope) for n in range(start, min(start + 100, count))]
        for n, incoming in enumerate(batch, start):
            incoming.write(message(n))
        assert not any(spool.commit(batch))
    spool.close()


def test_a_long_queue_delays_neither_the_start_nor_fresh_mail(house: House, capsys: Say) -> None:
    began = time.monotonic()
    fill(house, "dead.test", QUEUE)
    filled = time.monotonic() - began
    tried = house.home / "queue/1/cur"
    with Sink() as good:
        open_to_all(house, f"dead.test:127.0.0.1:{free_port()}", f":127.0.0.1:{good.port}")
        began = time.monotonic()
        house.start()
        started = time.monotonic()
        ready = started - began
        delays = []
        for n in range(20):
            # One of them at once, the others while old ones are tried.
            wait_for(lambda n=n: sum(1 for _ in tried.iterdir()) >= n * QUEUE / 30, "some of the old ones")  # type: ignore[misc]
            began = time.monotonic()
            hand_in(house, "bob@fresh.test", contents=[message(n)])
            good.wait_for(n + 1)
            delays.append(time.monotonic() - began)
        early = sum(1 for _ in tried.iterdir())
        wait_for(lambda: sum(1 for _ in tried.iterdir()) == QUEUE, "an attempt of all", 600)
        all_tried = time.monotonic() - started
        memory, most = resident(house.pid), peak(house.pid)
        hand_in(house, "bob@fresh.test", contents=[message(20)])
        good.wait_for(21)
    with capsys.disabled():
        print(
            f"\n{QUEUE} waiting messages (stored in {filled:.1f} s): serves after {ready:.2f} s; fresh mail in "
            f"{sorted(delays)[10]:.3f} s (median of 20), {max(delays):.3f} s at most, while old ones are tried; "
            f"all tried after {all_tried:.1f} s; memory {memory / MIB:.0f} MiB, at most {most / MIB:.0f} MiB"
        )
    assert early < QUEUE, "everything had been tried before the fresh mail came"
    assert ready < 5
    assert sorted(delays)[10] < 1
    wait_for(lambda: len(house.messages()) == QUEUE, "the end of the last fresh message")
    assert house.stop() == 0


def test_a_long_queue_for_a_host_that_hangs(house: House, capsys: Say) -> None:
    fill(house, "hang.test", QUEUE)
    with FakeMx({"connect": Do(b"", then="hang")}) as hanging, Sink() as good:
        open_to_all(house, f"hang.test:127.0.0.1:{hanging.port}", f":127.0.0.1:{good.port}")
        house.start()
        wait_for(lambda: len(hanging.sessions) == INITIAL, "the connections that hang")
        delays = []
        for n in range(20):
            began = time.monotonic()
            hand_in(house, "bob@fresh.test", contents=[message(n)])
            good.wait_for(n + 1)
            delays.append(time.monotonic() - began)
        memory = resident(house.pid)
    with capsys.disabled():
        print(f"\n{QUEUE} messages for a host that hangs: fresh mail in {max(delays):.3f} s, {memory / MIB:.0f} MiB")
    assert max(delays) < 2


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "TLS"])
def test_a_big_message_costs_little_memory(
    house: House, authority: Authority, ca_file: Path, tmp_path: Path, tls: bool, capsys: Say
) -> None:
    server = authority.server("sink.test")
    line = b"x" * 998 + b"\r\n"
    content = b"Subject: big\r\n\r\n" + line * (BIG // len(line))
    with Sink(server.server_context(tmp_path / "sink.pem") if tls else None) as sink:
        open_to_all(house, f":127.0.0.1:{sink.port}")
        if tls:
            house.control("dest.test.pem", server.pem)
        house.start()
        hand_in_over(house, ca_file if tls else None, message(0))
        sink.wait_for(1)
        forget_peak(house.pid)
        rest = peak(house.pid)
        hand_in_over(house, ca_file if tls else None, content)
        taken_in = peak(house.pid)
        (_, big) = sink.wait_for(2, 60)
        most = peak(house.pid)
    with capsys.disabled():
        print(
            f"\na message of {BIG // 1_000_000} MB, {'TLS' if tls else 'plaintext'}: {rest / MIB:.1f} MiB before, "
            f"{(taken_in - rest) / MIB:.1f} MiB more coming in, {(most - rest) / MIB:.1f} MiB more in all"
        )
    assert without_trace(big.content) == content
    assert most - rest < 12 * MIB


def hand_in_over(house: House, authority: Path | None, content: bytes) -> None:
    with SmtpClient(house.port) as client:
        if authority is not None:
            client.starttls(ssl.create_default_context(cafile=str(authority)))
        else:
            client.command("EHLO client.test", 250)
        assert client.mail("ann@a.test", "bob@dest.test", content=content).code == 250


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough descriptors for all sessions, here and in the service, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * SESSIONS
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"the limit of open files is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("tls", "bound"), [(False, 8 * KIB), (True, 80 * KIB)], ids=["plaintext", "TLS"])
def test_idle_sessions_cost_little_memory(
    house: House, ca_file: Path, many_files: None, tls: bool, bound: int, capsys: Say
) -> None:
    house.start()
    context = ssl.create_default_context(cafile=str(ca_file))

    def open_one() -> SmtpClient:
        client = SmtpClient(house.port)
        if tls:
            client.starttls(context)
        else:
            client.command("EHLO client.test", 250)
        return client

    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(open_one())
        before = resident(house.pid)
        for _ in range(SESSIONS):
            stack.enter_context(open_one())
        each = (resident(house.pid) - before) / SESSIONS
    with capsys.disabled():
        print(
            f"\nan idle session, {'TLS' if tls else 'plaintext'}: {each / KIB:.1f} KiB; at rest {before / MIB:.0f} MiB"
        )
    assert each < bound


def test_no_descriptor_is_left_behind(house: House, authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    """500 connections in and 500 out: complete ones, TLS, cut off at any place, and failed ones."""
    rounds = 125
    context = ssl.create_default_context(cafile=str(ca_file))
    server = authority.server("peer.test").server_context(tmp_path / "server.pem")
    closing = {"content": Do(b"250 taken\r\n", then="close")}  # no connection is used twice
    with (
        FakeMx(closing, tls=server) as good,
        FakeMx({"EHLO": Do(then="reset")}) as bad,
        FakeMx({**closing, "handshake": Do(then="reset")}, tls=server) as torn,
    ):
        hosts = {"good.test": good, "bad.test": bad, "torn.test": torn}
        others = f"closed.test:127.0.0.1:{free_port()}", f"wrong.test:127.0.0.1:{good.port}"
        house.control("wrong.test.pem", authority.server("wrong.test").pem)
        open_to_all(house, *others, *(f"{name}:127.0.0.1:{host.port}" for name, host in hosts.items()))
        house.start()
        ledger = str(house.home / "state" / LEDGER)

        def one_round(number: int) -> None:
            hand_in(house, *(f"bob@{name}" for name in (*hosts, "closed.test", "wrong.test")))
            be_a_nuisance(house.port, context)
            wait_for(lambda: len(torn.messages) == len(good.messages) == number, "both deliveries")

        house.wait_for_log("adopted bin=inject")
        one_round(1)
        wait_for(lambda: house.log().count("deferred ") == 3, "the failures")
        wait_for(lambda: f"{ledger}-shm" in open_files(house.pid), "the first handshakes to be noted")
        before = open_files(house.pid)
        for number in range(2, rounds + 2):
            one_round(number)
        wait_for(lambda: house.log().count("deferred ") == 3 * (rounds + 1), "the failures")
        assert sum(len(host.sessions) for host in hosts.values()) > 4 * rounds
        wait_for(lambda: open_files(house.pid) == before, f"the files that were open before: {before}")


def be_a_nuisance(port: int, context: ssl.SSLContext) -> None:
    """Three connections that end badly."""
    with SmtpClient(port) as client:
        client.starttls(context)
        client.command("MAIL FROM:<ann@a.test>", 250)
    client = SmtpClient(port)
    client.send(b"EHLO x\r\nMAIL FROM:<ann@a.test>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\nhalf a mess")
    client.reset()
    with SmtpClient(port) as client:
        client.command("EHLO x", 250)
        client.command("STARTTLS", 220)
        client.send(b"this is no TLS\r\n")
        client.read_to_end()
