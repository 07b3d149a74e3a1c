"""Next hops that take no mail do what the workloads rely on."""

from __future__ import annotations

import socket

import pytest

from bench.deadends import HOST, hanging, silent
from tests.bench.test_tools import free_port


def test_one_that_hangs_accepts_and_says_nothing() -> None:
    port = free_port()
    with hanging(port), socket.create_connection((HOST, port), 5) as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_one_that_is_silent_neither_accepts_nor_refuses() -> None:
    port = free_port()
    with silent(port), pytest.raises(TimeoutError):
        socket.create_connection((HOST, port), 0.2)
