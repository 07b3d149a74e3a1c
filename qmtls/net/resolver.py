"""DNS look-ups. Three answers are kept apart: this is so, there is no such name, and it cannot be told now.

The third is DnsTrouble and defers mail; it is never taken for "no". An answer also says whether it is secure: whether
a resolver that we trust has checked DNSSEC for it (the AD bit, RFC 4035 section 3.2.3). Trusted are resolvers on this
host, those that the administrator names, and the system's where resolv.conf says `trust-ad`. One that says a
signature is bad answers SERVFAIL, which is DnsTrouble.

Answers are kept for their time to live. Each question has its own sockets and its own time, and who asks what is being
asked waits for that answer: names whose servers hang hold up nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import uniform
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.resolver
import idna
from twisted.internet.defer import Deferred, gatherResults

from qmtls.net.dnsanswers import Answer as Answer
from qmtls.net.dnsanswers import KeptAnswers
from qmtls.net.dnsbackend import TwistedBackend
from qmtls.net.dnsservers import configured
from qmtls.net.dnsservers import is_ip as is_ip
from qmtls.net.sharing import Shared
from qmtls.tls.dane import Tlsa
from qmtls.tls.names import canonical

LIFETIME = 15.0  # seconds for one question over all servers, at the most
CACHED_ANSWERS = 10_000


class DnsTrouble(Exception):
    """The question could not be answered now; str() is the sentence. `servfail`: a server said SERVFAIL, as it does
    when a signature is bad."""

    def __init__(self, sentence: str, servfail: bool = False) -> None:
        super().__init__(sentence)
        self.servfail = servfail


class NoSuchName(Exception):
    """The name does not exist (NXDOMAIN): a permanent answer."""


@dataclass(frozen=True, slots=True)
class MailExchangers:
    """The MX records of a domain. `records` as `Resolver.mx` returns them; `canonical` where CNAMEs have led to."""

    records: tuple[tuple[int, str], ...]
    secure: bool
    canonical: str


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """IP addresses of a host, IPv4 first. `secure` is that of the whole chain of CNAMEs up to them."""

    name: str
    addresses: tuple[str, ...]
    secure: bool
    canonical: str


class Resolver:
    """Questions to the configured servers, or the system's. `trusted` are addresses of servers whose AD bit counts
    although they are not on this host."""

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[tuple[str, int]] = (),
        trusted: frozenset[str] = frozenset(),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = TwistedBackend(reactor)
        self._now = now
        self._configure(tuple(servers), trusted)

    def _configure(self, servers: tuple[tuple[str, int], ...], trusted: frozenset[str]) -> None:
        self._servers, self._trusted = servers, trusted
        self._resolver = configured(servers, trusted)
        self._kept = KeptAnswers(CACHED_ANSWERS, self._now)
        self._running: Shared[tuple[str, str], Answer] = Shared()

    def use(self, servers: Sequence[tuple[str, int]], trusted: frozenset[str] | None = None) -> None:
        """Asks these from now on. Where they are others than before, what the old ones said is forgotten."""
        trusted = self._trusted if trusted is None else trusted
        if tuple(servers) != self._servers or trusted != self._trusted:
            self._configure(tuple(servers), trusted)

    @property
    def untrusted(self) -> tuple[str, ...]:
        """Addresses of servers whose AD bit does not count: while there are any, DANE may be off."""
        servers: Any = self._resolver.nameservers
        return tuple(server.address for server in servers if not server.trusted)

    @property
    def under_way(self) -> int:
        """Questions that wait for their answer; each has a socket."""
        return len(self._running)

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """(preference, host) pairs in no order; [] if the domain has no MX; a null MX is [(n, "")]. NoSuchName."""
        return list((await self.exchangers(domain)).records)

    async def exchangers(self, domain: str) -> MailExchangers:
        """`mx` with its security. Raises NoSuchName."""
        answer = await self.ask(domain, "MX")
        if not answer.exists:
            raise NoSuchName(f"DNS: the name {domain} does not exist")
        return MailExchangers(answer.records, answer.secure, answer.name)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """IP addresses of `host`, IPv4 first; () if it has none or does not exist."""
        return (await self.host(host)).addresses

    async def host(self, host: str) -> HostAddresses:
        """`addresses` with their security."""
        name = canonical(host)
        if name == "localhost":  # RFC 6761 section 6.3: never asked of the network
            return HostAddresses(name, ("127.0.0.1", "::1"), False, name)
        found: Sequence[Answer | DnsTrouble | None] = [self._kept.get((name, kind)) for kind in ("A", "AAAA")]
        if None in found:
            found = await gatherResults(
                [Deferred.fromCoroutine(self._ask_or_trouble(host, kind)) for kind in ("A", "AAAA")], consumeErrors=True
            )
        answers = [answer for answer in found if isinstance(answer, Answer)]
        telling = [answer for answer in answers if answer.records] or answers
        if not telling or (len(answers) < len(found) and not telling[0].records):
            raise next(trouble for trouble in found if isinstance(trouble, DnsTrouble))
        addresses = tuple(address for answer in telling for address in answer.records)
        return HostAddresses(name, addresses, all(answer.secure for answer in telling), telling[0].name)

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """The TXT records, each with its strings joined; () if there are none."""
        return (await self.ask(name, "TXT")).records

    async def _ask_or_trouble(self, name: str, kind: str) -> Answer | DnsTrouble:
        try:
            return await self.ask(name, kind)
        except DnsTrouble as trouble:
            return trouble

    async def ask(self, name: str, kind: str) -> Answer:
        """`kind` is one of MX, A, AAAA, TXT, CNAME, TLSA. Raises DnsTrouble."""
        key = (name.lower().removesuffix("."), kind)
        answer = self._kept.get(key)
        if answer is None:
            answer = await self._running.run(key, lambda: self._look_up(name, kind))
        return answer

    async def _look_up(self, name: str, kind: str) -> Answer:
        kept = self._kept  # the answer is one of these servers, even if others are asked by then
        try:
            question = dns.name.from_text(to_ascii(name))
            response = await self._exchange(question, kind)
            chain = response.resolve_chaining()
        except (dns.exception.DNSException, OSError, ValueError, EOFError) as problem:
            servfail = _said_servfail(problem)
            detail = type(problem).__name__ + (": SERVFAIL" if servfail else "")
            sentence = f"DNS: the {kind} records of {name} cannot be looked up now ({detail})"
            raise DnsTrouble(sentence, servfail) from problem
        answer = Answer(
            exists=response.rcode() != dns.rcode.NXDOMAIN,
            name=canonical(_text(chain.canonical_name)),
            records=tuple(map(_READ[kind], chain.answer or ())),
            secure=bool(response.flags & dns.flags.AD),
            malformed=len(response.errors) if kind == "TLSA" else 0,
        )
        kept.put((name.lower().removesuffix("."), kind), answer, chain.minimum_ttl)
        return answer

    async def _exchange(self, question: dns.name.Name, kind: str) -> dns.message.QueryMessage:
        try:
            answer = await self._resolver.resolve(
                question,
                kind,
                backend=self._backend,
                lifetime=LIFETIME * uniform(0.7, 1.0),  # so that many do not end at once
                search=False,
                raise_on_no_answer=False,
            )
        except dns.resolver.NXDOMAIN as no:
            response: dns.message.QueryMessage = no.response(question)
            return response
        return answer.response


def _said_servfail(problem: BaseException) -> bool:
    errors = problem.kwargs.get("errors") or () if isinstance(problem, dns.resolver.NoNameservers) else ()
    return any(error[3] == "SERVFAIL" for error in errors)


def to_ascii(name: str) -> str:
    """`name` as A-labels (UTS 46). ValueError if it is no domain name."""
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as problem:
        raise ValueError(f"{name} is no domain name: {problem}") from problem


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True) if name != dns.name.root else ""


_READ: dict[str, Callable[[Any], Any]] = {
    "MX": lambda record: (record.preference, _text(record.exchange)),
    "A": lambda record: record.address,
    "AAAA": lambda record: record.address,
    "TXT": lambda record: b"".join(record.strings),
    "CNAME": lambda record: canonical(_text(record.target)),
    "TLSA": lambda record: Tlsa(record.usage, record.selector, record.mtype, record.cert),
}
