"""Cached policies: who waits for what, what replaces what, and what survives."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from qmtls.net.httpsline import HttpsTrouble
from qmtls.net.resolver import DnsTrouble
from qmtls.net.stscache import RECHECK_SECONDS, RETRY_SECONDS, UNUSED_SECONDS, StsCache
from qmtls.net.stsfiles import StsFiles
from qmtls.tls.resulttypes import TlsResult
from qmtls.tls.sts import StsMode, StsPolicy
from tests.net.doubles import off_reactor

DAY = 86_400.0
DOMAIN = "example.org"


def text(mode: str = "enforce", mx: str = "mx.example.org", max_age: int = 604_800) -> bytes:
    return f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n".encode()


class World:
    """What the domain publishes; a Deferred as value hangs until the test fires it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "sts"
        self.time = 1_000_000.0
        self.record: Any = (b"v=STSv1; id=1",)
        self.body: Any = text()
        self.asked: list[str] = []
        self.cache = self.worker()

    def worker(self) -> StsCache:
        return StsCache(StsFiles(self.directory), self, self.fetch, off_reactor, lambda: self.time)

    async def txt(self, name: str) -> tuple[bytes, ...]:
        self.asked.append(name)
        found = await self.record if isinstance(self.record, Deferred) else self.record
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, tuple)
        return found

    async def fetch(self, domain: str) -> bytes:
        self.asked.append(f"https {domain}")
        found = await self.body if isinstance(self.body, Deferred) else self.body
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, bytes)
        return found

    def new(self) -> list[str]:
        """What was asked since the last call."""
        asked, self.asked = self.asked, []
        return asked

    def policy(self, domain: str = DOMAIN, cache: StsCache | None = None) -> StsPolicy | None:
        found = result((cache or self.cache).policy(domain))
        assert found is None or isinstance(found, StsPolicy)
        return found


def result(coroutine: Coroutine[Deferred[Any], Any, Any]) -> Any:
    """Of a coroutine that need not wait."""
    found = later(coroutine)
    assert found, "it waits"
    return found[0]


def later(coroutine: Coroutine[Deferred[Any], Any, Any]) -> list[Any]:
    found: list[Any] = []
    running: Deferred[Any] = Deferred.fromCoroutine(coroutine)
    running.addCallback(found.append)
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


POLICY = StsPolicy(StsMode.ENFORCE, 604_800, ("mx.example.org",))
RECORD, HTTPS = "_mta-sts.example.org", "https example.org"
TROUBLE = DnsTrouble("DNS: not now")
NO_HOST = HttpsTrouble("no answer")


def test_the_first_mail_waits_the_others_do_not_ask(world: World) -> None:
    world.record, world.body = Deferred(), Deferred()
    first, second = later(world.cache.policy(DOMAIN)), later(world.cache.policy("EXAMPLE.org."))
    assert world.new() == [RECORD] and not first
    record, world.record = world.record, (b"v=STSv1; id=1",)
    record.callback(world.record)
    assert world.new() == [HTTPS] and not first
    world.body.callback(text())
    assert first == second == [POLICY]
    assert world.policy() == POLICY
    assert world.new() == []


def test_a_policy_survives_a_restart_and_serves_all_workers(world: World) -> None:
    assert world.policy() == POLICY
    (file,) = world.directory.iterdir()
    assert file.name == "example.org.json" and file.stat().st_mode & 0o777 == 0o600
    world.new()
    assert world.policy(cache=world.worker()) == POLICY
    assert world.new() == []


def test_after_half_an_hour_the_record_is_looked_at_beside_the_mail(world: World) -> None:
    world.policy()
    world.new()
    world.time += RECHECK_SECONDS - 1
    assert world.policy() == POLICY and world.new() == []
    world.time += 1
    world.record = Deferred()
    assert world.policy() == world.policy() == POLICY
    assert world.new() == [RECORD]
    world.record.callback((b"v=STSv1; id=1",))
    assert world.new() == [] and world.policy() == POLICY and world.new() == []
    # The others see that this one has looked.
    assert world.policy(cache=world.worker()) == POLICY and world.new() == []


def test_another_id_brings_another_policy(world: World) -> None:
    world.policy()
    world.time += RECHECK_SECONDS
    world.record, world.body = (b"v=STSv1; id=2",), Deferred()
    assert world.policy() == POLICY  # the one in the cache holds until the new one is there
    world.body.callback(text("none"))
    assert world.policy() == StsPolicy(StsMode.NONE, 604_800, ("mx.example.org",))
    assert world.policy(cache=world.worker()) == world.policy()


@pytest.mark.parametrize("record", [TROUBLE, (), (b"v=STSv1; id=1", b"v=STSv1; id=2"), (b"v=STSv1; id",)])
def test_without_a_record_a_cached_policy_holds_until_its_end(world: World, record: Any) -> None:
    world.policy()
    world.record, world.body = record, NO_HOST
    world.time += 604_799
    assert world.policy() == POLICY
    world.time += 1
    assert world.policy() is None
    assert world.policy("other.example") is None


@pytest.mark.parametrize("body", [NO_HOST, b"<html>", text("enforce", "../.."), text().replace(b"STSv1", b"STSv2")])
def test_a_policy_that_cannot_be_had_replaces_nothing(world: World, body: bytes) -> None:
    world.policy()
    world.record, world.body = (b"v=STSv1; id=2",), body
    world.time += RECHECK_SECONDS
    world.new()
    assert world.policy() == POLICY and world.new() == [RECORD, HTTPS]
    world.time += RETRY_SECONDS - 1
    assert world.policy() == POLICY and world.new() == []
    world.time += 1
    world.body = text("testing")
    world.policy()
    assert world.new() == [RECORD, HTTPS]
    found = world.policy()
    assert found is not None and found.mode is StsMode.TESTING


def test_a_host_that_cannot_be_reached_at_first_means_no_policy_for_five_minutes(world: World) -> None:
    world.body = NO_HOST
    assert world.policy() is None and world.new() == [RECORD, HTTPS]
    assert world.policy() is None and world.new() == []
    world.body = text()
    world.time += RETRY_SECONDS
    assert world.policy() == POLICY


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (NO_HOST, TlsResult.STS_POLICY_FETCH_ERROR),
        (HttpsTrouble("a bad one", certificate=True), TlsResult.STS_WEBPKI_INVALID),
        (b"nonsense", TlsResult.STS_POLICY_INVALID),
    ],
)
def test_why_a_policy_cannot_be_had(world: World, body: Any, result: TlsResult) -> None:
    assert world.cache.broken(DOMAIN) is None
    world.body = body
    assert world.policy() is None
    assert world.cache.broken(f"{DOMAIN}.") is result
    world.body = text()
    world.time += 301
    world.policy()
    assert world.policy() == POLICY
    assert world.cache.broken(DOMAIN) is None


def test_a_domain_without_record_is_asked_every_half_hour(world: World) -> None:
    world.record = ()
    assert world.policy() is None and world.policy() is None and world.new() == [RECORD]
    world.time += RECHECK_SECONDS
    world.record = (b"v=STSv1; id=1",)
    assert world.policy() == POLICY


def test_a_policy_is_fetched_anew_before_its_end_even_without_its_record(world: World) -> None:
    world.policy()
    world.new()
    world.time += DAY
    assert result(world.cache.refresh()) == 1
    assert world.new() == [RECORD, HTTPS]
    world.record = TROUBLE
    world.time += 2 * DAY
    assert result(world.cache.refresh()) == 1
    assert world.new() == [RECORD, HTTPS]
    world.record, world.body = (), NO_HOST
    world.time += 604_799
    assert world.policy() == POLICY
    world.time += 1
    assert result(world.cache.refresh()) == 0 and list(world.directory.iterdir()) == []


def test_one_worker_refreshes_for_all(world: World) -> None:
    other = world.worker()
    world.policy()
    world.policy(cache=other)
    world.time += DAY
    world.new()
    result(world.cache.refresh())
    assert result(other.refresh()) == 0
    assert world.new() == [RECORD, HTTPS]
    assert world.policy(cache=other) == POLICY and world.new() == []


def test_policies_that_nobody_uses_are_not_refreshed(world: World) -> None:
    world.body = text(max_age=31_557_600)
    world.policy()
    for _ in range(int(UNUSED_SECONDS / DAY) - 1):
        world.time += DAY
        assert result(world.cache.refresh()) == 1
    world.time += DAY
    assert result(world.cache.refresh()) == 0
    assert world.policy() is not None  # mail asks again
    world.time += DAY
    assert result(world.cache.refresh()) == 1


def test_short_lived_policies_do_not_lapse_between_two_looks(world: World) -> None:
    world.body = text(max_age=600)
    for _ in range(10):
        assert world.policy() is not None
        world.time += 299
    world.body = text(max_age=0)
    world.time += 600
    world.new()
    assert world.policy() is None and world.policy() is None
    assert world.new() == [RECORD, HTTPS]


def test_a_mismatch_looks_at_once_but_not_again_and_again(world: World) -> None:
    world.policy()
    world.record, world.body = (b"v=STSv1; id=2",), text(mx="new.example.org")
    world.time += 61
    world.new()
    found = result(world.cache.recheck(DOMAIN))
    assert found.mx == ("new.example.org",) and world.new() == [RECORD, HTTPS]
    assert result(world.cache.recheck(DOMAIN)) == found and world.new() == []
    # Also in a worker that thinks that another has looked a moment ago.
    other = world.worker()
    world.policy(cache=other)
    world.record, world.body = (b"v=STSv1; id=3",), text("none")
    world.new()
    assert result(other.recheck(DOMAIN)).mode is StsMode.NONE


def test_a_mismatch_looks_although_another_worker_has_looked_a_moment_ago(world: World) -> None:
    other = world.worker()
    world.policy()
    world.policy(cache=other)
    world.time += RECHECK_SECONDS
    world.policy()
    world.record, world.body = (b"v=STSv1; id=2",), text("none")
    assert result(other.recheck(DOMAIN)).mode is StsMode.NONE


def test_a_mismatch_does_not_ask_a_policy_host_that_just_failed(world: World) -> None:
    world.policy()
    world.record, world.body = (b"v=STSv1; id=2",), NO_HOST
    world.time += 61
    world.new()
    assert result(world.cache.recheck(DOMAIN)) == POLICY and world.new() == [RECORD, HTTPS]
    world.time += 61
    assert result(world.cache.recheck(DOMAIN)) == POLICY and world.new() == [RECORD]


@pytest.mark.parametrize("domain", ["", "../x", "a/b", "[192.0.2.1]", "192.0.2.1", "a\0b", ".org", "x" * 64 + ".org"])
def test_what_is_no_domain_asks_nothing(world: World, domain: str) -> None:
    assert world.policy(domain) is None and result(world.cache.recheck(domain)) is None
    assert "no domain" in result(world.cache.evidence(domain)).sentence
    assert world.new() == [] and not world.directory.exists()


def test_long_domains_have_files_too(world: World) -> None:
    domain = ".".join(["x" * 60] * 4)
    assert world.policy(domain) == POLICY
    (file,) = world.directory.iterdir()
    assert file.name.startswith("sha256-")
    world.new()
    assert world.policy(domain, world.worker()) == POLICY and world.new() == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"version": 1}', b"x" * 1_000_000])
def test_a_broken_file_costs_a_fetch(world: World, content: bytes) -> None:
    world.policy()
    (file,) = world.directory.iterdir()
    file.write_bytes(content)
    (world.directory / "other.example.json").mkdir()
    (world.directory / "more.example.json").symlink_to("/nowhere")
    world.new()
    worker = world.worker()
    assert world.policy(cache=worker) == POLICY and world.new() == [RECORD, HTTPS]
    assert world.policy(cache=world.worker()) == POLICY and world.new() == []
    assert result(worker.refresh()) == 0


def test_a_file_of_another_domain_is_not_taken(world: World) -> None:
    world.policy()
    (file,) = world.directory.iterdir()
    (world.directory / "other.example.json").write_bytes(file.read_bytes())
    world.record = ()
    assert world.policy("other.example") is None


def test_a_directory_that_cannot_be_written_costs_the_restart_only(tmp_path: Path) -> None:
    (tmp_path / "sts").write_text("in the way")
    world = World(tmp_path)
    assert world.policy() == POLICY and world.policy() == POLICY
    assert world.new() == [RECORD, HTTPS]
    assert result(world.cache.refresh()) == 0


def test_nothing_half_written_is_left(world: World) -> None:
    world.policy()
    world.time += RECHECK_SECONDS
    world.policy()
    assert [file.name for file in world.directory.iterdir()] == ["example.org.json"]


def test_evidence(world: World) -> None:
    assert "not been looked up" in result(world.cache.evidence(DOMAIN)).sentence
    world.policy()
    found = result(world.cache.evidence(DOMAIN))
    assert (found.looked, found.cached.policy, found.sentence) == (
        world.time,
        POLICY,
        "the policy with id 1 was fetched",
    )
    elsewhere = result(world.worker().evidence(DOMAIN))
    assert elsewhere.cached == found.cached and elsewhere.looked == world.time
    world.time += RECHECK_SECONDS
    world.record, world.body = (b"v=STSv1; id=2",), NO_HOST
    world.policy()
    found = result(world.cache.evidence(DOMAIN))
    assert found.sentence == "the policy with id 2 cannot be had: no answer" and found.cached.id == "1"
    world.record = ()
    world.policy("none.example")
    assert "there is no MTA-STS record" in result(world.cache.evidence("none.example")).sentence


def test_only_so_many_domains_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmtls.net.stscache.MAX_REMEMBERED", 3)
    for n in range(10):
        world.policy(f"d{n}.example")
    assert len(world.cache._known) == 3
    world.new()
    assert world.policy("d0.example") == POLICY and world.new() == []  # from its file


def test_a_fault_of_ours_is_logged_and_mail_goes_on(world: World, failures: list[Any]) -> None:
    world.record = ZeroDivisionError("ours")
    assert world.policy() is None
    assert failures.pop()["log_failure"].check(ZeroDivisionError) and not failures
