"""A start that cannot serve as configured ends at once, with one line that says what, where and how to mend it."""

from __future__ import annotations

import os
import pwd
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.system.client import SmtpClient
from tests.system.house import ROOT, House
from tests.system.waiting import PATIENCE, is_free, wait_for

NOBODY = pwd.getpwnam("nobody")
FOREGROUND = ("-n", "--pidfile=")
DAEMON = ("--pidfile=twistd.pid",)

as_root = pytest.mark.skipif(os.getuid() != 0, reason="root only")


def no_me(house: House) -> None:
    house.control("me", None)


def no_control(house: House) -> None:
    (house.home / "control").rename(house.home / "elsewhere")


def bad_endpoint(house: House) -> None:
    house.control("listen", "# ours\nsmtp tcp:smtp\n")


def unknown_endpoint(house: House) -> None:
    house.control("listen", "smtp carrier:pigeon\n")


def bad_role(house: House) -> None:
    house.control("listen", f"mail tcp:{house.port}\n")


def bad_interface(house: House) -> None:
    house.control("listen", f"smtp tcp:{house.port}:interface=192.0.2.1\n")


def garbage_certificate(house: House) -> None:
    house.control("servercert.pem", "garbage\n")


def certificate_is_directory(house: House) -> None:
    house.control("servercert.pem", None).mkdir()


def certificate_is_broken_link(house: House) -> None:
    house.control("servercert.pem", None).symlink_to("nowhere.pem")


def open_key(house: House) -> None:
    (house.home / "control/servercert.pem").chmod(0o604)


def two_problems(house: House) -> None:
    house.control("timeoutsmtpd", "soon\n")
    house.control("tlspolicy", "dest.test\n")


def queue_is_file(house: House) -> None:
    (house.home / "queue").rmdir()
    (house.home / "queue").write_text("not a directory\n")


CASES: list[tuple[Callable[[House], None], str]] = [
    (no_me, r"control/me: does not exist; write this host's full name into it, in one line"),
    (no_control, r"/control: is no directory that can be read; .*qmtls init"),
    (bad_endpoint, r'control/listen:2: "tcp:smtp" is no server endpoint \(.*\); write for example tcp:25'),
    (unknown_endpoint, r'control/listen:1: "carrier:pigeon" is no server endpoint \(.*\); write for example tcp:25'),
    (bad_role, r"control/listen:1: 'mail tcp:\d+' is no role with an endpoint; write: smtp tcp:25"),
    (bad_interface, r"control/listen:1: cannot listen on tcp:\d+:interface=192.0.2.1: Cannot assign requested address"),
    (garbage_certificate, r"control/servercert.pem: .+; .+"),
    (certificate_is_directory, r"control/servercert.pem: .*directory"),
    (certificate_is_broken_link, r"control/servercert.pem: .*link"),
    (open_key, r"control/servercert.pem: holds a private key .*; chmod 0600 "),
    (two_problems, r"control/\w+:1: .* \(and 1 more: qmtls --home .* check\)"),
    (queue_is_file, r"/queue\S*: "),
]


def check(house: House, expected: str, twistd: Sequence[str], *arguments: str) -> None:
    done = house.try_to_start(*arguments, twistd=twistd)
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode != 0
    assert len(said) == 1, said
    assert re.match(r"(An error has occurred: ')?qmtls: ", said[0]), said
    assert re.search(expected, said[0]), said
    assert "Traceback" not in house.log()
    assert not (house.home / "twistd.pid").exists()


@pytest.mark.parametrize("twistd", [FOREGROUND, DAEMON], ids=["foreground", "daemon"])
@pytest.mark.parametrize(("spoil", "expected"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_cannot_serve(house: House, spoil: Callable[[House], None], expected: str, twistd: Sequence[str]) -> None:
    spoil(house)
    check(house, expected, twistd)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("twistd", [FOREGROUND, DAEMON], ids=["foreground", "daemon"])
def test_port_taken(house: House, twistd: Sequence[str], workers: str) -> None:
    with socket.create_server(("127.0.0.1", house.port)):
        expected = r"control/listen:1: cannot listen on tcp:\d+:interface=127.0.0.1: Address already in use; is another"
        check(house, expected, twistd, "--workers", workers)


def test_endpoint_of_the_command_line(house: House) -> None:
    check(house, r'--smtp: "nothing" is no server endpoint', FOREGROUND, "--smtp", "nothing")


def test_wrong_usage(house: House) -> None:
    done = house.try_to_start("--workers", "many")
    assert done.returncode != 0
    assert "--workers wants a number from 1 to 64, not 'many'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_daemon(house: House) -> None:
    """Detached, with a pid file; TERM ends it and takes the file away."""
    done = house.try_to_start(twistd=DAEMON)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pidfile = house.home / "twistd.pid"
    pid = int(pidfile.read_text())
    try:
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            assert client.mail("joe@client.test", "postmaster@mx.test").code == 250
        house.wait_for_mail()
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of the daemon", PATIENCE)
    assert not pidfile.exists()


@as_root
@pytest.mark.parametrize("workers", ["1", "2"])
def test_privileges_are_dropped(house: House, workers: str) -> None:
    """Bound as root, run as nobody: also the workers, and every file of the queue."""
    if workers != "1":
        nobody_runs_python()
    for above in (house.home, *house.home.parents):
        above.chmod(above.stat().st_mode | 0o011)
    for path in (house.home, *house.home.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    house.control("concurrencyremote", "0\n")
    house.control("rcpthosts", "mx.test\nheld.test\n")
    for path in (house.home / "control").iterdir():
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    port = low_port()
    house.control("listen", f"smtp tcp:{port}:interface=127.0.0.1\n")
    os.chown(house.home / "control/listen", NOBODY.pw_uid, NOBODY.pw_gid)
    house.port = port
    user = ("--uid", str(NOBODY.pw_uid), "--gid", str(NOBODY.pw_gid))
    house.start("--workers", workers, twistd=(*FOREGROUND, *user))
    with SmtpClient(port) as client:
        client.command("EHLO client.test", 250)
        assert client.mail("joe@client.test", "ann@held.test").code == 250
        assert client.mail("joe@client.test", "postmaster@mx.test").code == 250
    (held,) = wait_for(lambda: house.messages() if len(house.messages()) == 1 else None, "one message left")
    house.wait_for_mail()
    for path in (held, held.parent, held.parent.parent, *house.home.glob("queue/*/owner")):
        assert path.stat().st_uid == NOBODY.pw_uid, path
        assert path.stat().st_mode & 0o077 == 0, path
    for process in family(house.pid):
        status = Path(f"/proc/{process}/status").read_text()
        assert re.search(rf"^Uid:\s+{NOBODY.pw_uid}\s+{NOBODY.pw_uid}\s+{NOBODY.pw_uid}", status, re.MULTILINE)
        assert re.search(rf"^Gid:\s+{NOBODY.pw_gid}\s+{NOBODY.pw_gid}\s+{NOBODY.pw_gid}", status, re.MULTILINE)
    # Still able to reload what nobody may read, and to end.
    house.control("databytes", "1000\n")
    os.chown(house.home / "control/databytes", NOBODY.pw_uid, NOBODY.pw_gid)
    house.reload()
    assert house.stop() == 0


@as_root
def test_a_key_that_only_root_can_read(house: House) -> None:
    """It would serve until the first reload, and no worker could start with it."""
    for above in (house.home, *house.home.parents):
        above.chmod(above.stat().st_mode | 0o011)
    for path in (house.home, *house.home.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(house.home / "control/servercert.pem", 0, 0)
    user = ("--uid", str(NOBODY.pw_uid), "--gid", str(NOBODY.pw_gid))
    check(house, r"control/servercert\.pem: cannot be opened \(Permission denied\)", (*FOREGROUND, *user))


def nobody_runs_python() -> None:
    try:
        subprocess.run([sys.executable, "-c", "import qmtls.workermain"], cwd=ROOT, user=NOBODY.pw_uid, check=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"the user nobody may not run {sys.executable}, or not read our source")


def family(pid: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def low_port() -> int:
    """A free one below 1024, at random: other runs look for one too."""
    for port in random.sample(range(600, 1024), 424):
        if is_free(port):
            return port
    return pytest.skip("no free port below 1024")
