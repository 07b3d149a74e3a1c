"""Waiting for what another process does: asked again and again until it is true, or until a deadline beyond need.
And ports for it to listen on."""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Callable
from functools import cache
from itertools import cycle, islice
from typing import TypeVar

PATIENCE = 30.0  # seconds for what takes well below one
INTERVAL = 0.02
FIRST_PORT, LAST_PORT, BLOCK = 20_000, 32_000, 150

T = TypeVar("T")


def wait_for(ask: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """The first answer that counts as true. AssertionError with `what` after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:g} s for {what}")
        time.sleep(INTERVAL)


class _Block:
    """Ports that only this process draws from, in turn, so that several runs on one machine don't meet.

    They lie below those that the kernel gives to outgoing connections. The mark of a block is an abstract socket:
    however the process ends, it goes.
    """

    def __init__(self) -> None:
        starts = list(range(FIRST_PORT, LAST_PORT, BLOCK))
        random.shuffle(starts)
        for start in starts:
            self._mark = socket.socket(socket.AF_UNIX)
            try:
                self._mark.bind(f"\0qmtls-tests-ports-{start}")
            except OSError:
                self._mark.close()
                continue
            self._ports = cycle(range(start, start + BLOCK))
            return
        raise AssertionError("no ports are left: too many test runs on this machine")

    def draw(self) -> int:
        for port in islice(self._ports, BLOCK):
            if is_free(port):
                return port
        raise AssertionError("all ports of this test run are in use")


def is_free(port: int) -> bool:
    """Nobody uses it, at whatever address: TCP and UDP, IPv4 and IPv6."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind) as probe:
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    if kind == socket.SOCK_STREAM:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what only lingers is no user
                    probe.bind((address, port))
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
                    return False
    return True


@cache
def _block() -> _Block:
    return _Block()


def free_port() -> int:
    """A port that nobody listens on, at any address, and that no other test run is given."""
    return _block().draw()
