"""A DNS server on loopback that knows what the test told it, in a thread of the test process."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer:
    """`records`: (name, type) to rdata texts. A name that has no records at all does not exist.

    `failing` answers SERVFAIL to everything, `silent` nothing.
    """

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    failing: bool = False
    silent: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, although UDP knows no connections
        self._socket.close()

    def host(self, name: str, address: str) -> None:
        self.records[name, "A"] = [address]

    def mx(self, domain: str, *hosts: str) -> None:
        """`hosts` in the order of their preference; several with the same one as "10 a"."""
        self.records[domain, "MX"] = [
            f"{host}." if " " in host else f"{10 * n} {host}." for n, host in enumerate(hosts, 1)
        ]

    def _run(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            with suppress(dns.exception.DNSException, OSError):
                self._reply(data, peer)

    def _reply(self, data: bytes, peer: tuple[str, int]) -> None:
        """To one question."""
        if not self.silent:
            self._socket.sendto(self._answer(dns.message.from_wire(data)).to_wire(), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(query, recursion_available=True)
        found = self.records.get((name, kind))
        if self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif found is not None:
            answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, *found))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
