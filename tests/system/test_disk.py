"""The disk in trouble: full, not syncing, with files on it that are not ours; and a log that nobody reads."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.waiting import wait_for

DISK_FULL = "452 4.3.1 out of disk space, try again later"
TROUBLE = "451 4.3.0 the queue cannot be written now, try again later"


@contextmanager
def small_disk(directory: Path, options: str) -> Iterator[None]:
    """A file system in memory on `directory`, gone afterwards whatever happens."""
    if os.getuid() != 0:
        pytest.skip("only root can mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def named(path: Path) -> str:
    """The log line, as a pattern, that names a file left alone: the whole name and no part of another's."""
    return rf"left alone .*[/=]{re.escape(path.name)}[: ]"


def hold(house: House) -> House:
    """What is accepted for held.test stays in the queue."""
    house.control("rcpthosts", "mx.test\nheld.test\n")
    house.control("concurrencyremote", "0\n")
    return house


def let_go(house: House, mx: FakeMx) -> None:
    house.control("smtproutes", f"held.test:127.0.0.1:{mx.port}\n")
    house.control("concurrencyremote", None)


def send(client: SmtpClient, number: int, size: int = 100) -> str:
    content = b"Subject: %d\r\n\r\n" % number + (b"x" * 98 + b"\r\n") * (size // 100)
    return str(client.mail("joe@client.test", "ann@held.test", content=content))


def subjects(mx: FakeMx) -> list[int]:
    found = [re.search(rb"^Subject: (\d+)\r$", message.content, re.MULTILINE) for message in mx.messages]
    return sorted(int(match[1]) for match in found if match)


@pytest.mark.parametrize("options", ["size=2m", "size=20m,nr_inodes=60"], ids=["space", "inodes"])
def test_full_disk(house: House, options: str) -> None:
    hold(house)
    queue = house.home / "queue"
    with small_disk(queue, options), FakeMx() as mx:
        ballast = queue / "ballast"
        ballast.mkdir()
        for n in range(20):
            (ballast / str(n)).write_bytes(b"x" * 50_000)
        house.start()
        acknowledged = []
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            for number in range(200):
                answer = send(client, number, 100 if number % 2 else 100_000)
                if answer.startswith("250 "):
                    acknowledged.append(number)
                else:
                    assert answer == DISK_FULL
            assert 1 < len(acknowledged) < 200
            assert send(client, 200, 300_000) == DISK_FULL
            shutil.rmtree(ballast)
            assert send(client, 201, 100_000).startswith("250 ")
            assert send(client, 202).startswith("250 ")
        assert not list(queue.glob("*/tmp/*"))
        house.wait_for_log(r"queue trouble client=127.0.0.1 error=.*No space left on device")
        let_go(house, mx)
        mx.wait_for_messages(len(acknowledged) + 2)
        assert subjects(mx) == [*acknowledged, 201, 202]
        house.wait_for_empty_queue()
        assert house.stop() == 0


def test_full_disk_when_outcomes_are_recorded(house: House) -> None:
    """Nobody is tried again while that cannot be written down, and nobody is forgotten, although it is killed then.

    That it goes on by itself when there is room is shown in tests/service/test_filing.py, where time is no matter.
    """
    answers = {b"good": Do(), b"slow": Do(b"450 4.2.0 later\r\n"), b"bad": Do(b"550 5.1.1 nobody\r\n")}
    recipients = [f"{name.decode()}@held.test" for name in answers]
    hold(house)
    queue = house.home / "queue"
    with small_disk(queue, "size=1m"), FakeMx({"RCPT": [*answers.values()] * 2}) as mx:
        house.start()
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            assert client.mail("postmaster@mx.test", *recipients).code == 250
        ballast = fill_up(queue)
        let_go(house, mx)
        house.reload()
        house.wait_for_log(r"queue trouble id=\S+ error=.*No space left on device")
        house.signal(signal.SIGALRM)
        house.reload()
        assert len(mx.messages) == 1 and mx.messages[0].recipients == ("good@held.test",)
        assert "report " not in house.log()
        (waits,) = house.queue()
        explained = house.qmtls("policy", "explain", waits["id"], status=1).stdout
        assert "mail waits: the disk of the queue is full, so what comes of attempts cannot" in explained
        assert "has to change: there must be room on the disk of the queue\n" in explained
        house.kill()
        ballast.unlink()
        house.start()
        house.wait_for_mail()
        mx.script = {}
        (row,) = wait_for(lambda: [row for row in house.queue() if row["to"] == ["slow@held.test"]], "slow to wait")
        house.qmtls("queue", "retry", row["id"])
        house.wait_for_empty_queue()
        (report,) = house.wait_for_mail()
        assert b"bad@held.test" in report and b"slow@held.test" not in report
        got = Counter(recipient for message in mx.messages for recipient in message.recipients)
        assert got["slow@held.test"] == 1
        assert 1 <= got["good@held.test"] <= 2, "twice at most: nobody could write that down"
    assert house.stop() == 0


def fill_up(directory: Path) -> Path:
    """To the last octet."""
    path = directory / "ballast"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


@contextmanager
def failing_syncs(house: House, when: str) -> Iterator[None]:
    """The thread syncs, and its fsync fails: `when` counts the calls of each thread, as strace does.

    What the kernel's own syncs fail with strace cannot change: tests/net/test_kernelsync.py does.
    """
    strace = shutil.which("strace") or pytest.skip("strace is not installed")
    inject = ["-e", "inject=io_submit:error=EAGAIN", "-e", f"inject=fsync:error=EIO:when={when}"]
    command = [strace, "-f", "-o", "/dev/null", *inject, "-p", str(house.pid)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()  # "strace: Process 123 attached with 4 threads"
        if "attached" not in said:
            tracer.wait()
            pytest.skip(f"strace may not trace here: {said}")
        try:
            yield
        finally:
            tracer.terminate()
            tracer.communicate()


@pytest.mark.parametrize("when", ["1+", "2+2"], ids=["files", "directories"])
def test_failed_sync(house: House, when: str) -> None:
    """No 250 for what may not be on the disk, and nothing of it is sent later."""
    hold(house).start()
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        assert send(client, 1).startswith("250 ")
        with failing_syncs(house, when):
            for number in (2, 3, 4):
                assert send(client, number) == TROUBLE
        house.wait_for_log("queue trouble client=127.0.0.1 error=.*Input/output error")
        assert send(client, 5).startswith("250 ")
    house.kill()
    with FakeMx() as mx:
        let_go(house, mx)
        house.start()
        mx.wait_for_messages(2)
        house.wait_for_empty_queue()
        assert subjects(mx) == [1, 5]


def test_files_that_are_not_ours(house: House) -> None:
    hold(house).start()
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        assert send(client, 1, 5000).startswith("250 ")
        assert send(client, 2, 5000).startswith("250 ")
    house.stop()
    real = house.messages()[0]
    whole = real.read_bytes()
    new, cur = real.parent, real.parent.parent / "cur"
    strange: dict[Path, Callable[[Path], object]] = {
        new / "0000000000000link": lambda path: path.symlink_to(real),
        new / "000000000000passwd": lambda path: path.symlink_to("/etc/passwd"),
        new / "00000000000nowhere": lambda path: path.symlink_to("nowhere"),
        new / "0000000000000000dir": lambda path: path.mkdir(),
        new / "0000000000000fifo": lambda path: os.mkfifo(path),
        new / "000000000000garbage": lambda path: path.write_bytes(os.urandom(10_000)),
        new / "00000000000000empty": lambda path: path.write_bytes(b""),
        new / "00000000truncated": lambda path: path.write_bytes(whole[:-100]),
        new / "000000000000header": lambda path: path.write_bytes(whole[:60]),
        new / "00000000000longer": lambda path: path.write_bytes(whole + b"more\r\n"),
        new / "0000000000version": lambda path: path.write_bytes(whole.replace(b'"version":1', b'"version":7')),
        new / "0000000000pickled": lambda path: path.write_bytes(b"\x80\x04\x95."),
        new / "README": lambda path: path.write_bytes(whole),
        new / "0000 blank": lambda path: path.write_bytes(whole),
        cur / "000000000000in cur": lambda path: path.write_bytes(whole),
        cur / "0000000000000cur": lambda path: path.write_bytes(b"X-Qmtls-Envelope: {}\r\n"),
        house.home / "queue/lost+found": lambda path: path.mkdir(),
        house.home / "queue/notes": lambda path: path.write_bytes(b"mine\n"),
        house.home / "queue/7": lambda path: path.write_bytes(b"no bin\n"),
    }
    for path, make in strange.items():
        make(path)
    with FakeMx() as mx:
        let_go(house, mx)
        house.start()
        mx.wait_for_messages(2)
        for path in strange:
            house.wait_for_log(named(path))
        assert subjects(mx) == [1, 2]
        # Named once each, and not again with every look.
        house.reload()
        listed = house.qmtls("queue", "list", status=1)
    for path in strange:
        assert os.path.lexists(path), path
        assert len(re.findall(named(path), house.log())) == 1, path
        assert path.name in listed.stderr or path.parent.name == "queue", path
    assert house.stop() == 0
    assert "Traceback" not in house.log()


def test_files_of_somebody_else(house: House) -> None:
    """The service runs as nobody; a message that only root can read is named, and others are delivered."""
    if os.getuid() != 0:
        pytest.skip("only root can become nobody")
    nobody = pwd.getpwnam("nobody")
    hold(house).start()
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        assert send(client, 1).startswith("250 ")
        assert send(client, 2).startswith("250 ")
    house.stop()
    for path in (house.home, *house.home.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for above in house.home.parents:
        above.chmod(above.stat().st_mode | 0o011)
    theirs, ours = house.messages()
    os.chown(theirs, 0, 0)
    os.chown(house.logfile, 0, 0)
    with FakeMx() as mx:
        let_go(house, mx)
        for path in (house.home / "control").iterdir():
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        user = ("--uid", str(nobody.pw_uid), "--gid", str(nobody.pw_gid))
        house.start(twistd=("-n", "--pidfile=", *user))
        mx.wait_for_messages()
        house.wait_for_log(named(theirs))
        wait_for(lambda: not ours.exists(), "the delivery of the other")
        assert theirs.exists()
        assert len(mx.messages) == 1
    assert house.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("reader", ["asleep", "gone"])
def test_log_that_nobody_reads(house: House, workers: str, reader: str) -> None:
    """More lines than any pipe holds: mail flows all the same."""
    read, write = os.pipe()
    foreground = ("-n", "--pidfile=", "--logfile=-")
    try:
        house.start("--workers", workers, twistd=foreground, stdout=write, stderr=subprocess.DEVNULL)
    finally:
        os.close(write)
    if reader == "gone":
        os.close(read)
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        for _ in range(30):
            client.command("MAIL FROM:<joe@client.test>", 250)
            refused = b"".join(b"RCPT TO:<%d.%s@elsewhere.test>\r\n" % (n, b"x" * 50) for n in range(300))
            client.send(refused)
            for _ in range(300):
                client.expect(553)
            client.command("RSET", 250)
    for n in range(1, 4):
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            assert client.mail("joe@client.test", "postmaster@mx.test").code == 250
        house.wait_for_mail(n)
    wait_for(lambda: not house.messages(), "an empty queue")
    assert house.stop() == 0
    if reader == "asleep":
        os.close(read)
