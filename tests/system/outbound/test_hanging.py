"""A next hop that is slow, dead or mad costs its own mail time, and nobody else's."""

from __future__ import annotations

import time

import pytest

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.outbound.load import message
from tests.system.outbound.sink import Sink
from tests.system.waiting import wait_for

HANGS = {
    "before the greeting": {"connect": Do(b"", then="hang")},
    "in a greeting without end": {"connect": Do(b"220-" + b"x" * 100, then="hang")},
    "after EHLO": {"EHLO": Do(b"", then="hang")},
    "after MAIL": {"MAIL": Do(b"", then="hang")},
    "after DATA": {"DATA": Do(b"", then="hang")},
    "after the content": {"content": Do(b"", then="hang")},
}


@pytest.mark.parametrize("where", HANGS)
def test_a_host_that_hangs_stops_no_other_mail(house: House, where: str) -> None:
    with FakeMx(HANGS[where]) as hanging, Sink() as good:
        open_to_all(house, f"hang.test:127.0.0.1:{hanging.port}", f":127.0.0.1:{good.port}")
        house.control("concurrencyremote", "5\n")
        house.start()
        hand_in(house, "bob@hang.test", contents=[message(n) for n in range(250)])
        wait_for(lambda: len(hanging.sessions) == 5, "five connections that hang")
        began = time.monotonic()
        # To both: the part for the good host is delivered while the other part stands in a long line.
        hand_in(house, "bob@good.test", "bob@hang.test", contents=[message(n) for n in range(20)])
        hand_in(house, "bob@other.test", contents=[message(n) for n in range(20)])
        good.wait_for(40)
        took = time.monotonic() - began
        assert len(hanging.sessions) == 5, "more connections than concurrencyremote allows"
    print(f"40 messages passed a line of 250 in {took:.2f} s")
    assert "trouble on our side" not in house.log()


def test_a_host_that_hangs_is_given_up_after_timeoutremote(house: House) -> None:
    with FakeMx({"EHLO": [Do(b"", then="hang"), Do()]}) as mx:
        open_to_all(house, f":127.0.0.1:{mx.port}").control("timeoutremote", "1\n")
        house.start()
        hand_in(house, "bob@dest.test")
        row = wait_for_reasons(house)["bob@dest.test"]
        assert f"127.0.0.1:{mx.port} at EHLO: timed out" in row["reason"]
        house.qmtls("queue", "retry", row["id"])
        mx.wait_for_messages()


CHOKES = {
    "a line without end": {"EHLO": Do(b"250-" + b"x" * 1_000_000, then="hang")},
    "lines without end": {"connect": Do(b"220-more\r\n" * 100_000, then="hang")},
    "no number": {"connect": Do(b"hello\r\n")},
    "three letters": {"MAIL": Do(b"abc d\r\n")},
    "NUL": {"RCPT": Do(b"2\x0050 ok\r\n")},
    "an LF alone, and no more": {"EHLO": Do(b"250-ok\n", then="hang")},
    "closed in the content's reply": {"content": Do(b"25", then="close")},
    "reset after DATA": {"DATA": Do(then="reset")},
    "421 at MAIL": {"MAIL": Do(b"421 4.3.2 shutting down\r\n", then="close")},
    "421 after the content": {"content": Do(b"421 4.3.2 shutting down\r\n", then="close")},
    "1xx": {"MAIL": Do(b"150 wait\r\n", then="hang")},
    "354 to MAIL": {"MAIL": Do(b"354 go\r\n")},
    "250 to DATA": {"DATA": Do(b"250 no need\r\n")},
    "reply by single octets": {},
}


def test_nothing_that_a_host_says_loses_mail_or_returns_it(house: House) -> None:
    """One service, a host for each oddity; all of their mail waits, with a reason, and goes out when they recover."""
    hosts = {name: FakeMx(script) for name, script in CHOKES.items()}
    hosts["reply by single octets"].script = {"EHLO": Do(b"250-x\r\n250 PIPELINING\r\n", split=1)}
    domains = {f"d{n}.test": name for n, name in enumerate(CHOKES)}
    try:
        for host in hosts.values():
            host.__enter__()
        open_to_all(house, *(f"{domain}:127.0.0.1:{hosts[name].port}" for domain, name in domains.items()))
        house.control("timeoutremote", "1\n")
        house.start()
        for domain in domains:
            hand_in(house, f"bob@{domain}", sender="postmaster@mx.test")
        rows = wait_for_reasons(house, len(CHOKES) - 1)
        odd = {domains[to.partition("@")[2]]: row["reason"] for to, row in rows.items()}
        assert set(odd) == set(CHOKES) - {"reply by single octets"}
        assert not [reason for reason in odd.values() if not reason.startswith("127.0.0.1:")]
        assert not house.delivered(), "a report was sent"
        assert "may have been accepted" in odd["closed in the content's reply"]
        for host in hosts.values():
            host.script = {}
        house.qmtls("queue", "retry", "--from", "postmaster@mx.test")
        house.wait_for_empty_queue()
        assert all(host.messages for host in hosts.values())
    finally:
        for host in hosts.values():
            host.stop()
    assert "Traceback" not in house.log()
