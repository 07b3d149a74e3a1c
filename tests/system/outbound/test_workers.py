"""Several workers behind the same sockets: they share the work, are replaced when they die, and end together."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from tests.system.house import House
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.load import Arrivals, Load
from tests.system.outbound.sink import Sink
from tests.system.waiting import free_port, wait_for


def workers(house: House) -> dict[int, int]:
    """Number of each worker to its latest pid."""
    return {int(n): int(pid) for n, pid in re.findall(r"started worker (\d+) pid=(\d+)", house.log())}


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(house: House, count: int = 2) -> House:
    house.start("--workers", str(count))
    for number in range(1, count + 1):
        house.wait_for_log(rf"\[{number}\] .*worker started")
    return house


def both_have_taken(house: House) -> bool:
    return {"1", "2"} <= set(re.findall(r"^.*\[(\d)\] .*accepted id=", house.log(), re.MULTILINE))


def hand_in_to_each(house: House, to: str) -> int:
    """Messages over new connections, until each of two workers has taken one; how many there were."""
    for count in range(1, 200):
        hand_in(house, to)
        if both_have_taken(house):
            return count
    raise AssertionError("one worker takes everything")


def load_both(house: House) -> set[int]:
    """Load until each of two workers has taken some; what was acknowledged. One of them may be quick enough to take all
    connections that come at one moment."""
    acknowledged: set[int] = set()
    numbers = itertools.count()
    for _ in range(50):
        with Load(house.port, connections=8, acknowledged=acknowledged, numbers=numbers) as load:
            load.wait_for(400)
        if both_have_taken(house):
            return acknowledged
    raise AssertionError("one worker takes everything")


def test_both_take_and_relay(house: House) -> None:
    arrivals = Arrivals()
    with Sink(take=arrivals.take, keep=False) as sink:
        open_to_all(house, f":127.0.0.1:{sink.port}")
        start(house)
        acknowledged = load_both(house)
        house.wait_for_empty_queue()
    assert set(arrivals.counts) >= acknowledged
    assert not arrivals.duplicates
    for number in (1, 2):
        house.wait_for_log(rf"\[{number}\] .*accepted id=")
        house.wait_for_log(rf"\[{number}\] .*delivered id=")
    assert house.stop() == 0
    assert not [pid for pid in workers(house).values() if alive(pid)]


def test_a_killed_worker_is_replaced_and_its_waiting_mail_goes_out(house: House) -> None:
    port = free_port()
    open_to_all(house, f":127.0.0.1:{port}")
    start(house)
    count = hand_in_to_each(house, "bob@dest.test")
    wait_for(lambda: len(re.findall("deferred id=", house.log())) == count, "a first attempt of all")
    old = workers(house)
    after = len(house.log())
    os.kill(old[1], signal.SIGKILL)
    house.wait_for_log("worker 1 ended: .*signal 9", after=after)
    house.wait_for_log(r"\[1\] .*worker started", after=after)
    new = workers(house)
    assert new[1] != old[1]
    assert new[2] == old[2]
    with Sink(port=port) as sink:
        assert len(house.queue()) == count
        house.qmtls("queue", "retry", "--domain", "dest.test")
        sink.wait_for(count)
        house.wait_for_empty_queue()


def test_workers_end_with_their_supervisor_however_it_ends(house: House) -> None:
    open_to_all(house, f":127.0.0.1:{free_port()}")
    start(house)
    count = hand_in_to_each(house, "bob@dest.test")
    pids = workers(house).values()
    with socket.create_connection(("127.0.0.1", house.port)):  # a session under way does not hold them
        os.kill(house.pid, signal.SIGKILL)
        assert house.process is not None
        house.process.wait()
        wait_for(lambda: is_free(house.port), "a free port", patience=10)
        wait_for(lambda: not any(map(alive, pids)), "the end of the workers", patience=40)
    start(house)
    assert len(house.messages()) == count
    assert house.stop() == 0


def is_free(port: int) -> bool:
    with suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen()
        return True
    return False


def test_signals_reach_the_workers(house: House) -> None:
    port = free_port()
    open_to_all(house, f":127.0.0.1:{port}")
    start(house)
    count = hand_in_to_each(house, "bob@dest.test")
    wait_for(lambda: len(re.findall("deferred id=", house.log())) == count, "a first attempt of all")
    each_says(house, "reloaded ", lambda: house.signal(signal.SIGHUP))
    with Sink(port=port) as sink:
        each_says(house, "delivered id=", lambda: house.signal(signal.SIGALRM))
        sink.wait_for(count)
    assert house.stop() == 0
    assert not [pid for pid in workers(house).values() if alive(pid)]


def each_says(house: House, words: str, act: Callable[[], None]) -> None:
    after = len(house.log())
    act()
    for number in (1, 2):
        house.wait_for_log(rf"\[{number}\] .*{words}", after=after)


def test_a_worker_that_cannot_start_is_tried_again_and_not_in_a_rush(house: House) -> None:
    open_to_all(house)
    start(house)
    house.control("me", "")
    after = len(house.log())
    os.kill(workers(house)[1], signal.SIGKILL)
    house.wait_for_log(r"\[1\] .*control/me:1", after=after)
    house.wait_for_log("worker 1 ended: .*exit code 1", after=after)
    hand_in(house, "postmaster@mx.test")  # the other goes on with the old settings
    house.control("me", "mx.test\n")
    house.wait_for_log(r"\[1\] .*worker started", after=after)
    assert len(re.findall("started worker 1", house.log()[after:])) < 15
