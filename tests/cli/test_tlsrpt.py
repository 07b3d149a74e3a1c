"""TLS reports by command: those of others, and ours."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from qmtls.delivery.tlsreading import read_report
from qmtls.ledger.schema import open_ledger
from qmtls.ledger.tlsresults import (
    SessionSums,
    claim_this_day,
    date_of,
    day_of,
    domains_to_report,
    write_sessions,
)
from qmtls.spool.maildir import MaildirSpool
from qmtls.tls.results import TlsSession
from qmtls.tls.resulttypes import PolicyType, TlsResult
from tests.cli.conftest import Cli
from tests.delivery.test_tlsreading import JSON, mail
from tests.net import nameserver

YESTERDAY = day_of(time.time()) - 1
SESSION = TlsSession("mx.test", PolicyType.NONE, (), "mx", "", "", TlsResult.SUCCESS)


# ------------------------------------------------------------ those of others


def test_show(cli: Cli, tmp_path: Path) -> None:
    short = JSON.replace(b"X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED", b"odd")
    (tmp_path / "mail").write_bytes(mail(b"application/tlsrpt+gzip", gzip.compress(short)))
    shown = cli("tlsrpt", "show", "mail")
    assert shown.status == 1  # there are failures
    heading, *lines = shown.out.splitlines()
    assert heading.startswith("Company-X (sts-reporting@company-x.example): 2016-04-01T00:00:00Z to 2016-04-01T23:59:5")
    assert lines == [
        "  company-y.example (sts): 5326 sessions good, 303 failed",
        "    100 x certificate-expired at mx1.mail.company-y.example from 2001:db8:abcd:0012::1",
        "    3 x validation-failure at mx-backup.mail.company-y.example (203.0.113.58) from 198.51.100.62: odd",
    ]
    (row,) = cli("tlsrpt", "show", "--json", "mail").rows
    assert (row["domain"], row["good"], row["failed"]) == ("company-y.example", 5326, 303)
    assert [failure["result"] for failure in row["failures"]] == [  # type: ignore[attr-defined]
        "certificate-expired",
        "validation-failure",
    ]
    assert cli("tlsrpt", "show", "-", stdin=gzip.compress(short)).out == shown.out


def test_a_good_one(cli: Cli) -> None:
    report = json.loads(JSON)
    report["policies"][0]["summary"]["total-failure-session-count"] = 0
    assert cli("tlsrpt", "show", "-", stdin=json.dumps(report).encode()).status == 0


def test_nothing_steers_the_terminal(cli: Cli) -> None:
    shown = cli("tlsrpt", "show", "-", stdin=JSON.replace(b"Company-X", rb"\u001b[31m\nX").replace(b"mx1", rb"\u0007"))
    assert "\x1b" not in shown.out and "\x07" not in shown.out
    assert len(shown.out.splitlines()) == 4


def test_what_cannot_be_read_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(JSON)
    (tmp_path / "bad").write_bytes(b"\x1f\x8bgarbage")
    shown = cli("tlsrpt", "show", "bad", "nowhere", "good")
    assert shown.status == 1
    assert shown.err == (
        "qmtls tlsrpt show: bad: its compressed data is damaged\n"
        "qmtls tlsrpt show: nowhere: No such file or directory\n"
    )
    assert "company-y.example" in shown.out


# ------------------------------------------------------------ ours


@pytest.fixture
def reporting(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(nameserver.ZONE, ("_smtp._tls.mx.test.", "TXT"), ['"v=TLSRPTv1; rua=mailto:r@there.test"'])
    (home / "control/tlsrpt").write_text("from=tlsrpt@mx.test\n")
    connection = open_ledger(home / "state/ledger.db")
    sums = SessionSums(9)
    for day in (YESTERDAY, YESTERDAY - 1, YESTERDAY - 5):
        sums.add(SESSION, day)
    write_sessions(connection, sums)
    connection.close()
    return home


def queued(home: Path) -> list[bytes]:
    spool = MaildirSpool(home / "queue/inject")
    return [b"".join(spool.content(entry.id).chunks()) for entry in spool.scan()]


def run(home: Path, *words: object) -> tuple[int, list[str]]:
    """In a process of its own, which has a reactor."""
    command = [sys.executable, "-m", "qmtls.cli.main", "--home", str(home), "tlsrpt", "send", *map(str, words)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert child.stderr == ""
    return child.returncode, child.stdout.splitlines()


def test_send(reporting: Path) -> None:
    asked: nameserver.Asked = []
    with nameserver.serving(asked) as port:
        (reporting / "control/dnsserver").write_text(f"127.0.0.1:{port}\n")
        status, said = run(reporting)
        assert (status, said[-1]) == (0, "2 reports sent")
        assert ("udp", "_smtp._tls.mx.test.", "TXT") in asked
        first, _ = map(message_from_bytes, queued(reporting))
        assert (first["To"], first["TLS-Report-Domain"], first["TLS-Required"]) == ("<r@there.test>", "mx.test", "No")
        days = {read_report(content).begin[:10] for content in queued(reporting)}
        assert days == {date_of(YESTERDAY).isoformat(), date_of(YESTERDAY - 1).isoformat()}
        assert run(reporting) == (0, ["0 reports sent"])
        assert run(reporting, "--again", "--day", date_of(YESTERDAY))[1][-1] == "1 report sent"
        assert len(queued(reporting)) == 3


def test_while_the_service_is_at_it(reporting: Path) -> None:
    connection = open_ledger(reporting / "state/ledger.db")
    assert claim_this_day(connection, YESTERDAY, time.time())
    status, said = run(reporting, "--day", date_of(YESTERDAY))
    assert status == 1
    assert "another process is at it" in said[0]
    assert domains_to_report(connection, YESTERDAY) == ["mx.test"]
    connection.close()


def test_dns_that_does_not_answer(reporting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = nameserver.answer
    monkeypatch.setattr(nameserver, "answer", lambda q, *rest: _servfail(q) if b"broken" in q else answer(q, *rest))
    connection = open_ledger(reporting / "state/ledger.db")
    sums = SessionSums(9)
    sums.add(replace(SESSION, domain="broken.test"), YESTERDAY)
    write_sessions(connection, sums)
    with nameserver.serving([]) as port:
        (reporting / "control/dnsserver").write_text(f"127.0.0.1:{port}\n")
        status, said = run(reporting)
    assert status == 1
    assert [line for line in said if "not sent" in line and "broken.test" in line]
    assert said[-1] == "2 reports sent"
    assert domains_to_report(connection, YESTERDAY) == ["broken.test"]
    connection.close()


def _servfail(question: bytes) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(question))
    reply.set_rcode(dns.rcode.SERVFAIL)
    return reply.to_wire()


@pytest.mark.parametrize("day", ["tomorrow", "2026-02-30", date_of(YESTERDAY + 1)])
def test_no_such_day(cli: Cli, reporting: Path, day: object) -> None:
    assert cli("tlsrpt", "send", "--day", day).status == 2


def test_not_configured(cli: Cli, home: Path) -> None:
    told = cli("tlsrpt", "send")
    assert told.status == 1
    assert "control/tlsrpt: does not exist" in told.err
