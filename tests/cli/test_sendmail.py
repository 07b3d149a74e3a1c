"""sendmail beyond one message: DSN, the queue by its flags, other names, and SMTP on standard input."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from qmtls.cli.home import Home
from qmtls.cli.main import main
from qmtls.cli.stdinsmtp import serve
from qmtls.smtp.envelope import Envelope
from qmtls.spool.files import OsFiles
from qmtls.spool.maildir import MaildirSpool
from tests.cli.conftest import Cli
from tests.cli.test_queue import ARRIVED, put
from tests.cli.test_send import MESSAGE, paths, queued

# ---------------------------------------------------------------- one message


def test_dsn(cli: Cli, home: Path) -> None:
    line = ("sendmail", "-f", "joe@a.test", "-N", "failure,DELAY", "-R", "hdrs", "-V", "job 7+x", "ann@b.test")
    assert cli(*line, stdin=MESSAGE).status == 0
    ((envelope, _),) = queued(home)
    assert envelope.parameters == (("RET", "HDRS"), ("ENVID", "job+207+2Bx"))
    assert envelope.recipients[0].parameters == (("NOTIFY", "FAILURE,DELAY"),)


@pytest.mark.parametrize(
    "flags",
    [
        ("-FCronDaemon", "-odi", "-oem", "-oi", "-t", "-f", "root"),  # cron of Vixie and Debian
        ("-i", "-B8BITMIME", "-FCronDaemon", "-t"),  # cronie
        ("-oem", "-oi", "-t", "-v", "-G", "-U", "-O", "DeliveryMode=b", "-p", "ESMTP:host"),
        ("-ti", "-L", "tag", "-A", "m", "-X", "/dev/null", "-em"),
    ],
)
def test_flags_that_programs_give(cli: Cli, home: Path, flags: Sequence[str]) -> None:
    assert cli("sendmail", *flags, stdin=b"To: ann@b.test\n\nhello\n").status == 0
    ((envelope, _),) = queued(home)
    assert paths(envelope)[1] == ["ann@b.test"]


@pytest.mark.parametrize(
    "flags",
    [
        ("-N", "sometimes"),
        ("-N", "never,failure"),
        ("-N", "failure,failure"),
        ("-R", "half"),
        ("-V", "é"),
        ("-V", ""),
        ("-O", "DeliveryMode"),
        ("-bd",),
        ("-bt",),
        ("-q30m",),
        ("-q1h30m",),
        ("-qX1",),
        ("-qR",),
        ("-qRb test",),
    ],
)
def test_what_is_not_understood_is_wrong_usage(cli: Cli, home: Path, flags: Sequence[str]) -> None:
    result = cli("sendmail", *flags, "ann@b.test", stdin=MESSAGE)
    assert (result.status, bool(result.err)) == (os.EX_USAGE, True)
    assert not (home / "queue/inject").exists()


# ---------------------------------------------------------------- the queue


def due(home: Path) -> list[str]:
    spool = MaildirSpool(home / "queue/1")
    found = sorted(w.id for w in spool.scan() if not w.held and abs(w.due - time.time()) < 60)
    spool.close()
    return found


def test_the_queue_is_listed_and_flushed(cli: Cli, home: Path) -> None:
    put(home, "0001a", "x@b.test y@b.test")
    put(home, "0002b", "x@c.test y@c.test", sender="eve@evil.test")
    put(home, "0003c", "x@c.test y@c.test", held=True)
    assert cli("sendmail", "-bp").out == cli("queue", "list").out
    assert cli("sendmail", "-bi").status == 0
    for flags, expected in (
        (("-qRnowhere.test",), []),
        (("-qRc.test",), ["0002b"]),
        (("-qI0001a",), ["0001a"]),
        (("-qSevil.test",), ["0002b"]),
        (("-qSjoe@a.test",), ["0001a"]),
        (("-qRy@b.test",), ["0001a"]),
        (("-q",), ["0001a", "0002b"]),
    ):
        for id in ("0001a", "0002b"):
            os.utime(home / f"queue/1/cur/{id}", (ARRIVED, ARRIVED))
        result = cli("sendmail", *flags)
        assert (result.status, result.out, result.err) == (0, "", ""), flags
        assert due(home) == expected, flags


@pytest.mark.parametrize(("name", "words"), [("mailq", ()), ("sendmail", ("-bp",)), ("newaliases", ())])
def test_other_names(
    cli: Cli,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    words: tuple[str],
) -> None:
    put(home, "0001a", "x@b.test y@b.test")
    monkeypatch.setattr(sys, "argv", [f"/usr/sbin/{name}", *words])
    assert main() == 0
    assert ("0001a" in capsys.readouterr().out) == (name != "newaliases")


# ---------------------------------------------------------------- SMTP on standard input


def talk(home: Path, *said: bytes) -> list[str]:
    """The replies; everything is said at once, or piece by piece."""
    pieces, heard = list(said), bytearray()
    serve(Home(home), lambda: pieces.pop(0) if pieces else b"", heard.extend)
    return heard.decode().splitlines()


def envelopes(home: Path) -> list[Envelope]:
    return [envelope for envelope, _ in queued(home)]


SESSION = (
    b"EHLO localhost\r\nMAIL FROM:<joe@a.test> RET=HDRS\r\nRCPT TO:<ann@b.test> NOTIFY=NEVER\r\n"
    b"RCPT TO:<postmaster>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n"
)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_session(cli: Cli, home: Path, size: int) -> None:
    replies = talk(home, *(SESSION[n : n + size] for n in range(0, len(SESSION), size)))
    codes = [line[:3] for line in replies if line[3] == " "]
    assert codes == ["220", "250", "250", "250", "250", "354", "250", "221"]
    assert not any("STARTTLS" in line or "AUTH" in line for line in replies)
    ((envelope, content),) = queued(home)
    assert paths(envelope) == ("joe@a.test", ["ann@b.test", "postmaster@mx.test"])
    assert envelope.recipients[0].parameters == (("NOTIFY", "NEVER"),)
    assert envelope.parameters == (("RET", "HDRS"),)
    assert content.endswith(b"\r\n\r\n.dot\r\n")
    assert b"\r\nDate: " in content and b"\r\nMessage-ID: <" in content
    id = replies[-2].split()[-1]
    assert (home / "queue/inject/new" / id).is_file()


def test_aliases_count_in_a_session(cli: Cli, home: Path) -> None:
    (home / "control/aliases").write_text("team: ann@b.test, bob@c.test\n")
    talk(home, b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<team@mx.test>\r\nDATA\r\n\r\nx\r\n.\r\n")
    assert paths(envelopes(home)[0]) == ("", ["ann@b.test", "bob@c.test"])
    (home / "control/aliases").write_text("team\n")
    replies = talk(home, b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<team@mx.test>\r\nDATA\r\n")
    assert replies[-1].startswith("451 4.3.5") and "control/aliases:1" in replies[-1]
    assert len(envelopes(home)) == 1


def test_a_session_that_breaks_off_leaves_nothing(cli: Cli, home: Path) -> None:
    talk(home, b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n" + b"x" * 70 + b"\r\n" * 300_000)
    assert not queued(home)
    assert not list((home / "queue/inject/tmp").iterdir())


def test_a_full_disk_in_a_session(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OsFiles, "create", create)
    small = b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
    large = b"DATA\r\n\r\n" + (b"x" * 70 + b"\r\n") * 10_000 + b".\r\n"
    for content in (small, large):
        replies = talk(home, b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n" + content)
        assert any(line.startswith("452 4.3.1") for line in replies)
    monkeypatch.undo()
    assert not queued(home)


@pytest.mark.parametrize("operation", ["sync", "rename"])
def test_a_fault_of_ours_in_a_session_is_no_reply(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(OsFiles, operation, fault)
        talk(home, SESSION)
    assert not list((home / "queue/inject/new").iterdir())


def test_the_program_itself(cli: Cli, home: Path) -> None:
    command = [sys.executable, "-m", "qmtls.cli.main", "--home", str(home), "sendmail", "-bs"]
    ended = subprocess.run(command, input=SESSION, capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.endswith(b"221 2.0.0 mx.test\r\n")
    assert len(queued(home)) == 1
    assert subprocess.run([*command[:4], str(home / "no"), *command[5:]], input=b"", check=False).returncode == 78
