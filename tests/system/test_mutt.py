"""mutt opens the queue as the maildirs that it is: what it shows, and that reading harms no mail."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import termios
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import FakeMx
from tests.system.waiting import PATIENCE, wait_for

SUBJECTS = ["first", "second", "third"]
SETTINGS = "set wait_key=no pipe_decode=no quit=yes delete=no move=no resolve=no sleep_time=0"


@pytest.fixture
def full_house(house: House) -> House:
    """Three messages that wait for held.test, and nobody sends them yet."""
    house.control("rcpthosts", "mx.test\nheld.test\n")
    house.control("concurrencyremote", "0\n")
    house.start()
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        for subject in SUBJECTS:
            content = f"Subject: {subject}\r\nFrom: joe@client.test\r\n\r\nhello\r\n".encode()
            assert client.mail("joe@client.test", "ann@held.test", content=content).code == 250
    return house


def mutt(house: House, *options: str) -> str:
    """What mutt pipes out of bin 1: each message in it, whole. Then it flags them, if it may write."""
    program = shutil.which("mutt") or pytest.skip("mutt is not installed (scripts/system-packages)")
    out = house.home / "piped"
    script = house.home / "pipe"
    script.write_text(f"#!/bin/sh\ncat >>{out}\n")
    script.chmod(0o755)
    numbers = range(1, len(SUBJECTS) + 1)
    flag = "" if "-R" in options else "<flag-message>"
    keys = "".join(f"<jump>{n}<enter><pipe-message>{script}<enter>{flag}" for n in numbers)
    command = [program, "-n", "-F", "/dev/null", *options, "-f", str(house.home / "queue/1")]
    command += ["-e", SETTINGS, "-e", f'push "{keys}<quit>"']
    environment = {**os.environ, "TERM": "xterm", "HOME": str(house.home), "LC_ALL": "C.UTF-8"}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        ) as process:
            os.close(theirs)
            threading.Thread(target=swallow, args=(ours,), daemon=True).start()
            try:
                assert process.wait(PATIENCE) == 0
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return out.read_text()
    finally:
        os.close(ours)


def swallow(terminal: int) -> None:
    """Its screens, which nobody looks at."""
    with suppress(OSError):
        while os.read(terminal, 65536):
            pass


def subjects_in(text: str) -> list[str]:
    return sorted(line.removeprefix("Subject: ") for line in text.splitlines() if line.startswith("Subject: "))


def test_mutt_reads_the_queue_and_leaves_it_as_it_is(full_house: House) -> None:
    before = {path: path.stat().st_mtime_ns for path in full_house.messages()}
    said = mutt(full_house, "-R")
    assert subjects_in(said) == SUBJECTS
    assert said.count("X-Qmtls-Envelope: ") == 3 and '["ann","held.test"' in said
    assert {path: path.stat().st_mtime_ns for path in full_house.messages()} == before


def test_what_mutt_has_moved_and_marked_is_delivered_once(full_house: House) -> None:
    assert subjects_in(mutt(full_house)) == SUBJECTS
    moved = full_house.messages()
    assert all(path.parent.name == "cur" and ":2," in path.name for path in moved), moved
    with FakeMx() as mx:
        full_house.control("smtproutes", f"held.test:127.0.0.1:{mx.port}\n")
        full_house.control("concurrencyremote", None)
        full_house.reload()
        mx.wait_for_messages(3)
        full_house.wait_for_empty_queue()
        assert len(mx.messages) == 3
    assert "left alone" not in full_house.log()
    assert full_house.stop() == 0


def test_the_listing_knows_what_mutt_has_marked(full_house: House) -> None:
    mutt(full_house)
    assert {tuple(row["to"]) for row in full_house.queue()} == {("ann@held.test",)}
    assert len(full_house.queue()) == 3
    wait_for(lambda: not any(":2," in path.name for path in full_house.messages()), "the marks to go")


def test_mutt_is_where_the_tests_look_for_it() -> None:
    """So that a skipped test above means that it is missing."""
    script = Path(__file__).resolve().parents[2] / "scripts/system-packages"
    assert "command -v mutt" in script.read_text()
