"""The limit of open files: raised as far as the system permits, never lowered."""

from __future__ import annotations

import resource

import pytest

from qmtls.net.openfiles import WANTED, for_clients, for_lanes, raise_limit


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 524_288, WANTED),
        (1024, 4096, 4096),
        (1024, 1024, 1024),
        (1024, resource.RLIM_INFINITY, WANTED),
        (20_000, 20_000, 20_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, WANTED),
    ],
)
def test_as_many_as_the_system_permits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, expected: int) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: asked.append(limits))
    assert raise_limit() == expected
    assert asked == ([(expected, hard)] if soft not in (expected, resource.RLIM_INFINITY) else [])


def test_a_limit_that_cannot_be_raised_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(what: int, limits: tuple[int, int]) -> None:
        raise OSError

    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 8192))
    monkeypatch.setattr(resource, "setrlimit", refused)
    assert raise_limit() == 256


def test_enough_is_left_for_the_queue() -> None:
    for files in (256, 1024, WANTED):
        assert files - for_clients(files) - 2 * for_lanes(files) >= files // 5
