"""SIGKILL again and again under load: what was acknowledged arrives, whatever was killed.

QMTLS_STORM sets the number of kills (10 of each kind by default).
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.system.house import House
from tests.system.outbound.handing import open_to_all
from tests.system.outbound.load import Arrivals, Load
from tests.system.outbound.sink import Sink
from tests.system.waiting import wait_for

KILLS = int(os.environ.get("QMTLS_STORM", "10"))
BETWEEN = 150  # acknowledged messages before each kill
DRAIN = 120.0  # seconds


def kill_all(house: House) -> None:
    house.kill()
    house.start(*arguments(house))


def kill_a_worker(house: House) -> None:
    """Any of the two, which may have just been started."""
    before = wait_for(lambda: workers(house), "two workers")
    os.kill(random.choice(sorted(before)), signal.SIGKILL)
    wait_for(lambda: workers(house) not in (before, set()), "another worker")


def workers(house: House) -> set[int]:
    """The supervisor's children, if there are two."""
    children = Path(f"/proc/{house.pid}/task/{house.pid}/children").read_text().split()
    return {int(child) for child in children} if len(children) == 2 else set()


def arguments(house: House) -> list[str]:
    return ["--workers", "2"] if house.home.name == "two" else []


@pytest.mark.parametrize(
    ("name", "kill"),
    [("one", kill_all), ("two", kill_all), ("two", kill_a_worker)],
    ids=["one process", "two workers and supervisor", "single workers"],
)
def test_storm(new_house, name: str, kill, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    house: House = new_house(name)
    arrivals = Arrivals()
    began = time.monotonic()
    with Sink(take=arrivals.take, keep=False) as sink:
        open_to_all(house, f":127.0.0.1:{sink.port}").start(*arguments(house))
        with Load(house.port, connections=12) as load:
            for _ in range(KILLS):
                load.wait_for(BETWEEN)
                time.sleep(random.random() / 20)  # at any moment of their work
                kill(house)
            load.wait_for(BETWEEN)
        wait_for(lambda: load.acknowledged <= arrivals.counts.keys(), "every acknowledged message", DRAIN)
        wait_for(lambda: not house.messages(), "an empty queue", DRAIN)
    with capsys.disabled():
        print(
            f"\nkill storm, {name}, {kill.__name__}: {KILLS} kills, {len(load.acknowledged)} acknowledged, 0 lost, "
            f"{arrivals.duplicates} twice, {len(arrivals.counts) - len(load.acknowledged)} arrived unacknowledged, "
            f"{load.broken} connections cut off, {time.monotonic() - began:.0f} s"
        )
    assert not arrivals.damaged
    assert not load.refused
    assert house.stop() == 0
