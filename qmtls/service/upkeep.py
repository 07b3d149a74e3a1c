"""What outbound TLS needs looking after, beside all mail: MTA-STS policies fetched anew before they end, and whether
our resolver checks DNSSEC. Nobody else would notice if it did not: DANE would just never apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from qmtls.control.settings import Settings
from qmtls.net.dnscheck import DnssecState, check_dnssec
from qmtls.net.resolver import Resolver
from qmtls.tls.policy import PolicyRules

HOUR = 3600.0

log = Logger()


class Refreshing(Protocol):
    """The part of qmtls.net.stscache.StsCache that is needed here."""

    async def refresh(self) -> int: ...


class Upkeep:
    """`hourly` is for a timer and never fails; `state` is what the last check of the resolver found."""

    def __init__(
        self,
        resolver: Resolver,
        policies: Refreshing,
        settings: Callable[[], Settings],
        say: Callable[[str], None],
    ) -> None:
        self._resolver = resolver
        self._policies = policies
        self._settings = settings
        self._say = say
        self._told = ""  # so that a reload does not repeat it
        self.state: DnssecState | None = None

    def look(self) -> Deferred[None]:
        """At the start, and after each reload."""
        settings = self._settings()
        untrusted = self._resolver.untrusted if _asks_dane(settings.tls) else ()
        told = ", ".join(untrusted)
        if told and told != self._told and settings.dns_check is None:
            why = "is neither on this host nor named as trusted in control/dnsserver"
            self._say(f"warning: DANE is off: the resolver {told} {why}")
        self._told = told
        return self._guarded(self._check())

    def hourly(self) -> None:
        """Beside mail."""
        self._guarded(self._check())
        self._guarded(self._refresh())

    def _guarded(self, work: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(work).addErrback(_failed)

    async def _refresh(self) -> None:
        await self._policies.refresh()

    async def _check(self) -> None:
        names = self._settings().dns_check
        if names is None:
            self.state = None
            return
        found = await check_dnssec(self._resolver, *names)
        if found.state is not self.state or found.state is not DnssecState.WORKS:
            prefix = "" if found.state is DnssecState.WORKS else "warning: "
            self._say(f"{prefix}{found.sentence}")
        self.state = found.state


def _asks_dane(rules: PolicyRules) -> bool:
    return rules.default.asks_dane or any(line.policy.asks_dane for line in rules.lines.values())


def _failed(failure: Failure) -> None:
    log.failure("looking after outbound TLS", failure)
