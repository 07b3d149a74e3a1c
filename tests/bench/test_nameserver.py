"""The DNS server of the benchmark: what it answers, what it keeps to itself, and how waits are counted."""

from __future__ import annotations

import time

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from bench.nameserver import HOST, NameServer, Said, rounds

MS = 1_000_000


def test_questions_side_by_side_are_one_round() -> None:
    assert rounds([], 20 * MS) == 0
    assert rounds([0, 1 * MS, 19 * MS], 20 * MS) == 1
    assert rounds([0, 1 * MS, 20 * MS, 21 * MS, 45 * MS], 20 * MS) == 3


def test_questions_are_counted_in_the_order_of_their_times() -> None:
    assert rounds([45 * MS, 0, 20 * MS], 20 * MS) == 3


def test_answers_with_delay_and_security_and_is_silent_where_it_is_told_to() -> None:
    def zone(name: str, kind: str) -> Said | None:
        if name == "hang.test":
            return None
        return Said(("127.0.0.9",), secure=True) if (name, kind) == ("a.test", "A") else Said(exists=False)

    def ask(name: str, kind: str, patience: float = 5) -> dns.message.Message:
        port = int(server.address.rpartition(":")[2])
        return dns.query.udp(dns.message.make_query(name, kind), HOST, timeout=patience, port=port)

    with NameServer(zone, delay=0.05) as server:
        began = time.monotonic()
        good = ask("A.test", "A")
        took = time.monotonic() - began
        bad = ask("b.test", "MX")
        with pytest.raises(dns.exception.Timeout):
            ask("hang.test", "A", 0.2)
    assert took >= 0.05
    assert [record.to_text() for record in good.answer[0]] == ["127.0.0.9"]
    assert good.flags & dns.flags.AD
    assert bad.rcode() == dns.rcode.NXDOMAIN and not bad.flags & dns.flags.AD
    assert [(asked.name, asked.kind) for asked in server.asked] == [
        ("a.test", "A"),
        ("b.test", "MX"),
        ("hang.test", "A"),
    ]
