"""A web server on loopback with a certificate and an answer that the test chooses; a child that fetches policies."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.net.certs import Leaf

Serve = Callable[[ssl.SSLSocket], None]
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.test\nmax_age: 86400\n"


def answer(
    body: bytes = POLICY,
    *,
    status: str = "200 OK",
    kind: str = "text/plain",
    fields: Sequence[str] = (),
    framed: bool = True,
) -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"Content-Length: {len(body)}"] if framed else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class WebHost:
    """Answers every connection's first request with `said`, or does with it what `serve` does. `requests` as read."""

    def __init__(self, leaf: Leaf, directory: Path, said: bytes = b"", serve: Serve | None = None) -> None:
        bundle = directory / "web.pem"
        bundle.write_bytes(leaf.bundle)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(bundle)
        self.said = said or answer()
        self._serve = serve or self._say
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self._context.sni_callback = lambda sock, name, context: self.names.append(name)
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError):
            sock.settimeout(30)
            with self._context.wrap_socket(sock, server_side=True) as tls:
                request = b""
                while b"\r\n\r\n" not in request:
                    data = tls.recv(4096)
                    if not data:
                        return
                    request += data
                self.requests.append(request)
                self._serve(tls)

    def _say(self, tls: ssl.SSLSocket) -> None:
        tls.sendall(self.said)
        tls.recv(1)  # until the client goes

    def hang(self) -> None:
        self._stop.wait(30)


CHILD = """
import json, sys, time
from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from qmtls.net import https
from qmtls.net.resolver import DnsTrouble, HostAddresses

class Names:
    def __init__(self, addresses):
        self.addresses = addresses

    async def host(self, name):
        found = self.addresses.get(name, [])
        if found == "trouble":
            raise DnsTrouble("DNS: no")
        return HostAddresses(name, tuple(found), False, name)

async def fetch(order):
    anchors = x509.load_pem_x509_certificates(order["anchors"].encode()) if order["anchors"] else None
    fetcher = https.PolicyFetcher(reactor, Names(order["addresses"]), anchors, order["port"])
    https.SECONDS = order["seconds"]
    started = time.monotonic()
    try:
        found = {"body": (await fetcher.fetch(order["domain"])).decode()}
    except https.HttpsTrouble as trouble:
        found = {"trouble": str(trouble)}
    return found | {"seconds": time.monotonic() - started}

def done(result):
    if isinstance(result, list):
        print(json.dumps(result))
    else:
        result.printTraceback()
    reactor.callLater(0.05, reactor.stop)  # what is left behind would be told now

orders = json.loads(sys.stdin.read())
reactor.callWhenRunning(lambda: gatherResults([Deferred.fromCoroutine(fetch(o)) for o in orders]).addBoth(done))
reactor.run()
"""


def order(
    port: int,
    anchors: bytes,
    *,
    domain: str = "good.test",
    addresses: dict[str, Any] | None = None,
    seconds: float = 20.0,
) -> dict[str, Any]:
    """What to fetch. `anchors` b"": the system's authorities."""
    return {
        "port": port,
        "anchors": anchors.decode(),
        "domain": domain,
        "addresses": {"mta-sts.good.test": ["127.0.0.1"]} if addresses is None else addresses,
        "seconds": seconds,
    }


def fetch_all(*orders: dict[str, Any]) -> list[dict[str, Any]]:
    """For each order, all at once: {"body": ...} or {"trouble": sentence}, and "seconds"."""
    command = [sys.executable, "-c", CHILD]
    run = subprocess.run(command, input=json.dumps(orders), capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert not run.stderr, run.stderr
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found


def fetch(port: int, anchors: bytes, **options: Any) -> dict[str, Any]:
    """One alone."""
    return fetch_all(order(port, anchors, **options))[0]
