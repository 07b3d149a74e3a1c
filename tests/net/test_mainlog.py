"""Our lines as one event of twistd's log."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import FileLogObserver, Logger, formatEvent, globalLogPublisher
from twisted.python import log

from qmtls.net.mainlog import FLUSH_SECONDS, MainLog, never_wait_for, take_ready_text


@pytest.fixture
def file() -> Iterator[io.StringIO]:
    text = io.StringIO()
    observer = FileLogObserver(text, lambda event: f"usual: {formatEvent(event)}\n")
    globalLogPublisher.addObserver(observer)
    take_ready_text()
    yield text
    globalLogPublisher.removeObserver(observer)


def test_lines_are_one_event_with_its_text_ready(file: io.StringIO) -> None:
    clock = Clock()
    lines = MainLog(clock, lambda: "NOW")
    lines.say("one {not a field}")
    lines.pass_on("[1] NOW of a worker\n")
    assert file.getvalue() == ""
    clock.advance(FLUSH_SECONDS)
    assert file.getvalue() == "NOW one {not a field}\n[1] NOW of a worker\n"
    assert not clock.getDelayedCalls()
    Logger().info("something else")
    assert file.getvalue().endswith("usual: something else\n")


def test_whatever_is_said_is_one_line(file: io.StringIO) -> None:
    lines = MainLog(Clock(), lambda: "NOW")
    lines.say("one\r\nNOW \x1b[2Jtwo \udc80 \u00e9")
    lines.flush()
    assert file.getvalue() == "NOW one??NOW ?[2Jtwo ? \u00e9\n"


def test_what_twisted_says_of_every_socket_is_left_out(file: io.StringIO) -> None:
    for line in ("_Datagrams starting on 36052", "(UDP Port 36052 Closed)", "(TCP Port 25 Closed)"):
        log.msg(line)
    log.msg(f"Starting protocol <{__name__}>")
    assert file.getvalue() == ""
    log.msg("twistd starting up, on 25 sockets")
    Logger().info("X starting on 25")  # nobody's but ours
    assert file.getvalue() == "usual: twistd starting up, on 25 sockets\nusual: X starting on 25\n"


def test_a_flush_at_the_end(file: io.StringIO) -> None:
    clock = Clock()
    lines = MainLog(clock, lambda: "NOW")
    lines.say("last words")
    lines.flush()
    assert file.getvalue() == "NOW last words\n"
    assert not clock.getDelayedCalls()
    lines.flush()
    assert file.getvalue() == "NOW last words\n"


def test_a_pipe_no_longer_blocks() -> None:
    reading, writing = os.pipe()
    never_wait_for(writing)
    assert not os.get_blocking(writing)
    os.close(reading)
    os.close(writing)
    never_wait_for(writing)  # closed: then nothing
