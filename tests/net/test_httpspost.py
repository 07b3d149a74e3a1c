"""A POST by HTTPS: only to the host that was meant, and only a clear yes counts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.net.certs import SERVER, Leaf, authority
from tests.net.webhost import WebHost, answer

HOST = "reports.good.test"
CA = authority("web CA")
GOOD = CA.leaf("web", names=[HOST], use=SERVER)
BODY = b"\x1f\x8b" + bytes(range(256)) * 40

CHILD = """
import json, sys
from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from qmtls.net import httpspost
from qmtls.net.resolver import DnsTrouble, HostAddresses

class Names:
    async def host(self, name):
        if name == "broken.test":
            raise DnsTrouble("DNS: no")
        return HostAddresses(name, ("127.0.0.1",) if name.endswith("good.test") else (), False, name)

order = json.loads(sys.stdin.read())
httpspost.SECONDS = order["seconds"]

async def post():
    anchors = x509.load_pem_x509_certificates(order["anchors"].encode())
    poster = httpspost.HttpsPoster(reactor, Names(), anchors)
    try:
        await poster.post(order["url"], bytes.fromhex(order["body"]), "application/tlsrpt+gzip")
        return ""
    except httpspost.HttpsTrouble as trouble:
        return str(trouble)

def done(result):
    print(json.dumps(result) if isinstance(result, str) else result.getTraceback())
    reactor.callLater(0.05, reactor.stop)

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(post()).addBoth(done))
reactor.run()
"""


def post(url: str, seconds: float = 20.0) -> str:
    """ "" if it was taken, else the sentence."""
    order = {"url": url, "body": BODY.hex(), "anchors": CA.pem.decode(), "seconds": seconds}
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(order), capture_output=True, text=True, timeout=60, check=True
    )
    assert child.stderr == ""
    found: str = json.loads(child.stdout)
    return found


class Taker(WebHost):
    """Reads the whole body before it answers."""

    def _say(self, tls: Any) -> None:
        body = self.requests[-1].partition(b"\r\n\r\n")[2]
        while len(body) < len(BODY):
            body += tls.recv(65536)
        self.body = body
        super()._say(tls)


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "204 No Content"])
def test_taken(tmp_path: Path, status: str) -> None:
    with Taker(GOOD, tmp_path, answer(b"", status=status)) as host:
        assert post(f"https://{HOST}:{host.port}/v1/tls?x=y") == ""
        (request,) = host.requests
    assert request.startswith(b"POST /v1/tls?x=y HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/tlsrpt+gzip\r\n" in request
    assert host.body == BODY
    assert host.names == [HOST]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(status="404 Not Found"), "answered 404"),
        (answer(status="307 Elsewhere", fields=["Location: https://127.0.0.1/"]), "a redirect is not followed"),
        (b"SSH-2.0\r\n\r\n", "did not answer in HTTP"),
    ],
)
def test_not_taken(tmp_path: Path, said: bytes, words: str) -> None:
    with Taker(GOOD, tmp_path, said) as host:
        assert words in post(f"https://{HOST}:{host.port}/")


@pytest.mark.parametrize(
    "leaf", [CA.leaf("other", names=["else.test"], use=SERVER), authority("strange").leaf("web", names=[HOST])]
)
def test_nothing_is_sent_to_another(tmp_path: Path, leaf: Leaf) -> None:
    with Taker(leaf, tmp_path) as host:
        assert "certificate" in post(f"https://{HOST}:{host.port}/")
        assert host.requests == []


def test_a_host_that_hangs(tmp_path: Path) -> None:
    with WebHost(GOOD, tmp_path, serve=lambda tls: host.hang()) as host:
        started = time.monotonic()
        assert "within 1 seconds" in post(f"https://{HOST}:{host.port}/", 1.0)
        assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "url",
    [
        "http://reports.good.test/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://user:pw@reports.good.test/",
        "https:///x",
        "https://reports.good.test:99999/",
        "https://reports.good.test/a b",
        "https://" + "x" * 3000,
        "https://broken.test/",
        "https://nowhere.test/",
        "https://reports.good.test:1/",
    ],
)
def test_addresses_of_no_use(url: str) -> None:
    assert post(url, 5.0)
