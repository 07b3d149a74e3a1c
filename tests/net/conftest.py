"""Twisted's TLS layer gathers small writes until the next turn of a reactor: here it is the test's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tests.net import wire
from tests.net.house import PLAIN, Files, Site


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def newest() -> wire.Reactor:
        assert wire.Reactor.newest is not None, "a handshake without a reactor of the test"
        return wire.Reactor.newest

    monkeypatch.setattr("twisted.protocols.tls._get_default_clock", newest)


@pytest.fixture
def failures() -> Iterator[list[LogEvent]]:
    """What was logged as a failure. A test that wants some clears the list; at its end it is empty."""
    seen: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


@pytest.fixture(autouse=True)
def quiet(failures: list[LogEvent]) -> Iterator[None]:
    yield
    gc.collect()  # so that Deferreds which nobody asked are told of now
    assert not failures, "\n".join(str(event.get("log_failure")) for event in failures)


@pytest.fixture(autouse=True, scope="session")
def frozen() -> None:
    """What is loaded need not be looked at by each of the collections above."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, PLAIN)


@pytest.fixture
def make_site(tmp_path: Path) -> object:
    def make(files: Files) -> Site:
        return Site(tmp_path, files)

    return make
