"""Stand-ins for the committer's threads and for DNS, which do what they are told, when they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from qmtls.net.resolver import Answer, DnsTrouble, HostAddresses, MailExchangers, NoSuchName
from qmtls.net.stscache import StsEvidence
from qmtls.spool.api import Filing, Incoming, Spool
from qmtls.tls.resulttypes import TlsResult
from qmtls.tls.sts import CachedPolicy, StsPolicy


class Desk:
    """The committer without threads: work is done at once, or, while `open` is False, when the test says `work`.

    Like the real one it keeps commits and records apart from errands, and each of the two in order.
    """

    def __init__(self) -> None:
        self.open = True
        self.waiting: list[Callable[[], None]] = []
        self.on_removed: Callable[[Spool, Sequence[str]], object] = lambda spool, ids: None
        self.removed: list[str] = []

    def _later(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def act() -> None:
            try:
                result = work()
            except Exception:
                done.errback(Failure())
            else:
                if isinstance(result, Exception):
                    done.errback(result)
                else:
                    done.callback(result)

        if self.open:
            act()
        else:
            self.waiting.append(act)
        return done

    def work(self, count: int = 0) -> None:
        """Does what waits; with `count` only so many."""
        for _ in range(count or len(self.waiting)):
            self.waiting.pop(0)()

    def commit(self, spool: Spool, incoming: Incoming) -> Deferred[None]:
        return self._later(lambda: spool.commit([incoming])[0])

    def store(self, spool: Spool, incoming: Incoming, over: Callable[[Exception | None], object]) -> None:
        self.commit(spool, incoming).addCallbacks(over, lambda failure: over(failure.value))

    def record(self, spool: Spool, filing: Filing) -> Deferred[None]:
        return self._later(lambda: spool.record([filing])[0])

    def flush(self, incoming: Incoming) -> Deferred[None]:
        return self._later(incoming.flush)

    def run(self, f: Callable[[], Any]) -> Deferred[Any]:
        return self._later(f)

    def remove(self, spool: Spool, id: str) -> None:
        def act() -> None:
            spool.remove([id])
            self.removed.append(id)
            self.on_removed(spool, [id])

        self._later(act)

    def stop(self) -> Deferred[None]:
        return succeed(None)


class Names:
    """DNS by dictionaries. An exception as value is raised, a Deferred awaited; what is not there does not exist.

    `secure` are the names whose answers DNSSEC vouches for, `tlsa` the records by owner, `aliases` where CNAMEs lead.
    """

    def __init__(self) -> None:
        self.mail: dict[str, Any] = {}
        self.hosts: dict[str, Any] = {}
        self.tlsa: dict[str, Any] = {}
        self.aliases: dict[str, str] = {}
        self.secure: set[str] = set()
        self.asked: list[str] = []
        self.under_way = 0

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        return list((await self.exchangers(domain)).records)

    async def exchangers(self, domain: str) -> MailExchangers:
        found = await self._value(domain, self.mail, NoSuchName(f"DNS: the name {domain} does not exist"))
        return MailExchangers(tuple(found), domain in self.secure, self.aliases.get(domain, domain))

    async def addresses(self, host: str) -> tuple[str, ...]:
        return (await self.host(host)).addresses

    async def host(self, host: str) -> HostAddresses:
        found = await self._value(host, self.hosts, ())
        addresses = (found,) if isinstance(found, str) else tuple(found)
        return HostAddresses(host, addresses, host in self.secure, self.aliases.get(host, host))

    async def ask(self, name: str, kind: str) -> Answer:
        assert kind in ("TLSA", "CNAME")
        if kind == "CNAME":
            return Answer(True, name, (self.aliases[name],) if name in self.aliases else (), name in self.secure)
        found = await self._value(name, self.tlsa, ())
        return Answer(bool(found), name, tuple(found), secure=name not in self.tlsa or name in self.secure)

    async def _value(self, name: str, table: dict[str, Any], missing: Any) -> Any:
        self.asked.append(name)
        found = table.get(name, missing)
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        return found


class Policies:
    """MTA-STS by a dictionary of domains; `newer` is what is found when somebody looks again."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.newer: dict[str, StsPolicy] = {}
        self.cannot_be_had: dict[str, TlsResult] = {}
        self.asked: list[str] = []

    async def policy(self, domain: str) -> StsPolicy | None:
        self.asked.append(domain)
        found = self.known.get(domain)
        if isinstance(found, Deferred):
            found = self.known[domain] = await found
        assert found is None or isinstance(found, StsPolicy)
        return found

    async def recheck(self, domain: str) -> StsPolicy | None:
        self.asked.append(f"{domain} again")
        if domain in self.newer:
            self.known[domain] = self.newer[domain]
        found = self.known.get(domain)
        assert found is None or isinstance(found, StsPolicy)
        return found

    def broken(self, domain: str) -> TlsResult | None:
        return self.cannot_be_had.get(domain)

    async def evidence(self, domain: str) -> StsEvidence:
        policy = self.known.get(domain)
        cached = CachedPolicy(domain, "id1", policy, 0.0, 0.0, 0.0) if policy is not None else None
        return StsEvidence(domain, cached, 0.0, "" if cached else f"there is no MTA-STS record at _mta-sts.{domain}")


TROUBLE = DnsTrouble("DNS: cannot be looked up now (NoNameservers)")


def off_reactor(work: Callable[[], Any]) -> Deferred[Any]:
    """The thread pool, at once."""
    try:
        return succeed(work())
    except Exception:
        return fail(Failure())
