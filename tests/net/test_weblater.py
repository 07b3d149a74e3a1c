"""A worker that fetches nothing has no HTTPS client in memory; one that does has the usual one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from qmtls.net.httpsline import HttpsTrouble
from qmtls.net.weblater import Web


def test_a_worker_starts_without_it() -> None:
    code = "import sys, qmtls.service.worker; print('twisted.web.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    "ask", [lambda web: web.fetch("192.0.2.1"), lambda web: web.post("http://reports.test/", b"", "text/plain")]
)
def test_both_ways_lead_to_the_real_ones(ask: Any) -> None:
    told: list[Any] = []
    nobody: Any = object()
    Deferred.fromCoroutine(ask(Web(nobody, nobody))).addBoth(told.append)
    assert told[0].check(HttpsTrouble)
