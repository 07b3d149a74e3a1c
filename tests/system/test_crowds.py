"""Very many connections at a time: slow ones leave service to others, idle ones cost little."""

from __future__ import annotations

import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.waiting import PATIENCE, wait_for

SLOW = 1000  # connections that say an octet now and then
IDLE = 2000  # sessions under TLS that say nothing
IDLE_MIB = 130  # what these may cost
MANY = IDLE + 500  # open files of the test
SERVED_WITHIN = 2.0  # seconds for a whole message meanwhile; alone it takes some milliseconds


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < MANY:
        pytest.skip(f"{MANY} open files are needed, {before[1]} are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], MANY), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def memory(house: House) -> int:
    """KiB that the service has in use."""
    status = Path(f"/proc/{house.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def seconds_for_a_message(house: House, tls: ssl.SSLContext) -> float:
    begun = time.monotonic()
    with SmtpClient(house.port) as client:
        client.starttls(tls)
        assert client.mail("joe@client.test", "postmaster@mx.test").code == 250
    return time.monotonic() - begun


SLOWLY = {
    "command": b"MAIL FROM:<joe@client.test>",
    "greeting": b"",
    "content": b"",
    "handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("kind", SLOWLY)
def test_slow_clients_leave_service_to_others(house: House, anonymous: ssl.SSLContext, kind: str) -> None:
    house.start()
    drip = SLOWLY[kind]
    with ExitStack() as stack:
        slow = []
        for _ in range(SLOW):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", house.port), PATIENCE))
            sock.settimeout(PATIENCE)
            slow.append(sock)
        for sock in slow if kind != "greeting" else ():
            assert sock.recv(200).startswith(b"220")
            sock.sendall(b"EHLO slow.test\r\n")
            assert b"250 " in sock.recv(1000)
            if kind == "handshake":
                sock.sendall(b"STARTTLS\r\n")
                assert sock.recv(200).startswith(b"220")
            elif kind == "content":
                sock.sendall(b"MAIL FROM:<>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\n")
                said = b""
                while b"354" not in said:
                    said += sock.recv(1000)
        for turn in range(8):
            piece = drip[turn : turn + 1] or b"x"
            for sock in slow if kind != "greeting" else ():
                sock.sendall(piece)
            assert seconds_for_a_message(house, anonymous) < SERVED_WITHIN
    wait_for(lambda: len(house.delivered()) == 8, "the other's mail")


def test_with_few_open_files_idle_clients_make_room(house: House, anonymous: ssl.SSLContext) -> None:
    """400 connections at a time: from 300 on those that do nothing have ten seconds."""
    house.start(prefix=["prlimit", "--nofile=1000:1000"])
    with ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(SmtpClient(house.port))
        house.wait_for_log("connections are getting scarce")
        wait_for(lambda: turned_away(house) or None, "the first who is turned away", 5.0)
        wait_for(lambda: not turned_away(house), "room for others")
        assert seconds_for_a_message(house, anonymous) < SERVED_WITHIN


def turned_away(house: House) -> bool:
    with SmtpClient(house.port, greeting=False) as client:
        return client.answer().code == 421


def test_idle_sessions_under_tls_cost_little(house: House, as_joe: ssl.SSLContext) -> None:
    house.control("tlsclients", "joe@client.test\n")
    house.start()
    for _ in range(20):  # what is loaded and made once
        seconds_for_a_message(house, as_joe)
    before = memory(house)
    with ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(SmtpClient(house.port)).starttls(as_joe)
        used = (memory(house) - before) / 1024
        assert used < IDLE_MIB, f"{IDLE} sessions use {used:.0f} MiB"
        assert seconds_for_a_message(house, as_joe) < SERVED_WITHIN
