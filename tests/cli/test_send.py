"""send and sendmail: what gets into the queue, and the statuses that callers rely on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qmtls.net.mailboxes import MailboxError, Mailboxes
from qmtls.smtp.envelope import Envelope
from qmtls.spool.maildir import MaildirSpool
from tests.cli.conftest import Cli

MESSAGE = b"Subject: hi\n\nhello\n"


def queued(home: Path) -> list[tuple[Envelope, bytes]]:
    spool = MaildirSpool(home / "queue/inject")
    try:
        return [(spool.envelope(w.id), b"".join(spool.content(w.id).chunks())) for w in spool.scan()]
    finally:
        spool.close()


def paths(envelope: Envelope) -> tuple[str, list[str]]:
    return str(envelope.reverse_path or ""), [str(recipient.address) for recipient in envelope.recipients]


def test_send_from_standard_input(cli: Cli, home: Path) -> None:
    result = cli("send", "--from", "joe@a.test", "--to", "ann@b.test", "--to", "<bob@c.test>", stdin=MESSAGE)
    assert result.status == 0
    ((envelope, content),) = queued(home)
    assert paths(envelope) == ("joe@a.test", ["ann@b.test", "bob@c.test"])
    assert envelope.arrival.protocol == "local"
    assert (home / "queue/inject/new" / result.out.strip()).is_file()
    head, _, body = content.partition(b"\r\n\r\n")
    assert body == b"hello\r\n"
    assert head.startswith(b"Received: by mx.test with local\r\n  id " + result.out.strip().encode())
    assert b"\r\nSubject: hi\r\nFrom: joe@a.test\r\nTo: ann@b.test, bob@c.test\r\nDate: " in head
    assert b"\r\nMessage-ID: <" in head


def test_send_a_file_with_a_subject(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"just m\xc3\xa4il\n")
    assert cli("send", "--from", "<>", "--to", "ann@b.test", "--subject", "a\nb", tmp_path / "letter").status == 0
    ((envelope, content),) = queued(home)
    assert envelope.reverse_path is None
    assert envelope.body == "8BITMIME"
    assert b"\r\nSubject: a b\r\n" in content
    assert b"\r\nFrom: postmaster@mx.test\r\n" in content


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--from", "joe@a.test"), 2),
        (("--to", "ann@b.test"), 2),
        (("--from", "joe@a.test", "--to", "not an address"), 2),
        (("--from", "joe@", "--to", "ann@b.test"), 2),
        (("--from", "joe@a.test", "--to", "ann@b.test", "missing-file"), 1),
        (("--from", "joe@a.test", "--to", "ann@b.test", "--unknown"), 2),
    ],
)
def test_send_refuses(cli: Cli, home: Path, arguments: tuple[str, ...], status: int) -> None:
    result = cli("send", *arguments, stdin=MESSAGE)
    assert result.status == status
    assert result.err
    assert not (home / "queue/inject").exists() or not queued(home)


def test_send_without_a_home(cli: Cli) -> None:
    result = cli("send", "--from", "a@b.test", "--to", "a@b.test", stdin=MESSAGE)
    assert (result.status, "qmtls init" in result.err) == (1, True)


def test_sendmail_with_recipients(cli: Cli, home: Path) -> None:
    text = MESSAGE + b".\nbehind\n"
    assert cli("sendmail", "-f", "joe@a.test", "-FJoe Doe", "--", "ann@b.test", "root", stdin=text).status == 0
    ((envelope, content),) = queued(home)
    assert paths(envelope) == ("joe@a.test", ["ann@b.test", "root@mx.test"])
    assert content.endswith(b"\r\n\r\nhello\r\n")
    assert b"\r\nFrom: Joe Doe <joe@a.test>\r\n" in content


@pytest.mark.parametrize("flag", ["-i", "-oi"])
def test_sendmail_with_a_dot_inside(cli: Cli, home: Path, flag: str) -> None:
    assert cli("sendmail", flag, "-fjoe@a.test", "ann@b.test", stdin=MESSAGE + b".\nbehind\n").status == 0
    ((_, content),) = queued(home)
    assert content.endswith(b"hello\r\n.\r\nbehind\r\n")


def test_sendmail_takes_recipients_from_the_header(cli: Cli, home: Path) -> None:
    text = b"To: ann@b.test\nBcc: hidden@c.test\n\nhello\n"
    assert cli("sendmail", "-ti", "-oem", "-f", "<>", "also@d.test", stdin=text).status == 0
    ((envelope, content),) = queued(home)
    assert paths(envelope) == ("", ["also@d.test", "ann@b.test", "hidden@c.test"])
    assert b"hidden" not in content


@pytest.mark.parametrize("arguments", [("sendmail", "-f"), ("send", "--from")])
def test_a_reverse_path_for_each_recipient(cli: Cli, home: Path, arguments: tuple[str, ...]) -> None:
    to = ("ann@b.test",) if arguments[0] == "sendmail" else ("--to", "ann@b.test")
    assert cli(*arguments, "list-@a.test-@[]", *to, stdin=MESSAGE).status == 0
    ((envelope, content),) = queued(home)
    assert envelope.reverse_path is not None
    assert (envelope.reverse_path.local_part, envelope.reverse_path.domain) == ("list-@a.test-", "[]")
    assert b"From: list-@a.test\r\n" in content


def test_sendmail_names_the_caller(cli: Cli, home: Path) -> None:
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    assert cli("sendmail", "ann@b.test", stdin=MESSAGE).status == 0
    ((envelope, _),) = queued(home)
    assert paths(envelope)[0] == f"{name}@mx.test"
    assert envelope.arrival.identity == name


@pytest.mark.parametrize(
    ("arguments", "text", "status"),
    [
        ((), MESSAGE, os.EX_USAGE),
        (("-Z", "ann@b.test"), MESSAGE, os.EX_USAGE),
        (("-bd",), MESSAGE, os.EX_USAGE),
        (("--unknown", "ann@b.test"), MESSAGE, os.EX_USAGE),
        (("-t",), b"To: ann@b.test bob@c.test\n\nx\n", os.EX_DATAERR),
        (("-t",), b"Subject: nobody\n\nx\n", os.EX_NOUSER),
        (("a b@c.test",), MESSAGE, os.EX_NOUSER),
        (("-f", "a@@b", "ann@b.test"), MESSAGE, os.EX_NOUSER),
        (("-f", "a b@c-@[]", "ann@b.test"), MESSAGE, os.EX_NOUSER),
    ],
)
def test_sendmail_statuses(cli: Cli, home: Path, arguments: tuple[str, ...], text: bytes, status: int) -> None:
    result = cli("sendmail", *arguments, stdin=text)
    assert result.status == status
    assert result.err
    assert not (home / "queue/inject").exists() or not queued(home)


def test_sendmail_without_a_usable_home(cli: Cli, tmp_path: Path) -> None:
    assert cli("sendmail", "ann@b.test", stdin=MESSAGE).status == os.EX_CONFIG
    (tmp_path / "home/control").mkdir(parents=True)
    (tmp_path / "home/control/me").write_text("mx.test\n")
    (tmp_path / "home/queue").write_text("not a directory")
    assert cli("sendmail", "ann@b.test", stdin=MESSAGE).status == os.EX_CANTCREAT


def test_a_full_disk_is_temporary(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    cli("send", "--from", "a@b.test", "--to", "a@b.test", stdin=MESSAGE)  # makes the bin
    monkeypatch.setattr(os, "fsync", fsync)
    assert cli("sendmail", "ann@b.test", stdin=MESSAGE).status == os.EX_TEMPFAIL
    assert cli("send", "--from", "a@b.test", "--to", "a@b.test", stdin=MESSAGE).status == 1
    monkeypatch.undo()
    assert len(queued(home)) == 1


def test_aliases_count_for_mail_made_here_too(cli: Cli, home: Path) -> None:
    (home / "control/aliases").write_text("root: postmaster, ops@else.test\nteam: root, ann@else.test\ngone: nobody\n")
    (home / "control/virtualdomains").write_text("v.test:postmaster\n")
    assert cli("sendmail", "root", "team", "gone", "x@V.test", "Postmaster", stdin=MESSAGE).status == 0
    assert cli("send", "--from", "joe@a.test", "--to", "team@mx.test", stdin=MESSAGE).status == 0
    expected = [
        ["postmaster@mx.test", "ops@else.test", "ann@else.test", "gone@mx.test", "x@V.test", "Postmaster@mx.test"],
        ["ann@else.test", "postmaster@mx.test", "ops@else.test"],
    ]
    found = queued(home)
    assert sorted(paths(envelope)[1] for envelope, _ in found) == sorted(expected)
    assert any(b"\r\nTo: team@mx.test\r\n" in content for _, content in found)  # the header keeps what was written


def test_the_domain_of_bare_names(cli: Cli, home: Path) -> None:
    (home / "control/envnoathost").write_text("else.test\n")
    assert cli("sendmail", "-f", "joe", "root", stdin=MESSAGE).status == 0
    assert paths(queued(home)[0][0]) == ("joe@mx.test", ["root@else.test"])


def test_a_bad_alias_file_is_temporary(cli: Cli, home: Path) -> None:
    (home / "control/aliases").write_text("root\n")
    for command, status in ((("sendmail", "ann"), 75), (("send", "--from", "a@b.test", "--to", "ann"), 1)):
        result = cli(*command, stdin=MESSAGE)
        assert (result.status, "control/aliases:1" in result.err) == (status, True)
    assert not (home / "queue/inject").exists()


def test_mailboxes_that_cannot_be_looked_at_are_no_reason(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exists(*_: object) -> bool:
        raise MailboxError("Permission denied")

    monkeypatch.setattr(Mailboxes, "exists", exists)
    (home / "control/aliases").write_text("root: ann, bob\n")
    assert cli("sendmail", "root", stdin=MESSAGE).status == 0
    assert paths(queued(home)[0][0])[1] == ["ann@mx.test", "bob@mx.test"]
