"""A DNS server of a few lines on loopback, in threads; and a child process that asks it with a real reactor."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ZONE: dict[tuple[str, str], list[str]] = {
    ("mx.test.", "MX"): ["10 a.test.", "20 b.test."],
    ("null.test.", "MX"): ["0 ."],
    ("a.test.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("a.test.", "AAAA"): ["2001:db8::1"],
    ("four.test.", "A"): ["192.0.2.4"],
    ("alias.test.", "CNAME"): ["a.test."],
    ("many.test.", "MX"): [f"{n} host-with-a-long-name-{n}.test." for n in range(100)],
    ("half.test.", "A"): ["192.0.2.7"],
    ("xn--bcher-kva.test.", "MX"): ["10 a.test."],
}
NAMES = {name for name, _ in ZONE} | {"empty.test."}

Asked = list[tuple[str, str, str]]


def answer(question: bytes, transport: str, asked: Asked) -> bytes | None:
    query = dns.message.from_wire(question)
    (wanted,) = query.question
    name, kind = wanted.name.to_text().lower(), wanted.rdtype.name
    asked.append((transport, name, kind))
    reply = dns.message.make_response(query)
    if name == "silent.test." or (name == "half.test." and kind == "AAAA"):
        return None
    if name in ("broken.test.", "sick.test."):
        reply.set_rcode(dns.rcode.SERVFAIL if name == "broken.test." else dns.rcode.REFUSED)
        return reply.to_wire()
    if name == "garbage.test.":
        return question[:2] + b"\xff" * 30
    if (alias := ZONE.get((name, "CNAME"))) is not None:
        reply.answer.append(dns.rrset.from_text(name, 300, "IN", "CNAME", *alias))
        name = alias[0]
    records = ZONE.get((name, kind))
    if records:
        reply.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *records))
    elif name not in NAMES:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    wire = reply.to_wire(max_size=65535)
    if transport == "udp" and len(wire) > 512:
        cut = dns.message.make_response(query)
        cut.flags |= dns.flags.TC
        return cut.to_wire()
    return wire


def _udp(sock: socket.socket, asked: Asked) -> None:
    while True:
        try:
            data, peer = sock.recvfrom(65535)
        except OSError:
            return
        if not data:
            return  # the socket was shut down
        wire = answer(data, "udp", asked)
        if wire is not None:
            sock.sendto(wire, peer)


def _tcp(sock: socket.socket, asked: Asked) -> None:
    while True:
        try:
            conn, _ = sock.accept()
        except OSError:
            return
        with conn:
            conn.settimeout(5)
            (size,) = struct.unpack("!H", conn.recv(2))
            wire = answer(conn.recv(size), "tcp", asked)
            if wire is not None:
                framed = struct.pack("!H", len(wire)) + wire
                for n in range(0, len(framed), 700):  # in pieces, as a network brings it
                    conn.sendall(framed[n : n + 700])


@contextmanager
def serving(asked: Asked) -> Iterator[int]:
    """The port of a server that notes what it is asked."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for _ in range(50):
        udp.bind(("127.0.0.1", 0))
        try:
            tcp.bind(udp.getsockname())
            break
        except OSError:
            udp.close()
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp.listen()
    pairs: list[tuple[Callable[[socket.socket, Asked], None], socket.socket]] = [(_udp, udp), (_tcp, tcp)]
    threads = [threading.Thread(target=work, args=(sock, asked), daemon=True) for work, sock in pairs]
    for thread in threads:
        thread.start()
    try:
        yield udp.getsockname()[1]
    finally:
        for sock in (udp, tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


CHILD = """
import json, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from qmtls.net import resolver

servers, questions, lifetime, together = json.loads(sys.argv[1])
resolver.LIFETIME = lifetime

async def ask(asker, kind, name):
    try:
        return sorted(await getattr(asker, kind)(name))
    except Exception as problem:
        return [type(problem).__name__, str(problem)]

async def main():
    asker = resolver.Resolver(reactor, [tuple(s) for s in servers])
    if together:
        print(json.dumps(await gatherResults([Deferred.fromCoroutine(ask(asker, *q)) for q in questions])))
    else:
        print(json.dumps([await ask(asker, kind, name) for kind, name in questions]))

def done(result):
    if result is not None:
        result.printTraceback()
    reactor.stop()

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addBoth(done))
reactor.run()
"""


def ask(
    servers: list[tuple[str, int]], questions: list[tuple[str, str]], lifetime: float, together: bool = False
) -> list[Any]:
    """The answers that a Resolver gets, sorted; the questions are asked one after the other, or all at once."""
    order = json.dumps([servers, questions, lifetime, together])
    run = subprocess.run([sys.executable, "-c", CHILD, order], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert not run.stderr, run.stderr
    found: list[Any] = json.loads(run.stdout)
    return found
