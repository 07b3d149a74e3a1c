"""Orders for mail in the queue: held, released, returned; in batches, by rule, and while nobody else is there."""

from __future__ import annotations

import email
import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmtls.spool.api import Attempt, Filing
from qmtls.spool.maildir import MaildirSpool
from tests.cli.conftest import Cli
from tests.cli.test_queue import REASON, ids, put, queue  # noqa: F401


def rows(cli: Cli, *more: str) -> dict[object, dict[str, object]]:
    return {row["id"]: row for row in cli("queue", "list", "--json", *more).rows}


def reports(home: Path) -> list[tuple[str, str]]:
    """Recipient and text of each message in `inject` that we made."""
    spool = MaildirSpool(home / "queue/inject")
    try:
        found = []
        for waiting in spool.scan():
            envelope = spool.envelope(waiting.id)
            if envelope.arrival.protocol == "local" and envelope.reverse_path is None:
                text = b"".join(spool.content(waiting.id).chunks()).decode()
                found.append((str(envelope.recipients[0].address), text))
        return found
    finally:
        spool.close()


def test_hold_and_release(cli: Cli, queue: Path) -> None:  # noqa: F811
    held = cli("queue", "hold", "0001a", "0002b", "0003c", "--note", "until\nMonday")
    said = [line.partition(" (")[0] for line in held.out.splitlines()]
    assert (held.status, said) == (0, ["0001a: held", "0002b: held", "0003c: was held already"])
    for id in ("0001a", "0002b"):
        assert rows(cli)[id]["held"] is True
        assert rows(cli)[id]["next"] is None
    assert str(rows(cli)["0001a"]["reason"]).endswith(f": until Monday; {REASON}")
    assert str(rows(cli)["0002b"]["reason"]).startswith("held by ")
    assert rows(cli)["0003c"]["reason"] == REASON
    (history,) = [row["history"] for row in cli("queue", "show", "--json", "0002b").rows]
    assert isinstance(history, list) and history[0]["event"] == "hold"
    assert "until Monday" in cli("queue", "show", "0002b").out
    assert not (queue / "queue/inject/new/0002b").exists()
    result = cli("queue", "release", "--held", "--yes")
    assert (result.status, result.out.count("released")) == (0, 3)
    assert all(row["held"] is False for row in rows(cli).values())
    assert rows(cli)["0001a"]["reason"] == REASON
    assert rows(cli)["0002b"]["attempts"] == 0
    again = cli("queue", "release", "0001a")
    assert "was not held" in again.out


WORKER = """
import fcntl, sys
owner = open(sys.argv[1], "r+")
fcntl.lockf(owner, fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker(queue: Path) -> Iterator[Path]:  # noqa: F811
    """Somebody owns the bin; the time of his file is long ago."""
    owner = queue / "queue/1/owner"
    owner.touch()
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(owner)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield owner
        process.communicate("")


def test_the_owner_of_the_bin_is_told(cli: Cli, worker: Path) -> None:
    for verb in ("hold", "release", "retry", "bounce", "remove"):
        os.utime(worker, (1, 1))
        assert cli("queue", verb, "0001a").status == 0
        assert worker.stat().st_mtime > 1, verb


def test_bounce_is_the_owners_work_if_there_is_one(cli: Cli, worker: Path, queue: Path) -> None:  # noqa: F811
    assert cli("queue", "bounce", "0001a").status == 0
    (row,) = cli("queue", "show", "--json", "0001a").rows
    assert row["state"] == "returning"
    assert not reports(queue)


def test_ids_on_standard_input(cli: Cli, queue: Path) -> None:  # noqa: F811
    assert cli("queue", "hold", "-", stdin=b"0001a\n\n0002b\n").status == 0
    assert set(ids(cli, "--held")) == {"0001a", "0002b", "0003c"}
    lost = cli("queue", "release", "-", stdin=b"0001a\nnothere\n")
    assert (lost.status, "nothere" in lost.err) == (1, True)
    assert cli("queue", "hold", "-", stdin=b"").status == 1


def test_many_at_once(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmtls.cli.queuechange.BATCH", 7)
    for n in range(30):
        put(home, f"{n:04}", f"u{n}@b.test v@b.test", bin=str(1 + n % 3))
    result = cli("queue", "hold", "--domain", "b.test", "--yes")
    assert (result.status, len(result.out.splitlines())) == (0, 30)
    assert cli("queue", "stat").out.splitlines()[2] == "messages held: 30"
    assert cli("queue", "remove", "--held", "--yes").status == 0
    assert cli("queue", "stat", "--json").rows == [{"messages": 0, "new": 0, "held": 0}]
    assert not list((home / "queue").rglob("log/*"))


def test_bounce_while_nobody_is_there(cli: Cli, queue: Path) -> None:  # noqa: F811
    result = cli("queue", "bounce", "0001a", "--note", "you were hacked")
    assert (result.status, result.err) == (0, "")
    ((to, text),) = reports(queue)
    assert to == "joe@a.test"
    words = "returned by the administrator before it could be delivered: you were hacked"
    plain = " ".join(text.split())
    assert words in plain
    assert "first@b.test" not in text and "ann@b.test" in text and "bob@c.test" in text
    assert email.message_from_string(text).get_content_type() == "multipart/report"
    assert "0001a" not in ids(cli)
    assert not list((queue / "queue/1").rglob("0001a"))


def test_bounce_of_fresh_and_held_mail(cli: Cli, queue: Path) -> None:  # noqa: F811
    assert cli("queue", "bounce", "0002b", "0003c").status == 0
    assert {to for to, _ in reports(queue)} == {"postmaster@mx.test", "eve@evil.test"} or {
        to for to, _ in reports(queue)
    } == {"eve@evil.test"}
    assert {"0002b", "0003c"}.isdisjoint(ids(cli))


def test_bounce_in_bulk(cli: Cli, home: Path) -> None:
    for n in range(250):
        put(home, f"{n:04}", "first@b.test v@b.test", bin="1")
    assert cli("queue", "bounce", "--domain", "b.test", "--yes").status == 0
    assert len(reports(home)) == 250
    assert cli("queue", "stat", "--json").rows[0]["messages"] == 250  # the reports


def test_bounce_without_usable_settings_is_left_to_the_service(cli: Cli, queue: Path) -> None:  # noqa: F811
    (queue / "control/tlspolicy").write_text("nonsense\n")
    result = cli("queue", "bounce", "0001a")
    assert (result.status, "control/tlspolicy:1" in result.err) == (1, True)
    (row,) = cli("queue", "show", "--json", "0001a").rows
    assert row["state"] == "returning"
    assert "is being returned" in cli("queue", "list").out
    assert " bouncing\n" in cli("queue", "list", "--format", "qread").out
    (queue / "control/tlspolicy").unlink()
    assert cli("queue", "bounce", "0001a").status == 0
    assert [to for to, _ in reports(queue)] == ["joe@a.test"]


def test_bounce_taken_back(cli: Cli, queue: Path) -> None:  # noqa: F811
    (queue / "control/tlspolicy").write_text("nonsense\n")
    cli("queue", "bounce", "0001a")
    (queue / "control/tlspolicy").unlink()
    assert "released" in cli("queue", "release", "0001a").out
    assert cli("queue", "bounce", "0003c").status == 0
    assert "0001a" in ids(cli)


def test_standing_holds_are_shown(cli: Cli, queue: Path) -> None:  # noqa: F811
    (queue / "control/holds").write_text("# x\nto=ann@b.test\ndomain=.b.test reason=moving\n")
    found = rows(cli)
    assert found["0002b"]["held"] is True
    assert str(found["0002b"]["reason"]) == "held by control/holds:3 (domain=.b.test): moving"
    assert found["0001a"]["held"] is False, "bob is not held"
    (row,) = cli("queue", "show", "--json", "0001a").rows
    assert row["holds"] == {"ann@b.test": "held by control/holds:2 (to=ann@b.test)"}
    assert "hold      <ann@b.test>  held by control/holds:2" in cli("queue", "show", "0001a").out
    assert "but held by control/holds:3" in cli("queue", "release", "0002b").out
    assert set(ids(cli, "--held")) == {"0002b", "0003c"}
    (queue / "control/holds").write_text("nonsense\n")
    broken = cli("queue", "list", "--json")
    assert (broken.status, len(broken.rows), "control/holds:1" in broken.err) == (1, 3, True)


def test_pause_and_resume(cli: Cli, queue: Path) -> None:  # noqa: F811
    holds = queue / "control/holds"
    holds.write_text("# keep this\nfrom=@x.test\n")
    assert cli("queue", "pause", "D.test", "--until", "2099-01-31", "--reason", 'the "big"\nmove').status == 0
    assert holds.read_text().splitlines()[2] == "destination=D.test until=2099-01-31 reason=\"the 'big' move\""
    assert cli("queue", "pause", "d.test").status == 0
    assert holds.read_text() == "# keep this\nfrom=@x.test\ndestination=d.test\n", "one line for each"
    assert cli("queue", "pause").out.splitlines() == ["holds:2: from=@x.test", "holds:3: destination=d.test"]
    assert [row["rule"] for row in cli("queue", "pause", "--json").rows] == ["from=@x.test", "destination=d.test"]
    assert "control/holds:3" in str(rows(cli)["0003c"]["reason"])
    assert cli("queue", "resume", "D.Test").status == 0
    assert holds.read_text() == "# keep this\nfrom=@x.test\n"
    assert cli("queue", "resume", "d.test").status == 1
    for bad in (("a b",), ("d.test", "--until", "soon"), ("@d.test",)):
        assert cli("queue", "pause", *bad).status == 2
    assert holds.read_text() == "# keep this\nfrom=@x.test\n"


@pytest.mark.parametrize("where", ["before", "behind"])
def test_parts_that_were_moved(cli: Cli, queue: Path, tmp_path: Path, where: str) -> None:  # noqa: F811
    (queue / "queue").rename(tmp_path / "q")
    (queue / "control").rename(tmp_path / "c")
    parts = ("--queue", "q", "--control", "c")
    for command in (("list", "--json"), ("hold", "0001a"), ("bounce", "0003c"), ("pause", "x.test")):
        line = (*parts, "queue", *command) if where == "before" else ("queue", *command, *parts)
        assert cli(*line).status == 0, command
    assert cli("queue", "list").status == 1
    assert (tmp_path / "c/holds").read_text() == "destination=x.test\n"


def test_orders(cli: Cli, home: Path) -> None:
    put(home, "0001a", "x@b.test y@b.test")
    put(home, "0002b", "y@b.test", tried=False)
    put(home, "0003c", "x@b.test y@b.test", held=True)
    spool = MaildirSpool(home / "queue/1")
    incoming = spool.begin("0004d", spool.envelope("0001a"))
    incoming.write(b"x" * 5000)
    spool.commit([incoming])
    spool.close()
    assert ids(cli, "--sort", "arrived") == ["0001a", "0002b", "0003c", "0004d"]
    assert ids(cli, "--sort", "next") == ["0002b", "0004d", "0001a", "0003c"]
    assert ids(cli, "--sort", "size")[0] == "0004d"
    assert set(ids(cli, "--sort", "none")) == {"0001a", "0002b", "0003c", "0004d"}


def test_as_qmail_shows_it(cli: Cli, queue: Path) -> None:  # noqa: F811
    (queue / "control/locals").write_text("b.test\n")
    lines = cli("queue", "list", "--format", "qread").out.splitlines()
    assert lines[0].endswith(" GMT  #0001a  21  <joe@a.test> ")
    assert lines[1:4] == ["  done\tlocal\tfirst@b.test", "\tlocal\tann@b.test", "\tremote\tbob@c.test"]
    assert cli("queue", "stat").out.splitlines()[:2] == [
        "messages in queue: 3",
        "messages in queue but not yet preprocessed: 1",
    ]
    assert json.loads(cli("queue", "list", "--format", "json").out.splitlines()[0])["id"] == "0001a"


def test_no_ids_on_standard_input_is_nobody_not_the_filter_alone(cli: Cli, queue: Path) -> None:  # noqa: F811
    for arguments in (("-", "--younger", "1w", "--yes"), ("-",)):
        result = cli("queue", "remove", *arguments, stdin=b"\n\n")
        assert (result.status, result.out) == (1, "")
        assert "no ids on standard input" in result.err
    assert len(ids(cli)) == 3


def test_whatever_comes_on_standard_input(cli: Cli, queue: Path) -> None:  # noqa: F811
    result = cli("queue", "hold", "-", stdin=b" 0001a \r\n\xff\x1b[2J\n\0\n0001a\n")
    assert (result.status, result.out.count(": held")) == (1, 1)
    assert result.err.count("no such message") == 2
    assert "\x1b" not in result.err


def test_a_message_that_a_mail_reader_renamed_is_found(cli: Cli, queue: Path) -> None:  # noqa: F811
    cur = queue / "queue/1/cur"
    (cur / "0001a").rename(cur / "0001a:2,S")
    shown = cli("queue", "show", "0001a")
    assert (shown.status, shown.err) == (0, "")
    (cur / "0001a").rename(cur / "0001a:2,FS")
    held = cli("queue", "hold", "0001a:2,FS", "0001a")
    assert (held.status, held.out.count(": held"), held.err) == (0, 1, "")
    assert rows(cli)["0001a"]["held"] is True


def test_an_id_that_the_filter_leaves_out_is_not_said_to_be_gone(cli: Cli, queue: Path) -> None:  # noqa: F811
    result = cli("queue", "hold", "0001a", "0002b", "--from", "joe@a.test")
    assert (result.status, result.out.count(": held")) == (1, 1)
    assert result.err == "qmtls: 0002b: is in the queue, but not what the filter says\n"


def test_a_file_that_is_cut_is_not_said_to_be_gone(cli: Cli, queue: Path) -> None:  # noqa: F811
    path = queue / "queue/1/cur/0001a"
    octets = path.read_bytes()[:-1]
    path.write_bytes(octets)
    for command in (("show",), ("hold",), ("remove", "--yes"), ("remove", "--from", "@a.test")):
        result = cli("queue", *command, "0001a")
        assert (result.status, result.out) == (1, "")
        assert "0001a: cut short" in result.err
        assert "no such message" not in result.err
    assert path.read_bytes() == octets
    alone = cli("queue", "remove", "--domain", "nobody.test", "--state", "waiting")
    assert "no message" in alone.err


@pytest.mark.parametrize(
    ("verb", "id", "said"),
    [
        ("hold", "0001a", "would be held"),
        ("hold", "0003c", "was held already"),
        ("release", "0003c", "would be released"),
        ("release", "0001a", "was not held"),
        ("retry", "0001a", "would be due"),
        ("retry", "0002b", "was due already"),
        ("retry", "0003c", "held"),
        ("bounce", "0002b", "would return to its sender"),
    ],
)
def test_a_dry_run_says_what_would_be_done(cli: Cli, queue: Path, verb: str, id: str, said: str) -> None:  # noqa: F811
    before = rows(cli)
    dry = cli("queue", verb, id, "--dry-run")
    assert (dry.status, dry.out.partition(" (")[0]) == (0, f"{id}: {said}")
    assert rows(cli) == before


def test_a_note_that_is_no_text(cli: Cli, queue: Path) -> None:  # noqa: F811
    """As a terminal of another character set sends it."""
    assert cli("queue", "hold", "0001a", "--note", "caf\udce9 \u00e9").status == 0
    assert str(rows(cli)["0001a"]["reason"]).endswith(f": caf? \u00e9; {REASON}")


def test_the_locale_has_no_letter_for_an_address(queue: Path) -> None:  # noqa: F811
    put(queue, "0004d", "ann@b.test", sender=None, tried=False)
    MaildirSpool(queue / "queue/1").record(
        [Filing("0004d", Attempt(1.0, deferred=(0,), reasons=((0, "\udce9 \u00e9 \u202e"),)), 1e9)]
    )
    done = command(queue, "list", encoding="ascii:strict")
    assert (done.returncode, "? \\xe9 ?" in done.stdout, done.stderr) == (0, True, "")
    done = command(queue, "list", encoding="utf-8:strict")
    assert (done.returncode, "? \u00e9 ?" in done.stdout, done.stderr) == (0, True, "")


def command(home: Path, *arguments: str, encoding: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | more
    return subprocess.run(
        [sys.executable, "-m", "qmtls.cli.main", "--home", home, "queue", *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        encoding="utf-8",
        check=False,
        **more,
    )


def test_a_listing_that_cannot_be_written(queue: Path) -> None:  # noqa: F811
    with Path("/dev/full").open("w") as full:
        done = command(queue, "list", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "qmtls queue list: standard output: No space left on device\n"


def test_who_reads_no_further_gets_all_done(queue: Path) -> None:  # noqa: F811
    """`qmtls queue hold … | head`: two batches, and nobody reads a word."""
    for n in range(2100):
        put(queue, f"1{n:04d}", "ann@z.test", tried=False)
    read, write = os.pipe()
    os.close(read)
    done = command(queue, "hold", "--domain", "z.test", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert command(queue, "stat", "--json").stdout == '{"messages": 2103, "new": 1, "held": 2101}\n'


def test_many_bins(queue: Path) -> None:  # noqa: F811
    """Each takes three open files."""
    for bin in range(2, 62):
        put(queue, f"2{bin:04d}", "ann@z.test", bin=str(bin), tried=False)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    done = command(queue, "list", "--domain", "z.test", "--json", preexec_fn=few)
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 60, "")


def test_the_same_id_in_two_bins(cli: Cli, queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A queue that was restored beside itself: what is said of the one is not said of the other."""
    put(queue, "0001a", "ann@e.test bob@e.test", bin="7")
    take_away = MaildirSpool.take_away
    stuck = PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    monkeypatch.setattr(
        MaildirSpool,
        "take_away",
        lambda spool, ids: dict.fromkeys(ids, stuck) if spool.name == "1" else take_away(spool, ids),
    )
    result = cli("queue", "remove", "--from", "joe@a.test")
    assert result.out == "0001a: removed (<joe@a.test> to bob@e.test)\n"
    assert "queue/1: 0001a: cannot be removed: Operation not permitted\n" in result.err


def test_a_message_that_moves_while_it_is_listed_is_named_once(
    cli: Cli,
    queue: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan = MaildirSpool.scan
    monkeypatch.setattr(MaildirSpool, "scan", lambda spool: [*scan(spool), *scan(spool)])
    assert cli("queue", "hold", "--younger", "1w").out.count("held") == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("b.test from=@a.test",),
        ("b.test", "--until", "2020-01-01"),
        ("b.test", "--until", "2999-01-01 to=@c.test"),
    ],
)
def test_a_pause_that_is_none_is_wrong_usage(cli: Cli, queue: Path, arguments: tuple[str, ...]) -> None:  # noqa: F811
    assert cli("queue", "pause", *arguments).status == 2
    assert not (queue / "control/holds").exists()


def test_the_reason_of_a_pause_is_text_or_the_service_would_not_start(cli: Cli, queue: Path) -> None:  # noqa: F811
    assert cli("queue", "pause", "b.test", "--reason", "caf\udce9 \u00e9 \x1b[2J\n").status == 0
    (rule,) = cli("queue", "pause", "--json").rows
    assert rule["reason"] == "caf? \u00e9 ?[2J"
    assert cli("check").status == 0
