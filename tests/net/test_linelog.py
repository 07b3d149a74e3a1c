"""A log through a pipe that nobody need read."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from qmtls.net.linelog import FLUSH_SECONDS, MAX_HELD, LineLog, Stamp


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            pass


def read(fd: int) -> bytes:
    got = b""
    try:
        while data := os.read(fd, 1 << 20):
            got += data
    except BlockingIOError:
        pass
    return got


def test_lines_are_gathered(pipe: tuple[int, int]) -> None:
    clock = Clock()
    log = LineLog(clock, pipe[1], "[3] ", lambda: "NOW")
    log.say("one")
    log.say("two: \u00e9 \udc80")
    assert read(pipe[0]) == b""
    clock.advance(FLUSH_SECONDS)
    assert read(pipe[0]) == "NOW [3] one\nNOW [3] two: \u00e9 ?\n".encode()
    assert not clock.getDelayedCalls()


def test_whatever_is_said_is_one_line(pipe: tuple[int, int]) -> None:
    clock = Clock()
    log = LineLog(clock, pipe[1], stamp=lambda: "NOW")
    log.say("a\r\nNOW accepted\0\x1b[2J\x7f\x85\x9b\u2028b\u00a0\u00e9")
    clock.advance(FLUSH_SECONDS)
    assert read(pipe[0]) == "NOW a??NOW accepted??[2J????b\u00a0\u00e9\n".encode()


def test_a_log_that_nobody_reads_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    clock = Clock()
    log = LineLog(clock, pipe[1], stamp=lambda: "NOW")
    line = "x" * 1000
    for _ in range(3 * MAX_HELD // 1000):
        log.say(line)
        clock.advance(FLUSH_SECONDS)
    assert log._size <= MAX_HELD
    got = read(pipe[0])
    for _ in range(100):
        clock.advance(FLUSH_SECONDS)
        got += read(pipe[0])
    log.say("after it")
    clock.advance(FLUSH_SECONDS)
    got += read(pipe[0])
    lines = got.decode().splitlines()
    (dropped,) = [text for text in lines if "were dropped" in text]
    count = int(dropped.split()[0])
    assert count > 1000
    assert len(lines) == 3 * MAX_HELD // 1000 - count + 2
    assert all(text == f"NOW {line}" for text in lines if "x" in text)
    assert lines[-1] == "NOW after it"
    assert not clock.getDelayedCalls()


def test_a_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    clock = Clock()
    log = LineLog(clock, pipe[1])
    os.close(pipe[0])
    log.say("nobody hears it")
    clock.advance(FLUSH_SECONDS)
    log.say("nor this")
    log.flush()
    assert log._size == 0


def test_a_file_for_observers(pipe: tuple[int, int]) -> None:
    clock = Clock()
    log = LineLog(clock, pipe[1])
    log.write("as it is\n")
    log.flush()
    assert read(pipe[0]) == b"as it is\n"


def test_the_time_of_a_line() -> None:
    now = [1_800_000_000.0]
    stamp = Stamp(lambda: now[0])
    assert stamp() == "2027-01-15T08:00:00.000Z"
    now[0] += 0.5
    assert stamp() == "2027-01-15T08:00:00.500Z"
    now[0] += 60
    assert stamp() == "2027-01-15T08:01:00.500Z"
