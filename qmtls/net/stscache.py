"""The MTA-STS policy of a domain, from the cache or fetched (RFC 8461 sections 3.3 and 5.1).

A cached policy is used until its max_age has passed, whatever DNS and policy host say or fail to say: only a new policy
replaces it. Its record id is looked at again every half hour at most, and the policy fetched anew when the id is
another or half of its life (a day at most) is over, both beside the mail that asked. Only the first mail to
a domain waits for look-up and fetch. What fails is tried again after five minutes.

A domain whose first look-up fails has no policy for us: that is what RFC 8461 section 3.3 demands, since whoever can
suppress the record can also suppress the failure.

Workers share the files. Each looks at a domain's file before it asks the network, so what one has learnt costs the
others a read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from qmtls.net.channel import OffReactor
from qmtls.net.httpsline import HttpsTrouble
from qmtls.net.resolver import DnsTrouble
from qmtls.net.sharing import Shared
from qmtls.net.stsfiles import StsFiles, canonical_domain
from qmtls.tls.resulttypes import TlsResult
from qmtls.tls.sts import CachedPolicy, StsError, StsPolicy, read_policy, read_record

RECHECK_SECONDS = 1800.0  # between two looks at a domain's record
RETRY_SECONDS = 300.0  # after a failed fetch; RFC 8461 section 3.3 wants five minutes at least
MISMATCH_SECONDS = 60.0  # between two looks because a host did not meet the policy
MAX_REMEMBERED = 10_000  # domains in memory
SHORTEST_SECONDS = 10.0  # between two looks, however short a policy lives
UNUSED_SECONDS = 60 * 86_400.0  # policies nobody used for so long are not refreshed any more

log = Logger()


class TextRecords(Protocol):
    """The part of the resolver that is needed here."""

    async def txt(self, name: str) -> tuple[bytes, ...]: ...


@dataclass(frozen=True, slots=True)
class StsEvidence:
    """What is known of a domain's policy, for people. Times are Unix seconds, 0.0 = never.

    `sentence` says what the last look found, `looked` when; `cached` may have expired (`is_fresh`).
    """

    domain: str
    cached: CachedPolicy | None
    looked: float = 0.0
    sentence: str = "it has not been looked up yet"


@dataclass(slots=True)
class _Known:
    """What this worker remembers of a domain."""

    cached: CachedPolicy | None = None
    loaded: bool = False  # its file was read
    used: float = 0.0
    looked: float = 0.0
    next_look: float = 0.0
    next_fetch: float = 0.0  # not before, after a failure
    sentence: str = ""
    broken: TlsResult | None = None  # why the policy that the last record named cannot be had, for TLS reports


class StsCache:
    """Policies by recipient domain. `now` is wall-clock time, since files outlive processes."""

    def __init__(
        self,
        files: StsFiles,
        resolver: TextRecords,
        fetch: Callable[[str], Coroutine[Deferred[Any], Any, bytes]],
        off_reactor: OffReactor,
        now: Callable[[], float],
    ) -> None:
        self._files = files
        self._resolver = resolver
        self._fetch = fetch
        self._off_reactor = off_reactor
        self._now = now
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._looking: Shared[str, None] = Shared()

    async def policy(self, domain: str) -> StsPolicy | None:
        """The policy in force, of whatever mode; None if the domain has none, or none that can be had."""
        domain = canonical_domain(domain)
        if not domain:
            return None
        known = self._remembered(domain)
        known.used = self._now()
        if self._now() >= known.next_look and not known.loaded:
            await self._load(domain, known)
        # Who comes while somebody looks for the first time waits as well.
        if self._now() >= known.next_look or domain in self._looking:
            looking = self._look(domain)
            if self._fresh(known) is None:
                await looking
        return self._fresh(known)

    async def recheck(self, domain: str) -> StsPolicy | None:
        """As `policy`, after a host did not meet it: the domain may have published another since. The record is
        looked at now, unless that was done within a minute."""
        domain = canonical_domain(domain)
        if not domain:
            return None
        known = self._remembered(domain)
        known.used = self._now()
        if self._now() >= known.looked + MISMATCH_SECONDS:
            await self._look(domain, forced=True)
        return self._fresh(known)

    def broken(self, domain: str) -> TlsResult | None:
        """What is wrong with the policy that the domain's record names, as the last look found."""
        known = self._known.get(canonical_domain(domain))
        return known.broken if known is not None else None

    async def evidence(self, domain: str) -> StsEvidence:
        """What is known, without asking the network."""
        domain = canonical_domain(domain)
        if not domain:
            return StsEvidence(domain, None, sentence="it is no domain that can have a policy")
        known = self._known.get(domain) or _Known()
        cached = _newer(await self._read(domain), known.cached)
        if known.sentence:
            return StsEvidence(domain, cached, known.looked, known.sentence)
        if cached is not None:
            return StsEvidence(domain, cached, cached.checked, "its record had the id of the cached policy")
        return StsEvidence(domain, None)

    async def refresh(self) -> int:
        """Fetches what comes to its end before mail asks for it, one after the other, and removes what has ended; the
        number of policies that were due. Meant for a timer; more than one worker doing it costs little."""
        due: list[CachedPolicy] = await self._off_reactor(self._due)
        for cached in due:
            known = self._remembered(cached.domain)
            if self._now() >= known.next_fetch:
                await self._look(cached.domain)
        return len(due)

    def _due(self) -> list[CachedPolicy]:
        now, due = self._now(), []
        for cached in self._files.all():
            if not cached.is_fresh(now):
                with suppress(OSError):
                    self._files.remove(cached.domain)
            elif now >= cached.refresh_at and now - cached.used < UNUSED_SECONDS:
                due.append(cached)
        return due

    def _remembered(self, domain: str) -> _Known:
        known = self._known.get(domain)
        if known is None:
            known = self._known[domain] = _Known()
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(domain)
        return known

    def _fresh(self, known: _Known) -> StsPolicy | None:
        cached = known.cached
        return cached.policy if cached is not None and cached.is_fresh(self._now()) else None

    async def _read(self, domain: str) -> CachedPolicy | None:
        found: CachedPolicy | None = await self._off_reactor(lambda: self._files.read(domain))
        return found

    async def _load(self, domain: str, known: _Known) -> None:
        """What the file says, which another worker may have written a moment ago."""
        known.cached = _newer(await self._read(domain), known.cached)
        known.loaded = True
        if known.cached is not None:
            due = min(known.cached.checked + RECHECK_SECONDS, known.cached.refresh_at)
            known.next_look = max(known.next_look, due)

    def _look(self, domain: str, *, forced: bool = False) -> Deferred[None]:
        """One look for all that want one; never fails. `forced`: also if another worker has just looked."""
        looking = self._looking.run(domain, lambda: self._look_now(domain, forced))
        return looking.addErrback(lambda failure: log.failure("looking for an STS policy", failure))

    async def _look_now(self, domain: str, forced: bool) -> None:
        """Looks at file, record and, if need be, policy host."""
        known = self._remembered(domain)
        before = known.next_look
        await self._load(domain, known)
        now = self._now()
        if not forced and before <= now < known.next_look:
            return  # another worker has looked
        known.looked = now
        known.next_look = now + RETRY_SECONDS
        cached = known.cached
        renew = cached is not None and now >= cached.refresh_at
        try:
            id = read_record(await self._resolver.txt(f"_mta-sts.{domain}"))
        except (DnsTrouble, StsError) as problem:
            known.sentence = str(problem)
            if cached is None or not renew or isinstance(problem, StsError):
                return
            id = cached.id  # whoever can keep the record from us must not make the policy run out
        if not id:
            known.sentence, known.broken = f"there is no MTA-STS record at _mta-sts.{domain}", None
            known.next_look = now + RECHECK_SECONDS
        elif cached is not None and cached.id == id and not renew:
            known.sentence = "its record has the id of the cached policy"
            await self._store(known, replace(cached, checked=now))
        elif now >= known.next_fetch:
            await self._renew(domain, known, id)

    async def _renew(self, domain: str, known: _Known, id: str) -> None:
        try:
            policy = read_policy(await self._fetch(domain))
        except (HttpsTrouble, StsError) as problem:
            known.sentence, known.broken = f"the policy with id {id} cannot be had: {problem}", _result(problem)
            known.next_fetch = known.next_look = self._now() + RETRY_SECONDS
            return
        now = self._now()
        known.sentence, known.broken = f"the policy with id {id} was fetched", None
        used = known.cached.used if known.cached is not None else known.used
        await self._store(known, CachedPolicy(domain, id, policy, now, now, used))

    async def _store(self, known: _Known, cached: CachedPolicy) -> None:
        known.cached = cached = replace(cached, used=max(cached.used, known.used))
        # In time for the end of a policy that lives for minutes, but not with every message.
        due = min(cached.checked + RECHECK_SECONDS, cached.refresh_at)
        known.next_look = max(due, self._now() + SHORTEST_SECONDS)
        try:
            await self._off_reactor(lambda: self._files.write(cached))
        except OSError as problem:
            # Mail does not wait for it; a restart begins anew.
            log.warn("the STS policy of {domain} cannot be kept: {problem}", domain=cached.domain, problem=problem)


def _result(problem: HttpsTrouble | StsError) -> TlsResult:
    """RFC 8460 section 4.3.2.2."""
    if isinstance(problem, StsError):
        return TlsResult.STS_POLICY_INVALID
    return TlsResult.STS_WEBPKI_INVALID if problem.certificate else TlsResult.STS_POLICY_FETCH_ERROR


def _newer(one: CachedPolicy | None, other: CachedPolicy | None) -> CachedPolicy | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda cached: (cached.fetched, cached.checked))
