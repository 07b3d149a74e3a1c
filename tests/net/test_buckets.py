"""Buckets and counts, alone and shared. Locks are per process, so the others are children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.net import buckets as module
from qmtls.net.buckets import ADDRESS_SETS, FILE, IDENTITY, RETRY_SECONDS, SIZE, WAYS, Buckets
from qmtls.net.hostfile import HEADER
from qmtls.tls.scope import Rate

DAY = Rate(700, 86400.0, "700/d")

CHILD = """
import sys, pathlib
from qmtls.net.buckets import Buckets
from qmtls.net.hostfile import HEADER
from qmtls.tls.scope import Rate
buckets = Buckets(pathlib.Path(sys.argv[1]), print)
day = Rate(700, 86400.0, "700/d")
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Child:
    """A process with the same buckets, which evaluates expressions."""

    def __init__(self, state: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()

    def result(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __call__(self, expression: str) -> str:
        self.begin(expression)
        return self.result()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def children(state: Path, number: int = 1) -> Iterator[list[Child]]:
    with ExitStack() as stack:
        found = [Child(state) for _ in range(number)]
        for child in found:
            stack.callback(child.end)
        yield found


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Bench:
    """Buckets on a clock of ours, and what they said."""

    def __init__(self, state: Path) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.file = state / FILE
        self.buckets = Buckets(state, self.said.append, self.clock)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.buckets.close()


# ---------------------------------------------------------------- rates


def test_a_bucket_gives_its_tokens_at_once_and_then_evenly(bench: Bench) -> None:
    take, rate = bench.buckets.take, Rate(3, 60.0, "3/m")
    assert [take(b"a", rate) for _ in range(5)] == [0.0, 0.0, 0.0, 20.0, 20.0]
    bench.clock.time += 19.0
    assert take(b"a", rate) == pytest.approx(1.0)
    bench.clock.time += 1.0
    assert [take(b"a", rate) for _ in range(2)] == [0.0, 20.0]
    assert take(b"b", rate) == 0.0
    bench.clock.time += 1e6
    assert [take(b"a", rate) for _ in range(4)] == [0.0, 0.0, 0.0, 20.0]


def test_several_at_once_are_taken_whole_or_not_at_all(bench: Bench) -> None:
    take, rate = bench.buckets.take, Rate(10, 10.0, "10")
    assert [take(b"a", rate, 7), take(b"a", rate, 7), take(b"a", rate, 3)] == [0.0, 4.0, 0.0]
    bench.clock.time += 100.0
    assert [take(b"a", rate, 99), take(b"a", rate)] == [0.0, 1.0]  # more than there can be is all there is


def test_what_is_given_back_can_be_taken_again_but_is_no_gain(bench: Bench) -> None:
    take, rate = bench.buckets.take, Rate(2, 10.0, "2")
    assert [take(b"a", rate), take(b"a", rate), take(b"a", rate, -1)] == [0.0, 0.0, 0.0]
    assert [take(b"a", rate), take(b"a", rate)] == [0.0, 5.0]
    for _ in range(9):
        take(b"a", rate, -1)
    assert [take(b"a", rate) for _ in range(3)] == [0.0, 0.0, 5.0]


def test_a_new_rate_for_an_old_bucket_never_waits_longer_than_itself(bench: Bench) -> None:
    slow, fast = Rate(1, 86400.0, "1/d"), Rate(2, 60.0, "2/m")
    assert bench.buckets.take(b"a", slow) == 0.0
    assert bench.buckets.take(b"a", fast) == 30.0


@given(
    count=st.integers(1, 1000),
    seconds=st.sampled_from([1.0, 60.0, 3600.0, 86400.0]),
    waits=st.lists(st.floats(0, 20000), max_size=60),
)
def test_never_more_than_the_rate_and_never_less(
    tmp_path_factory: pytest.TempPathFactory, count: int, seconds: float, waits: list[float]
) -> None:
    """Against the bucket as the books have it: a level that rises with time up to its brim."""
    bench, rate, level = Bench(tmp_path_factory.mktemp("state")), Rate(count, seconds, ""), float(count)
    for wait in waits:
        bench.clock.time += wait
        level = min(float(count), level + wait * count / seconds)
        answer = bench.buckets.take(b"a", rate)
        if level > 1.001:
            assert answer == 0.0
        elif level < 0.999:
            assert answer == pytest.approx((1 - level) * seconds / count, rel=0.01, abs=0.01)
        if answer == 0.0:
            level -= 1
    bench.buckets.close()


def test_from_very_many_addresses_the_file_stays_as_it_is_and_identities_keep_their_count(bench: Bench) -> None:
    rate = Rate(1, 86400.0, "1/d")
    assert bench.buckets.take(IDENTITY + b"rule", rate) == 0.0
    first = [b"first%d" % n for n in range(50)]
    for key in first:
        bench.buckets.take(key, rate)
    for number in range(ADDRESS_SETS * WAYS * 2):
        bench.buckets.take(number.to_bytes(4, "big"), rate)
        bench.clock.time += 0.001
    assert bench.file.stat().st_size == SIZE + HEADER
    assert bench.buckets.take(IDENTITY + b"rule", rate) > 0.0
    last = number.to_bytes(4, "big")
    assert bench.buckets.take(last, rate) > 0.0  # the newest are known
    given_way = [key for key in first if bench.buckets.take(key, rate) == 0.0]
    assert len(given_way) > len(first) / 2  # the oldest had to; where few others came by chance, some may be left
    assert bench.said == []


# ---------------------------------------------------------------- connections


def test_so_many_at_a_time(bench: Bench) -> None:
    enter, leave = bench.buckets.enter, bench.buckets.leave
    assert [enter(b"a", 2) for _ in range(3)] == [True, True, False]
    assert enter(b"b", 2)
    leave(b"a")
    assert [enter(b"a", 2) for _ in range(2)] == [True, False]
    for _ in range(5):
        leave(b"a")
    assert [enter(b"a", 2) for _ in range(3)] == [True, True, False]


def test_who_left_leaves_nothing_behind(bench: Bench) -> None:
    bench.buckets.enter(b"x", 9)
    bench.buckets.leave(b"x")
    empty = bench.file.read_bytes()[HEADER:]
    assert not any(empty)


def test_more_addresses_than_there_is_room_for_come_in_uncounted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRESENCE_SETS", 1)
    keys = [bytes([number]) for number in range(WAYS + 3)]
    assert all(bench.buckets.enter(key, 2) for key in keys)
    assert [bench.buckets.enter(key, 2) for key in keys] == [True] * len(keys)
    assert not any(bench.buckets.enter(key, 2) for key in keys)  # by ourselves we know
    for key in keys:
        bench.buckets.leave(key)
    assert all(bench.buckets.enter(key, 2) for key in keys)


# ---------------------------------------------------------------- several processes


def test_processes_agree_on_rates_and_connections(tmp_path: Path) -> None:
    with children(tmp_path, 4) as found:
        for child in found:
            child.begin('sum(buckets.take(b"a", day) == 0.0 for _ in range(400))')
        assert sum(int(child.result()) for child in found) == DAY.count
        for child in found:
            child.begin('sum(buckets.enter(b"a", 70) for _ in range(50))')
        assert sum(int(child.result()) for child in found) == 70
        for child in found:
            child.begin('[buckets.leave(b"a") for _ in range(50)] and 0')
        assert [child.result() for child in found] == ["0"] * 4
        for child in found:
            child.begin('sum(buckets.enter(b"a", 1) and (buckets.leave(b"a") or True) for _ in range(300)) >= 0')
        assert [child.result() for child in found] == ["True"] * 4
        assert found[0]('buckets.enter(b"a", 1)') == "True"
        assert found[1]('buckets.enter(b"a", 1)') == "False"


def test_the_connections_of_a_killed_process_end(tmp_path: Path, bench: Bench) -> None:
    with children(tmp_path, 2) as (first, second):
        assert first('[buckets.enter(b"a", 3) for _ in range(4)]') == "[True, True, True, False]"
        assert second('buckets.enter(b"a", 3)') == "False"
        assert not bench.buckets.enter(b"a", 3)
        first.end()
        assert second('buckets.enter(b"a", 3)') == "True"
        assert bench.buckets.enter(b"a", 3)
        second.end()
    with children(tmp_path) as (third,):
        assert third('[buckets.enter(b"a", 3) for _ in range(3)]') == "[True, True, False]"


def test_a_new_process_is_not_taken_for_the_dead_one_whose_number_it_has(tmp_path: Path, bench: Bench) -> None:
    with children(tmp_path) as (first,):
        assert first('[buckets.enter(b"a", 3) for _ in range(3)]') == "[True, True, True]"
    with children(tmp_path) as (second,):
        second('buckets.take(b"x", day)')
        assert bench.buckets.enter(b"a", 3)


def test_rates_survive_a_kill_at_any_moment(tmp_path: Path, bench: Bench) -> None:
    bench.clock.time = 0.0  # far behind: this process sees only what it does itself
    state = "[(buckets.take(b'a', day), buckets.enter(b'a', 9), buckets.leave(b'a')) for _ in iter(int, 1)]"
    for _ in range(8):
        with children(tmp_path) as (child,):
            child("0")
            child.begin(state)
            while not bench.file.exists() or not any(bench.file.read_bytes()[HEADER:]):
                pass
            os.kill(child.process.pid, signal.SIGKILL)
    with children(tmp_path) as (child,):
        assert child("sum(buckets.enter(b'a', 9) for _ in range(10))") == "9"
        child("[buckets.take(b'a', day) for _ in range(700)] and 0")
        assert float(child("buckets.take(b'a', day)")) > 0.0
    assert bench.said == []


def test_a_process_that_is_stopped_with_the_lock_stops_nobody(tmp_path: Path, bench: Bench) -> None:
    with children(tmp_path) as (child,):
        assert child("buckets.enter(b'a', 1) and buckets._file.lock()") == "True"
        assert bench.buckets.take(b"a", Rate(1, 60.0, "1/m")) == 0.0
        assert bench.buckets.take(b"a", Rate(1, 60.0, "1/m")) == 0.0  # nothing was counted
        assert bench.buckets.enter(b"b", 1)
        bench.buckets.leave(b"b")
        assert len(bench.said) == 1 and "does not go on" in bench.said[0]
        child("buckets._file.unlock()")
        assert bench.buckets.take(b"a", Rate(1, 60.0, "1/m")) == 0.0
        assert bench.buckets.take(b"a", Rate(1, 60.0, "1/m")) == 60.0


def test_without_a_number_a_process_counts_what_it_sees(tmp_path: Path, bench: Bench) -> None:
    with children(tmp_path, 2) as (first, crowd):
        first("buckets.enter(b'a', 2)")
        crowd("buckets._ready(0.0) and __import__('fcntl').lockf(buckets._file._fd, 2, 63, 1)")
        assert [bench.buckets.enter(b"a", 2) for _ in range(2)] == [True, False]
        bench.buckets.leave(b"a")
        assert bench.buckets.enter(b"a", 2)


# ---------------------------------------------------------------- the file


def as_directory(path: Path) -> None:
    path.mkdir()


def as_link(path: Path) -> None:
    path.symlink_to("elsewhere")


def as_queue(path: Path) -> None:
    os.mkfifo(path)


def with_text(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def changed_at(place: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        other = Bench(path.parent)
        other.buckets.take(b"a", DAY)
        other.buckets.close()
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    return make


@pytest.mark.parametrize(
    "make",
    [
        *(as_directory, as_link, as_queue),
        *(with_text(data) for data in (b"", b"notes\n", b"x" * (SIZE + HEADER), bytes(SIZE + HEADER))),
        *(changed_at(place) for place in (0, 20, 40, 50, 57)),
    ],
)
def test_what_is_not_ours_is_put_aside(bench: Bench, make: Callable[[Path], None]) -> None:
    make(bench.file)
    assert bench.buckets.take(b"a", Rate(1, 60.0, "1/m")) == 0.0
    assert bench.buckets.take(b"a", Rate(1, 60.0, "1/m")) == 60.0
    (line,) = bench.said
    assert line.startswith(str(bench.file)) and "put aside as buckets.bad, and begun anew" in line
    assert os.path.lexists(bench.file.with_name("buckets.bad"))
    assert bench.file.is_file() and bench.file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in bench.file.parent.iterdir()) == ["buckets", "buckets.bad"]


def test_damage_behind_the_header_costs_counts_and_nothing_else(bench: Bench) -> None:
    rate = Rate(1, 60.0, "1/m")
    bench.buckets.take(b"a", rate)
    bench.buckets.enter(b"a", 1)
    with bench.file.open("r+b") as file:
        file.seek(HEADER)
        file.write(b"\xff" * SIZE)
    for key in (b"a", b"b", IDENTITY):
        assert [bench.buckets.take(key, rate) for _ in range(2)] == [0.0, 60.0]
    assert not bench.buckets.enter(b"a", 1)
    bench.buckets.leave(b"a")
    assert bench.buckets.enter(b"a", 1)


@pytest.mark.parametrize("how", ["removed", "cut", "replaced"])
def test_a_file_that_goes_is_made_anew_and_shared_again(tmp_path: Path, bench: Bench, how: str) -> None:
    assert bench.buckets.enter(b"a", 1)
    with children(tmp_path) as (child,):
        assert child("buckets.enter(b'a', 1)") == "False"
        if how == "cut":
            os.truncate(bench.file, 100)
        else:
            bench.file.unlink()
            if how == "replaced":
                bench.file.write_text("something else")
        bench.clock.time += 2.0
        assert not bench.buckets.enter(b"a", 1)
        child("setattr(buckets, '_look_at', 0.0)")
        found = child("buckets.enter(b'a', 1)")
        while found.startswith("/"):
            found = child.result()
        assert found == "False"
        bench.buckets.leave(b"a")
        assert child("buckets.enter(b'a', 1)") == "True"


def test_a_file_of_an_earlier_boot_is_begun_anew_without_a_word(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Rate(1, 60.0, "1/m")
    bench.buckets.take(b"a", rate)
    bench.buckets.close()
    monkeypatch.setattr("qmtls.net.hostfile._boot", lambda: b"another boot now")
    assert bench.buckets.take(b"a", rate) == 0.0
    assert bench.said == []
    assert [path.name for path in bench.file.parent.iterdir()] == ["buckets"]


def test_hosts_with_one_directory_do_not_fight_for_the_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Rate(1, 1e5, "1")
    assert bench.buckets.take(b"a", rate) == 0.0
    other = Bench(bench.file.parent)
    with monkeypatch.context() as patch:
        patch.setattr("qmtls.net.hostfile._boot", lambda: b"of another host!")
        other.buckets.take(b"b", rate)
    theirs = bench.file.stat().st_ino
    bench.clock.time += 10.0
    assert bench.buckets.take(b"a", rate) > 0.0
    assert bench.file.stat().st_ino == theirs
    other.buckets.close()


def test_without_a_file_each_process_counts_for_itself(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    bench = Bench(tmp_path / "state")
    rate = Rate(1, 1e5, "1")
    assert [bench.buckets.take(b"a", rate) for _ in range(2)] == [0.0, 1e5]
    assert [bench.buckets.enter(b"a", 1) for _ in range(2)] == [True, False]
    assert len(bench.said) == 1 and "until it can be used each worker counts for itself" in bench.said[0]
    (tmp_path / "state").unlink()
    bench.clock.time += RETRY_SECONDS
    assert not bench.buckets.enter(b"a", 1)
    assert bench.file.is_file()
    assert len(bench.said) == 1
    bench.buckets.close()


def test_a_full_disk_is_no_trouble_of_mail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert bench.buckets.take(b"a", DAY) == 0.0
    assert "No space left on device" in bench.said[0]
    assert list(bench.file.parent.iterdir()) == []
