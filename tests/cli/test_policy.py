"""`qmtls policy explain` without the network; what DNS and hosts say is in tests/system/test_explain.py."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from qmtls.cli.output import local_time
from qmtls.cli.reasons import mends_in
from qmtls.ledger.handshakes import KEPT_SECONDS, Handshake, LastHandshakes, write_handshakes
from qmtls.ledger.schema import FILE, open_ledger
from qmtls.ledger.tlsresults import SessionSums, day_of, write_sessions
from qmtls.net.stsfiles import StsFiles
from qmtls.spool.api import Attempt, Filing
from qmtls.spool.bins import INJECT
from qmtls.spool.maildir import MaildirSpool
from qmtls.tls.results import TlsSession
from qmtls.tls.resulttypes import PolicyType, TlsResult
from qmtls.tls.sts import CachedPolicy, StsMode, StsPolicy
from tests.cli.conftest import Cli


def test_every_rule_in_its_order_with_file_and_line(cli: Cli, home: Path) -> None:
    (home / "control/tlspolicy").write_text("# ours\n.there.test encrypt reason=contract\n")
    (home / "control/tlsdefault").write_text("may\n")
    result = cli("policy", "explain", "joe@a.there.test", "--host", "mx.there.test", "--offline", "--json")
    assert result.status == 0
    rules = [row for row in result.rows if row["kind"] == "rule"]
    assert [(row["what"], row["key"], row["standing"]) for row in rules] == [
        ("pin file of the domain", "a.there.test", "is not there"),
        ("pin file of the host", "mx.there.test", "is not there"),
        ("tlspolicy", "a.there.test", "is not there"),
        ("tlspolicy", ".there.test", "wins"),
        ("tlspolicy", ".test", "is not there"),
        ("notlshosts", "mx.there.test", "is not there"),
        ("tlshosts/exhaustivelist", "", "is not there"),
        ("DANE", "", "is not asked"),
        ("MTA-STS", "", "is not asked"),
        ("tlsdefault", "", "comes later"),
    ]
    assert (rules[3]["file"], rules[3]["line"]) == ("control/tlspolicy", 2)
    assert rules[3]["text"] == "TLS, whatever certificate; reason: contract"
    (demand,) = [row for row in result.rows if row["kind"] == "demand"]
    assert (demand["level"], demand["waits"]) == ("encrypt", False)


def test_a_pin_that_cannot_be_used_is_a_finding(cli: Cli, home: Path) -> None:
    (home / "control/there.test.pem").write_text("")
    result = cli("policy", "explain", "there.test", "--offline")
    assert result.status == 1
    assert "=> mail waits: pin file control/there.test.pem cannot be used" in result.out


def test_a_relay_has_its_own_line(cli: Cli, home: Path) -> None:
    (home / "control/smtproutes").write_text("there.test:gw.test:587\n")
    (home / "control/tlspolicy").write_text("[gw.test]:587 encrypt\n[gw.test] none\n")
    for what in ("there.test", "[gw.test]:587", "gw.test:587"):
        result = cli("policy", "explain", what, "--offline")
        assert result.status == 0
        assert "* control/tlspolicy:1 [gw.test]:587: wins: TLS, whatever certificate" in result.out
    assert (
        "there.test: to the relay gw.test port 587, by control/smtproutes:1"
        in cli("policy", "explain", "there.test", "--offline").out
    )


def test_a_cached_policy_has_its_age(cli: Cli, home: Path) -> None:
    now = time.time()
    policy = StsPolicy(StsMode.ENFORCE, 86_400, ("mx.there.test",))
    StsFiles(home / "state/sts").write(CachedPolicy("there.test", "7", policy, now - 7300, now - 130, now))
    result = cli("policy", "explain", "there.test", "--host", "mx.there.test", "--offline")
    assert result.status == 0
    assert "* MTA-STS there.test: wins: policy of there.test, id 7, mode enforce, for mx.there.test" in result.out
    assert "fetched 2 hours ago, its record seen 2 minutes ago" in result.out


def test_mail_that_stays_here(cli: Cli, home: Path) -> None:
    assert "its mail stays here" in cli("policy", "explain", "mx.test").out


@pytest.mark.parametrize("what", ["", "a b", "joe@", "[x", "there.test:99999"])
def test_wrong_usage(cli: Cli, home: Path, what: str) -> None:
    assert cli("policy", "explain", what, "--offline").status == 2


def test_a_message_that_was_not_tried(cli: Cli, home: Path) -> None:
    id = cli("send", "--from", "ann@mx.test", "--to", "bob@there.test", stdin=b"hello\n").out.strip()
    result = cli("policy", "explain", id, "--offline")
    assert result.status == 1
    assert f"{id}  from <ann@mx.test> to <bob@there.test>" in result.out
    assert (
        "has to change: nothing that is known: no attempt is on record yet; while the service runs, it " in result.out
    )


def test_mends_of_several_hosts() -> None:
    reason = (
        "a showed x, but y demands z; its administrator must mend that; mail waits until then; "
        "b showed x; if that key is genuine, add it to control/a.pem; mail waits until then; c: connection refused"
    )
    assert list(mends_in(reason)) == [
        "its administrator must mend that",
        "if that key is genuine, add it to control/a.pem",
    ]


@pytest.mark.parametrize(
    ("reason", "mend"),
    [
        ("DNS: the MX records of a.test cannot be looked up now (Timeout)", "DNS must answer"),
        ("the login of control/authroutes:1 for r goes; write a line `r verify` into x; mail waits until then", None),
        ("r wants no login that control/authroutes:2 has: x", "control/authroutes:2, or what the relay takes"),
        ("r does not take the login of control/authroutes:2: 535", "control/authroutes:2, or what the relay takes"),
        ("r cannot be connected to: connection refused", "somebody must take connections there"),
        ("no mail exchanger of a.test has an address (r)", "the administrator of a.test must mend its records in DNS"),
        (
            "there is no mailbox postmaster; make one: qmtls mailbox add postmaster",
            "the mailbox must be made: `qmtls mailbox add postmaster`",
        ),
        ("the queue file cannot be read: Input/output error", "the queue file must be readable"),
        ("trouble on our side", "the fault is ours, and the log of the service names it"),
    ],
)
def test_what_is_no_matter_of_certificates(reason: str, mend: str | None) -> None:
    assert list(mends_in(reason)) == [mend or "write a line `r verify` into x"]


def test_what_the_last_handshakes_showed(cli: Cli, home: Path) -> None:
    """Alike ones in one line, the newest first; also for mail to others, and from other ports none."""
    now = time.time()
    good = Handshake(
        "mx.there.test", 25, now - 60, "192.0.2.1", "there.test", True, "TLSv1.3 A B", "mx.there.test: TLSv1.3"
    )
    bad = replace(good, domain="other.test", time=now - 5, met=False, tls="", text="no TLS; mail waits until then")
    last = LastHandshakes(10)
    older = [replace(good, time=now - 90), replace(good, time=now - KEPT_SECONDS - 90)]
    for one in (*older, good, bad, replace(good, port=465), replace(good, host="x.test")):
        last.add(one)
    connection = open_ledger(home / "state" / FILE)
    write_handshakes(connection, last)
    connection.close()
    out = cli("policy", "explain", "there.test", "--host", "MX.There.test", "--offline").out
    first, second = [line for line in out.splitlines() if " handshake" in line]
    assert first == f"  last handshake, {local_time(now - 5)}, for other.test: no TLS"
    times = f"{local_time(now - 90)} to {local_time(now - 60)}"
    assert second == f"  last 2 handshakes, {times}, TLSv1.3 A B: mx.there.test: TLSv1.3"
    out = cli("policy", "explain", "other.test", "--offline").out
    assert f"  last handshake, {local_time(now - 5)}: no TLS" in out, "with whatever host"
    rows = cli("policy", "explain", "there.test", "--offline", "--json").rows
    found = [row for row in rows if row["kind"] == "handshake"]
    assert {(row["host"], row["port"]) for row in found} == {
        ("mx.there.test", 25),
        ("mx.there.test", 465),
        ("x.test", 25),
    }
    assert all(row["ok"] and row["tls"] == "TLSv1.3 A B" and row["address"] == "192.0.2.1" for row in found)


def test_what_the_sessions_for_tls_reports_came_to(cli: Cli, home: Path) -> None:
    session = TlsSession(
        "there.test", PolicyType.NONE, (), "mx.there.test", "", "", TlsResult.CERTIFICATE_EXPIRED, reason="expired"
    )
    sums = SessionSums(10)
    sums.add(session, day_of(time.time()))
    connection = open_ledger(home / "state" / FILE)
    with connection:
        write_sessions(connection, sums)
    connection.close()
    result = cli("policy", "explain", "there.test", "--offline")
    assert result.status == 0
    assert "1 session with mx.there.test failed: certificate-expired (expired)" in result.out


def test_a_message_that_is_held(cli: Cli, home: Path) -> None:
    id = cli("send", "--from", "ann@mx.test", "--to", "bob@there.test", stdin=b"hello\n").out.strip()
    assert cli("queue", "hold", id).status == 0
    result = cli("policy", "explain", id, "--offline")
    assert f"an operator holds it: `qmtls queue release {id}` lets it go" in result.out
    assert "tried again" not in result.out


def test_what_each_recipient_was_told_counts(cli: Cli, home: Path) -> None:
    """Mends of all of them, and not of the first only; and a message that is due already is not tried again then."""
    to = ("--to", "bob@there.test", "--to", "joe@there.test")
    id = cli("send", "--from", "ann@mx.test", *to, stdin=b"hello\n").out.strip()
    bin = MaildirSpool(home / "queue" / INJECT)
    reasons = ((0, "r cannot be connected to: connection refused"), (1, "the queue file cannot be read: x"))
    now = time.time()
    attempt = Attempt(now - 60, deferred=(0, 1), reasons=reasons)
    assert bin.record([Filing(id, attempt, now - 30)]) == [None]
    out = cli("policy", "explain", id, "--offline").out
    assert "has to change: somebody must take connections there\n" in out
    assert "has to change: the queue file must be readable\n" in out
    assert f"then: it is due since {local_time(now - 30)}; while the service runs, it stands in line" in out
    assert f"`qmtls queue retry {id}` ends such a rest" in out


def test_a_message_that_cannot_be_read(cli: Cli, home: Path) -> None:
    id = cli("send", "--from", "ann@mx.test", "--to", "bob@there.test", stdin=b"hello\n").out.strip()
    (home / "queue" / INJECT / "new" / id).write_bytes(b"\0")
    result = cli("policy", "explain", id, "--offline")
    assert result.status == 1
    assert f"its file in the queue cannot be read, so nobody tries it: {home}" in result.err and id in result.err
