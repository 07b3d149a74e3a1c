"""The queue as operators see it: listing, one message, retry, removal; and files that are not ours."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from qmtls.cli.output import local_time
from qmtls.smtp.address import parse_address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import Attempt, Filing
from qmtls.spool.maildir import MaildirSpool
from tests.cli.conftest import Cli

ARRIVED = float(int(time.time()) - 86_400)
REASON = "mx.b.test[192.0.2.1]: its key is not the one pinned in control/b.test.pem"


def put(
    home: Path,
    id: str,
    to: str,
    sender: str | None = "joe@a.test",
    bin: str = "1",
    held: bool = False,
    tried: bool = True,
) -> None:
    """A message for the recipients `to`; if tried, the first got it and the others wait for REASON."""
    spool = MaildirSpool(home / "queue" / bin)
    names = to.split()
    envelope = Envelope(
        reverse_path=parse_address(sender) if sender else None,
        recipients=tuple(Recipient(parse_address(name)) for name in names),
        arrival=Arrival(ARRIVED, "198.51.100.7", "client.test", "ESMTPS", "TLSv1.3 X", "joe@a.test"),
    )
    incoming = spool.begin(id, envelope)
    incoming.write(b"Subject: x\r\n\r\nhello\r\n")
    assert spool.commit([incoming]) == [None]
    if tried:
        rest = tuple(range(1, len(names)))
        attempt = Attempt(ARRIVED + 1, done=(0,), deferred=rest, reasons=tuple((n, REASON) for n in rest))
        assert spool.record([Filing(id, attempt, due=ARRIVED + 400, held=held)]) == [None]
    spool.close()


@pytest.fixture
def queue(home: Path) -> Path:
    put(home, "0001a", "first@b.test ann@b.test bob@c.test")
    put(home, "0002b", "ann@sub.b.test", sender=None, bin="inject", tried=False)
    put(home, "0003c", "x@d.test ann@d.test", sender="eve@evil.test", held=True)
    return home


def ids(cli: Cli, *arguments: str) -> list[object]:
    return [row["id"] for row in cli("queue", "list", "--json", *arguments).rows]


def test_list_json_has_the_promised_keys(cli: Cli, queue: Path) -> None:
    result = cli("queue", "list", "--json")
    assert result.status == 0
    waiting, fresh, held = result.rows
    assert waiting == {
        "id": "0001a",
        "from": "joe@a.test",
        "to": ["ann@b.test", "bob@c.test"],
        "size": 21,
        "arrived": ARRIVED,
        "attempts": 1,
        "next": ARRIVED + 400,
        "held": False,
        "reason": REASON,
    }
    assert fresh == {**fresh, "from": "", "to": ["ann@sub.b.test"], "attempts": 0, "next": ARRIVED, "reason": ""}
    assert held == {**held, "held": True, "next": None}


def test_list_for_people(cli: Cli, queue: Path) -> None:
    text = cli("queue", "list").out
    assert REASON in text
    assert "to <ann@b.test>" in text
    assert "first@b.test" not in text  # has its copy
    assert "from <>" in text
    assert "held" in text


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--from", "JOE@a.test"), ["0001a"]),
        (("--from", "@evil.test"), ["0003c"]),
        (("--from", "<>"), ["0002b"]),
        (("--to", "bob@c.test"), ["0001a"]),
        (("--to", "first@b.test"), []),
        (("--to", "@b.test"), ["0001a"]),
        (("--domain", "b.test"), ["0001a"]),
        (("--domain", ".b.test"), ["0002b"]),
        (("--domain", "D.test", "--from", "@a.test"), []),
        (("--client", "198.51.100.0/24"), ["0001a", "0002b", "0003c"]),
        (("--client", "198.51.100.8"), []),
        (("--client", "Joe@a.test"), ["0001a", "0002b", "0003c"]),
        (("--client", "client.test", "--held"), ["0003c"]),
        (("--reason", "NOT THE ONE pinned"), ["0001a", "0003c"]),
        (("--older", "1w"), []),
        (("--younger", "1w"), ["0001a", "0002b", "0003c"]),
        (("--larger", "20"), ["0001a", "0002b", "0003c"]),
        (("--larger", "1K"), []),
        (("--held",), ["0003c"]),
        (("--state", "new"), ["0002b"]),
        (("--state", "waiting"), ["0001a"]),
        (("--held", "--state", "new"), []),
    ],
)
def test_filters(cli: Cli, queue: Path, arguments: tuple[str, ...], found: list[str]) -> None:
    assert ids(cli, *arguments) == found


def test_show(cli: Cli, queue: Path) -> None:
    (row,) = cli("queue", "show", "--json", "0001a").rows
    assert row["client"] == "198.51.100.7"
    assert row["recipients"] == ["first@b.test", "ann@b.test", "bob@c.test"]
    assert row["history"] == [
        {
            "time": ARRIVED + 1,
            "event": "attempt",
            "done": ["first@b.test"],
            "failed": [],
            "deferred": ["ann@b.test", "bob@c.test"],
            "reasons": {"ann@b.test": REASON, "bob@c.test": REASON},
        }
    ]
    text = cli("queue", "show", "0001a").out
    assert "with ESMTPS from 198.51.100.7 (client.test)" in text
    assert "done      <first@b.test>" in text
    assert f"deferred  <bob@c.test>  {REASON}" in text


def waits_for_tls(home: Path, id: str, held: bool = False) -> None:
    """Its second recipient since the second attempt, its first since the third."""
    put(home, id, "ann@b.test bob@c.test", tried=False)
    spool = MaildirSpool(home / "queue" / "1")
    for n, unmet in enumerate(((), (1,), (0, 1))):
        attempt = Attempt(ARRIVED + n, deferred=(0, 1), reasons=((0, REASON), (1, REASON)), unmet=unmet)
        assert spool.record([Filing(id, attempt, due=ARRIVED + 400, held=held)]) == [None]
    spool.close()


def test_what_waits_for_tls_says_since_when_and_that_it_is_probed_for(cli: Cli, home: Path) -> None:
    waits_for_tls(home, "0004d")
    for command in (("queue", "list"), ("queue", "show", "0004d")):
        (line,) = [line for line in cli(*command).out.splitlines() if "waits for TLS" in line]
        assert f"since {local_time(ARRIVED + 1)}; a running service probes for that without mail, 5m after" in line
        assert "then up to 1h apart" in line
    (row,) = cli("queue", "show", "--json", "0004d").rows
    assert row["unmet"] == {"bob@c.test": ARRIVED + 1, "ann@b.test": ARRIVED + 2}


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ("90\n# text\n", "90s after an attempt and then up to 18m apart"),
        ("0", "control/policyretest is 0, so there are no probes"),
        ("often\n", "waits for TLS since"),
    ],
)
def test_how_often_is_what_the_file_says(cli: Cli, home: Path, knob: str, words: str) -> None:
    waits_for_tls(home, "0004d")
    (home / "control").mkdir(exist_ok=True)
    (home / "control/policyretest").write_text(knob)
    text = cli("queue", "list").out
    assert words in text
    assert ("a running service" in text) is knob.startswith("90")


def test_what_is_held_is_not_said_to_be_probed_for(cli: Cli, home: Path, queue: Path) -> None:
    waits_for_tls(home, "0004d", held=True)
    assert "waits for TLS" not in cli("queue", "list").out


def test_unknown_ids(cli: Cli, queue: Path) -> None:
    for verb in ("show", "retry", "hold", "release", "remove"):
        result = cli("queue", verb, "0001a", "nothere", "../../control/me")
        assert result.status == 1
        assert "nothere: no such message" in result.err
    assert ids(cli) == ["0002b", "0003c"]
    assert (queue / "control/me").exists()


def test_retry_makes_waiting_mail_due(cli: Cli, queue: Path) -> None:
    owner = queue / "queue/1/owner"
    owner.touch()
    os.utime(owner, (1, 1))
    result = cli("queue", "retry", "0001a", "0002b", "0003c")
    assert result.status == 0
    said = [line.partition(" (")[0] for line in result.out.splitlines()]
    assert said == ["0001a: due now", "0002b: was due already", "0003c: held"]
    spool = MaildirSpool(queue / "queue/1")
    due = {waiting.id: (waiting.due, waiting.held) for waiting in spool.scan()}
    spool.close()
    assert abs(due["0001a"][0] - time.time()) < 60
    assert due["0003c"] == (0.0, True)
    assert owner.stat().st_mtime > 1, "the owner of the bin is told"


def test_at_a_terminal_a_filter_counts_first(cli: Cli, queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmtls.cli.queuechange._at_terminal", lambda: True)
    asked = cli("queue", "remove", "--from", "@evil.test")
    assert (asked.status, asked.out, "1 message matches; nothing was changed" in asked.err) == (1, "", True)
    assert len(ids(cli)) == 3
    assert cli("queue", "remove", "--from", "@evil.test", "--yes").status == 0
    assert ids(cli) == ["0001a", "0002b"]


def test_remove_by_filter(cli: Cli, queue: Path) -> None:
    dry = cli("queue", "remove", "--from", "@evil.test", "--dry-run", "--yes")
    assert (dry.status, dry.out) == (0, "0003c: would be removed (<eve@evil.test> to ann@d.test)\n")
    assert len(ids(cli)) == 3
    assert cli("queue", "remove", "--from", "@evil.test").status == 0
    assert ids(cli) == ["0001a", "0002b"]
    assert not list((queue / "queue").rglob("0003c"))
    assert cli("queue", "remove", "--from", "@evil.test", "--yes").status == 1


@pytest.mark.parametrize("verb", ["retry", "hold", "release", "bounce", "remove"])
def test_everything_is_never_meant(cli: Cli, queue: Path, verb: str) -> None:
    assert cli("queue", verb).status == 2
    assert cli("queue", verb, "--yes").status == 2
    assert len(ids(cli)) == 3


def test_files_that_are_not_ours(cli: Cli, queue: Path) -> None:
    broken = queue / "queue/1/new/0009f"
    broken.write_text("not ours")
    (queue / "queue/1/new/UPPER.case").write_text("x")
    (queue / "queue/1/new/0008e").mkdir()
    (queue / "queue/stray").write_text("x")
    result = cli("queue", "list", "--json")
    assert result.status == 1
    assert [row["id"] for row in result.rows] == ["0001a", "0002b", "0003c"]
    for name in ("0009f", "UPPER.case", "0008e", "stray"):
        assert name in result.err
    assert broken.read_text() == "not ours"


def test_a_hostile_reason_does_not_steer_the_terminal(cli: Cli, home: Path) -> None:
    put(home, "0001a", "ann@b.test", tried=False)
    spool = MaildirSpool(home / "queue/1")
    reason = "451 \x1b[2J\r\nfake line"
    spool.record([Filing("0001a", Attempt(ARRIVED, deferred=(0,), reasons=((0, reason),)), due=ARRIVED + 1)])
    spool.close()
    for command in (("list",), ("show", "0001a")):
        text = cli("queue", *command).out
        assert "\x1b" not in text
        assert "\nfake" not in text
    assert cli("queue", "list", "--json").rows[0]["reason"] == reason


def test_an_empty_queue_and_none(cli: Cli, home: Path) -> None:
    result = cli("queue", "list")
    assert (result.status, result.out) == (0, "")
    missing = cli("--home", home / "nowhere", "queue", "list")
    assert (missing.status, "--home" in missing.err) == (1, True)
