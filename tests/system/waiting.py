"""Waiting for what another process does: asked again and again until it is true, or until a deadline beyond need."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 30.0  # seconds for what takes well below one
INTERVAL = 0.02

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


def free_port() -> int:
    """A TCP port that nobody listens on, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
