"""Hosts that are down or hang, before the whole program: they rest, and mail for others passes theirs."""

from __future__ import annotations

import re

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.outbound.load import message
from tests.system.outbound.sink import Sink
from tests.system.waiting import free_port, wait_for

FEW = 5  # lanes to a host that nobody knows


def test_mail_for_a_dead_host_is_told_and_goes_when_somebody_says_so(house: House) -> None:
    port = free_port()
    open_to_all(house, f":127.0.0.1:{port}").start()
    hand_in(house, "first@dead.test")
    resting = house.wait_for_log(r'resting destination="\[127\.0\.0\.1\]:\d+" failed=1 next="[^"]+ UTC" reason="')
    hand_in(house, *(f"{n}@dead.test" for n in range(3)), contents=[message(n) for n in range(20)])
    rows = wait_for_reasons(house, 2)
    assert re.search(
        r"^not asked again after \S+ \S+ UTC: .* cannot be connected to: .*; the next look is at \S+ \S+ UTC$",
        rows["0@dead.test"]["reason"],
    )
    assert len(re.findall("resting ", house.log())) == 1, resting
    with Sink(port=port) as sink:
        house.qmtls("queue", "retry", "--domain", "dead.test", "--yes")
        sink.wait_for(21)
    house.wait_for_log("answers destination=")
    house.wait_for_empty_queue()


def test_after_a_start_mail_passes_that_of_a_host_that_hangs(house: House) -> None:
    """All of it comes from the disk, that of the hanging host first."""
    with FakeMx({"connect": Do(b"", then="hang")}) as hanging, Sink() as good:
        open_to_all(house, f"hang.test:127.0.0.1:{hanging.port}", f":127.0.0.1:{good.port}")
        house.control("concurrencyremote", "0\n")
        house.start()
        hand_in(house, "bob@hang.test", contents=[message(n) for n in range(1000)])
        hand_in(house, "bob@good.test", contents=[message(n) for n in range(50)])
        assert house.stop() == 0
        house.control("concurrencyremote", None)
        house.start()
        good.wait_for(50)
        wait_for(lambda: len(hanging.sessions) == FEW, "a few connections that hang")
        hand_in(house, "bob@good.test", contents=[message(n) for n in range(10)])
        good.wait_for(60)
        assert len(hanging.sessions) == FEW
    assert len(house.queue()) == 1000


def test_lines_of_destinations_with_several_workers(house: House) -> None:
    """Connections and rates are those of all workers together; a reload raises them."""
    with Sink() as sink:
        open_to_all(house, f":127.0.0.1:{sink.port}")
        house.control("destinations", f"[127.0.0.1]:{sink.port} rate=30/h connections=1 messages-per-connection=10\n")
        house.start("--workers", "2")
        for n in range(4):
            hand_in(house, "bob@good.test", contents=[message(10 * n + k) for k in range(10)])
        sink.wait_for(30)
        house.control("destinations", f"[127.0.0.1]:{sink.port} connections=2\n")
        before = len(house.log())
        assert sink.count == 30, "so many at once after a rest, by both workers"
        house.wait_for_log("reloaded ", after=before)
        sink.wait_for(40)
        assert sink.connections >= 4
    house.wait_for_empty_queue()
