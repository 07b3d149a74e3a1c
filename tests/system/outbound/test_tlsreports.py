"""A day in the life of TLS reports: sessions are counted, and the report of them arrives, signed, and can be read."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from email import message_from_bytes
from pathlib import Path
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest

from qmtls.delivery.tlsreading import read_report
from qmtls.ledger.schema import read_ledger
from tests.system.house import House
from tests.system.outbound.dns import NameServer
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_hosts import dns, fresh_address, may_bind_port_25, mx_host  # noqa: F401
from tests.system.pki import Authority
from tests.system.waiting import wait_for

pytestmark = pytest.mark.skipif(not may_bind_port_25(), reason="port 25 of loopback addresses cannot be bound here")


def sessions(house: House) -> list[tuple[Any, ...]]:
    connection = read_ledger(house.home / "state/ledger.db")
    if connection is None:  # the file may be there before its tables
        return []
    with closing(connection):
        return connection.execute(
            "SELECT domain, policy_type, result, sum(sessions) FROM tls_sessions GROUP BY 1, 2, 3 ORDER BY 1, 3"
        ).fetchall()


def test_a_report(house: House, dns: NameServer, authority: Authority, tmp_path: Path) -> None:  # noqa: F811
    dns.mx("peer.test", "plain.peer.test", "mx.peer.test")
    dns.records["_smtp._tls.peer.test", "TXT"] = ['"v=TLSRPTv1; rua=mailto:tls@peer.test"']
    tls = authority.server("mx.peer.test").server_context(tmp_path / "peer.pem")
    with mx_host(dns, "mx.peer.test", tls=tls) as mx, mx_host(dns, "plain.peer.test"):
        open_to_all(house).control("dnsserver", f"{dns.address}\n")
        house.control("tlsdefault", "encrypt\n")
        house.control("tlsrpt", 'from=tlsrpt@mx.test org="Our House"\n')
        record = house.qmtls("dkim", "make", "mx.test", "sel", "--key", "ed25519").stdout
        house.start()
        hand_in(house, "bob@peer.test")
        mx.wait_for_messages()
        house.wait_for_empty_queue()
        wait_for(lambda: len(sessions(house)) == 2, "two counts in the ledger")
        counted = [
            ("peer.test", "no-policy-found", "starttls-not-supported", 1),
            ("peer.test", "no-policy-found", "success", 1),
        ]
        assert sessions(house) == counted

        connection = sqlite3.connect(house.home / "state/ledger.db")
        connection.execute("UPDATE tls_sessions SET day = day - 1")  # a night passes
        connection.commit()
        connection.close()
        said = house.qmtls("tlsrpt", "send").stdout
        assert said.splitlines()[-1] == "1 report sent"
        _, message = mx.wait_for_messages(2)
        house.wait_for_empty_queue()
        time.sleep(1.5)  # what would be counted would be written by now
        assert sessions(house) == counted  # nothing about the report itself

    report = read_report(message.content)
    assert (report.organization, report.contact) == ("Our House", "tlsrpt@mx.test")
    (policy,) = report.policies
    assert (policy.domain, policy.good, policy.failed) == ("peer.test", 1, 1)
    (detail,) = policy.details
    assert (detail.result, detail.mx) == ("starttls-not-supported", "plain.peer.test")
    assert detail.receiving_ip.startswith("127.")
    assert detail.mx_helo == "fake.test"  # what it calls itself
    assert message_from_bytes(message.content)["To"] == "<tls@peer.test>"
    (text,) = [line.split('"')[1].encode() for line in record.splitlines() if " IN TXT " in line]
    assert dkim.verify(message.content, dnsfunc=lambda name, timeout=5: text)
    (tmp_path / "report").write_bytes(message.content)
    shown = house.qmtls("tlsrpt", "show", str(tmp_path / "report"), status=1).stdout
    assert "peer.test (no-policy-found): 1 sessions good, 1 failed" in shown
