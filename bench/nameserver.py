"""A DNS server on loopback, in a thread: it answers after a while, or never, and notes what it was asked and when.

Addresses that it gives are on loopback too. What it calls secure has the AD bit, as from a resolver that has checked
signatures.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

HOST = "127.0.0.1"
TTL = 300
LARGEST = 4096
SEND_BUFFER = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. `at`: ns of the monotonic clock."""

    name: str
    kind: str
    at: int


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: records as text. Without `exists` there is no such name."""

    records: tuple[str, ...] = ()
    secure: bool = False
    exists: bool = True


# What is said of a name (without its last dot, lower case) and a type; None: nothing, ever.
Zone = Callable[[str, str], Said | None]


class NameServer:
    """From __enter__ to __exit__, at `address`; each answer leaves `delay` seconds after its question came."""

    def __init__(self, zone: Zone, delay: float = 0.0) -> None:
        self._zone = zone
        self._delay = delay
        self._waiting: list[tuple[float, int, bytes, tuple[str, int]]] = []
        self.asked: list[Asked] = []

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SEND_BUFFER)
        self._socket.bind((HOST, 0))
        self.address = f"{HOST}:{self._socket.getsockname()[1]}"
        self._ended, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.close()
        self._thread.join()
        for each in (self._ended, self._socket):
            each.close()

    def _run(self) -> None:
        while True:
            patience = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            ready, _, _ = select.select([self._socket, self._ended], [], [], patience)
            if self._ended in ready:
                return
            if self._socket in ready:
                question, peer = self._socket.recvfrom(LARGEST)
                with contextlib.suppress(dns.exception.DNSException):
                    self._take(question, peer)
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, answer, peer = heapq.heappop(self._waiting)
                with contextlib.suppress(OSError):  # who asked is gone
                    self._socket.sendto(answer, peer)

    def _take(self, octets: bytes, peer: tuple[str, int]) -> None:
        query = dns.message.from_wire(octets)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        now = time.monotonic_ns()
        self.asked.append(Asked(name, kind, now))
        said = self._zone(name, kind)
        if said is None:
            return
        answer = dns.message.make_response(query, recursion_available=True)
        if said.records:
            answer.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, *said.records))
        if not said.exists:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if said.secure:
            answer.flags |= dns.flags.AD
        heapq.heappush(self._waiting, (now / 1e9 + self._delay, len(self.asked), answer.to_wire(), peer))


def rounds(asked: Sequence[int], delay: int) -> int:
    """How many times somebody waited for answers, who asks the next question only once he has them.

    `asked` are the times of questions, each answered `delay` later (both in ns).
    """
    count, began = 0, 0
    for at in sorted(asked):
        if not count or at - began >= delay:
            count, began = count + 1, at
    return count
