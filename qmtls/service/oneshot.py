"""The relayer's own look-ups and connections for a command: a reactor of its own that runs until one answer is there.

Nothing of a service is started: no bins, no listening sockets, no threads. Blocking reads are done in place, because
nobody else waits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from qmtls.control.settings import Settings
from qmtls.net.https import PolicyFetcher
from qmtls.net.reactor import LeanReactor
from qmtls.net.resolver import Resolver
from qmtls.net.snapshot import Snapshot, make_snapshot
from qmtls.net.stscache import StsCache
from qmtls.net.stsfiles import StsFiles
from qmtls.net.targets import Finder
from qmtls.net.witness import Witness
from qmtls.service.listening import DEFAULT, own_addresses

STS = "sts"  # as the service keeps them, below HOME/state
CONNECT_SECONDS = 20.0  # at most, whatever timeoutconnect says: somebody waits for the answer
REPLY_SECONDS = 60.0  # likewise for each reply

_INTERFACE = re.compile(r"(?:^|:)interface=((?:\\:|[^:])+)")

T = TypeVar("T")


class GaveUp(Exception):
    """There was no answer in time, or somebody pressed a key; str() says which."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one question may use."""

    reactor: Any
    snapshot: Snapshot
    resolver: Resolver
    finder: Finder
    witness: Witness

    def off_reactor(self, work: Callable[[], Any]) -> Deferred[Any]:
        """In place: nothing else waits for this reactor."""
        return run_in_place(work)


def run_in_place(work: Callable[[], Any]) -> Deferred[Any]:
    """As a thread would, without one."""
    return maybeDeferred(work)


def ask(settings: Settings, state: Path, question: Callable[[Bench], Coroutine[Any, Any, T]], seconds: float) -> T:
    """The answer to `question`. Raises GaveUp after `seconds`, whatever the question raises, and ContextError."""
    reactor: Any = cast(Any, LeanReactor)()
    outcome: list[T | Failure] = []
    with ExitStack() as stack:
        kept = state / STS if state.is_dir() else Path(stack.enter_context(TemporaryDirectory()))
        bench = _bench(reactor, settings, kept)

        def finished(result: T | Failure) -> None:
            outcome.append(result)
            reactor.callLater(0.1, reactor.stop)  # what was said last, a QUIT, still goes out

        def begin() -> None:
            Deferred.fromCoroutine(question(bench)).addBoth(finished)

        reactor.callWhenRunning(begin)
        reactor.callLater(seconds, reactor.crash)  # at once: the ends of what is open are nobody's answer any more
        reactor.run()
    if not outcome:
        raise GaveUp(f"no answer within {seconds:g} seconds, or interrupted")
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def _bench(reactor: Any, settings: Settings, kept: Path) -> Bench:
    quick = replace(
        settings,
        timeout_connect=min(settings.timeout_connect, CONNECT_SECONDS),
        timeout_remote=min(settings.timeout_remote, REPLY_SECONDS),
    )
    resolver = Resolver(reactor, settings.dns_servers, settings.dns_trusted)
    fetch = PolicyFetcher(reactor, resolver).fetch
    policies = StsCache(StsFiles(kept), resolver, fetch, run_in_place, time.time)
    finder = Finder(resolver, own_addresses(lambda: interfaces(settings)), reactor)
    return Bench(reactor, make_snapshot(quick), resolver, finder, Witness(resolver, policies, time.time))


def interfaces(settings: Settings) -> list[str]:
    """The addresses in control/listen: where mail that is sent there would come back to us."""
    found = []
    for listener in settings.listeners or (DEFAULT,):
        text = listener.endpoint
        if "tcp" in text:
            named = _INTERFACE.search(text)
            found.append(named[1].replace("\\:", ":") if named else "0.0.0.0")
    return found
