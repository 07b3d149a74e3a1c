"""One question to one name server, for dnspython's resolver: what its own exchange does not let us do.

A TLSA record of a wrong length makes dnspython refuse the whole answer; to DANE it is one record that cannot be used
(RFC 7671 section 4.1), beside others that can. A server that knows no EDNS is asked again without. And the AD bit of a
server that is not trusted is taken away here, so that whoever sees one may believe it. Datagrams that are no answer to
the question are passed over, as long as there is time.
"""

from __future__ import annotations

import socket
import struct
import time
from random import uniform
from typing import Any

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype

TRY_SECONDS = 6.0  # at the most, until the only server is asked again
LEAST_OF_A_TRY = 0.35  # of these seconds: from 2.1 to 6.0, or, where there are several servers, from 1 to 3

_NO_EDNS = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP})  # RFC 6891 section 7
_DATAGRAM = 65_535
_HEADER = 12  # octets


class NameServer(dns.nameserver.Do53Nameserver):
    """Give it to dns.asyncresolver.Resolver.nameservers. `trusted`: its AD bit says that it checked DNSSEC."""

    def __init__(self, address: str, port: int = 53, *, trusted: bool = False) -> None:
        super().__init__(address, port)
        self.trusted = trusted

    async def async_query(
        self, request: Any, timeout: float, source: Any, source_port: int, max_size: bool, backend: Any, *_: Any
    ) -> dns.message.Message:
        """Raises what dnspython's resolver expects: dns.exception.DNSException, OSError, EOFError."""
        # Names that hang are asked for again at different times: a thousand of them at once would be a second's work.
        patience = timeout * uniform(LEAST_OF_A_TRY, 1.0) if timeout >= TRY_SECONDS / 2 else timeout
        deadline = time.monotonic() + patience
        exchange = self._over_tcp if max_size else self._over_udp
        answer = await exchange(request, deadline, backend)
        if request.edns >= 0 and answer.rcode() in _NO_EDNS:
            plain = dns.message.make_query(request.question[0].name, request.question[0].rdtype)
            answer = await exchange(plain, deadline, backend)
        if not self.trusted:
            answer.flags &= ~dns.flags.AD
        return answer

    async def _over_udp(self, request: Any, deadline: float, backend: Any) -> dns.message.Message:
        family = dns.inet.af_for_address(self.address)
        where = (self.address, self.port)
        async with await backend.make_socket(family, socket.SOCK_DGRAM, 0, None, where) as sock:
            await sock.sendto(request.to_wire(), where, _left(deadline))
            while True:
                data, _ = await sock.recvfrom(_DATAGRAM, _left(deadline))
                try:
                    answer = read_answer(data, request.question[0].rdtype)
                except (dns.exception.DNSException, ValueError):
                    continue
                if request.is_response(answer):
                    if answer.flags & dns.flags.TC:
                        raise dns.message.Truncated(message=answer)
                    return answer

    async def _over_tcp(self, request: Any, deadline: float, backend: Any) -> dns.message.Message:
        family = dns.inet.af_for_address(self.address)
        where = (self.address, self.port)
        async with await backend.make_socket(family, socket.SOCK_STREAM, 0, None, where, _left(deadline)) as sock:
            wire = request.to_wire()
            await sock.sendall(struct.pack("!H", len(wire)) + wire, _left(deadline))
            (size,) = struct.unpack("!H", await _exactly(sock, 2, deadline))
            answer = read_answer(await _exactly(sock, size, deadline), request.question[0].rdtype)
        if not request.is_response(answer):
            raise dns.exception.FormError
        return answer


def read_answer(wire: bytes, kind: int) -> dns.message.Message:
    """The message in `wire`. Where TLSA records were asked for, those that cannot be read are left out, and stand in
    `errors`. Raises dns.exception.DNSException."""
    try:
        return dns.message.from_wire(wire)
    except dns.exception.FormError:
        if kind != dns.rdatatype.TLSA:
            raise
        counts = _counts(wire)
        answer = dns.message.from_wire(wire, continue_on_error=True)
        # Every record of the answer section is there or is one of the errors: nothing else was wrong.
        if sum(map(len, answer.answer)) + len(answer.errors) != counts[1]:
            raise
        return answer


def _counts(wire: bytes) -> tuple[int, ...]:
    """How many entries each section has (RFC 1035 section 4.1.1). Raises FormError unless they are there, whole, and
    all there is."""
    try:
        counts = struct.unpack_from("!HHHH", wire, 4)
        at = _HEADER
        for _ in range(counts[0]):
            at += dns.name.from_wire(wire, at)[1] + 4  # type, class
        for _ in range(sum(counts[1:])):
            at += dns.name.from_wire(wire, at)[1] + 8  # type, class, TTL
            at += 2 + struct.unpack_from("!H", wire, at)[0]
    except struct.error as problem:
        raise dns.exception.FormError from problem
    if at != len(wire):
        raise dns.exception.FormError
    return counts


async def _exactly(sock: Any, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        more = await sock.recv(size - len(data), _left(deadline))
        if not more:
            raise EOFError
        data += more
    return data


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise dns.exception.Timeout(timeout=0)
    return left
