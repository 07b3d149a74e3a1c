"""A DNS server on loopback that says of each answer whether it is secure, and a child process that asks by ours."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset


@dataclass
class Zone:
    """`records`: (name, type) to rdata texts, or octets for rdata that no text can say; `secure` names get the AD bit
    for whatever is asked of them. `failing` questions get SERVFAIL, names below `silent` nothing.
    `plain`: a question with EDNS is FORMERR."""

    records: dict[tuple[str, str], list[str] | list[bytes]] = field(default_factory=dict)
    secure: set[str] = field(default_factory=set)
    failing: set[tuple[str, str]] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    plain: bool = False
    ttl: int = 300
    address: str = "127.0.0.1"
    asked: list[tuple[str, str]] = field(default_factory=list)
    with_edns: list[bool] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, 0))
        self.server: tuple[str, int] = (self.address, self._socket.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, although UDP knows no connections
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            with suppress(dns.exception.DNSException, OSError):
                answer = self._answer(dns.message.from_wire(data))
                if answer is not None:
                    self._socket.sendto(answer.to_wire(max_size=65535), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        self.with_edns.append(query.edns >= 0)
        answer = dns.message.make_response(query, recursion_available=True)
        if name.partition(".")[2] in self.silent:
            return None
        if self.plain and query.edns >= 0:
            answer.set_rcode(dns.rcode.FORMERR)
            return answer
        chain = [name]
        while (target := self.records.get((chain[-1], "CNAME"))) and kind != "CNAME":
            answer.answer.append(dns.rrset.from_text(chain[-1] + ".", self.ttl, "IN", "CNAME", str(target[0])))
            chain.append(str(target[0]).rstrip("."))
        if (chain[-1], kind) in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer
        records = self.records.get((chain[-1], kind), [])
        if records:
            answer.answer.append(_rrset(chain[-1], self.ttl, kind, records))
        elif not any(known == chain[-1] for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if all(link in self.secure for link in chain):
            answer.flags |= dns.flags.AD
        return answer


def _rrset(name: str, ttl: int, kind: str, records: Sequence[str | bytes]) -> dns.rrset.RRset:
    found = dns.rrset.RRset(dns.name.from_text(name), dns.rdataclass.IN, dns.rdatatype.from_text(kind))
    for record in records:
        if isinstance(record, bytes):
            found.add(dns.rdata.GenericRdata(found.rdclass, found.rdtype, record), ttl)
        else:
            found.add(dns.rdata.from_text(found.rdclass, found.rdtype, record), ttl)
    return found


CHILD = """
import json, sys, time
from dataclasses import asdict
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from qmtls.net import resolver
from qmtls.net.danelookup import tlsas_of_host
from qmtls.net.dnscheck import check_dnssec

order = json.loads(sys.argv[1])
resolver.LIFETIME = order["lifetime"]

def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return str(value)

async def ask(asker, what, *arguments):
    started = time.monotonic()
    try:
        if what == "tlsas":
            tlsas = await tlsas_of_host(asker, await asker.host(arguments[0]), 25)
            found = {"base": tlsas.base, "secure": tlsas.secure, "demand": tlsas.demand.value,
                     "usable": [str(record) for record in tlsas.usable], "unusable": tlsas.unusable}
        elif what == "check":
            found = await check_dnssec(asker, *arguments)
            found = [found.state.value, found.sentence]
        else:
            found = await getattr(asker, what)(*arguments)
    except Exception as problem:
        found = [type(problem).__name__, str(problem), getattr(problem, "servfail", None)]
    return [found, time.monotonic() - started]

async def main():
    asker = resolver.Resolver(reactor, [tuple(s) for s in order["servers"]], frozenset(order["trusted"]))
    if order["together"]:
        found = await gatherResults([Deferred.fromCoroutine(ask(asker, *q)) for q in order["questions"]])
    else:
        found = [await ask(asker, *q) for q in order["questions"]]
    print(json.dumps(found, default=plain))

def done(result):
    if result is not None:
        result.printTraceback()
    reactor.stop()

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addBoth(done))
reactor.run()
"""


def look_up_timed(
    servers: Sequence[tuple[str, int]],
    *questions: Sequence[str],
    trusted: Sequence[str] = (),
    lifetime: float = 20.0,
    together: bool = False,
) -> list[tuple[Any, float]]:
    """What each method of a Resolver (or "tlsas", "check") returned as JSON, and after how many seconds. An exception
    is [class, sentence, servfail]."""
    order = {
        "servers": servers,
        "questions": questions,
        "trusted": trusted,
        "lifetime": lifetime,
        "together": together,
    }
    # Many questions do not fit into an environment's limit for one argument, but 128 KiB are enough for a thousand.
    command = [sys.executable, "-c", CHILD, json.dumps(order)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert not run.stderr, run.stderr
    return [(found, seconds) for found, seconds in json.loads(run.stdout)]


def look_up(servers: Sequence[tuple[str, int]], *questions: Sequence[str], trusted: Sequence[str] = ()) -> list[Any]:
    """As `look_up_timed`, one after the other, without the times."""
    return [found for found, _ in look_up_timed(servers, *questions, trusted=trusted)]
