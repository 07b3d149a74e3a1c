"""Ports for tests: free at every address, and no two runs are given the same."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.system.house import ROOT
from tests.system.waiting import BLOCK, free_port, is_free

DRAW = """
import json, random, sys
from tests.system.waiting import BLOCK, free_port
random.seed(1)
print(json.dumps([free_port() for _ in range(BLOCK)]), flush=True)
sys.stdin.read()
"""


def test_no_two_runs_are_given_the_same_port() -> None:
    """Even if chance makes them look for the same ones."""
    drawn: list[int] = []
    with ExitStack() as stack:
        for _ in range(3):
            command = [sys.executable, "-c", DRAW]
            run = stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            assert run.stdout is not None and run.stdin is not None
            stack.callback(run.stdin.close)
            drawn += json.loads(run.stdout.readline())
    assert len(drawn) == len(set(drawn)) > BLOCK


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1"])
def test_a_port_in_use_at_any_address_is_not_free(address: str) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        try:
            sock.bind((address, port))
        except OSError:
            pytest.skip(f"no {address} here")
        sock.listen()
        assert not is_free(port)
    assert is_free(port)
