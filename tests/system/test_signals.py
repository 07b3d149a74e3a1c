"""TERM, HUP and ALRM, with one worker and with two."""

from __future__ import annotations

import ssl
from functools import partial
from signal import SIGALRM, SIGHUP, SIGTERM

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.waiting import wait_for

LATER = Do(b"450 4.2.0 later\r\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_term_finishes_what_is_in_flight(house: House, workers: str) -> None:
    house.control("rcpthosts", "mx.test\ndest.test\n")
    with FakeMx({"content": Do(delay=1.0)}) as mx:
        house.control("smtproutes", f"dest.test:127.0.0.1:{mx.port}\n")
        house.start("--workers", workers)
        with SmtpClient(house.port) as idle, SmtpClient(house.port) as busy, SmtpClient(house.port) as sender:
            for client in (idle, busy, sender):
                client.command("EHLO client.test", 250)
            assert sender.mail("joe@client.test", "ann@dest.test").code == 250
            busy.command("MAIL FROM:<joe@client.test>", 250)
            busy.command("RCPT TO:<postmaster@mx.test>", 250)
            busy.command("DATA", 354)
            wait_for(lambda: any(c.startswith("DATA") for c in mx.commands), "the delivery under way")
            house.signal(SIGTERM)
            assert idle.expect(421).text == "4.3.2 the service is shutting down, try again later"
            assert idle.read_to_end() == b""
            house.signal(SIGTERM)  # once more changes nothing
            busy.send(b"Subject: late\r\n\r\nx\r\n.\r\n")
            accepted = busy.expect(250).text.split()[-1]
            # What it began is finished; for new transactions it is too late.
            busy.send(b"QUIT\r\n")
            busy.read_to_end()
        (message,) = mx.wait_for_messages()
        assert house.stop() == 0
    assert len(mx.messages) == 1, message
    delivered = len(house.delivered())
    waiting = [path.name for path in house.messages()]
    assert (delivered, waiting) in ((1, []), (0, [accepted]))


def test_term_while_idle_is_quick(house: House, anonymous: ssl.SSLContext) -> None:
    house.start()
    with SmtpClient(house.port) as secure:
        secure.starttls(anonymous)
        house.signal(SIGTERM)
        assert secure.expect(421).code == 421
        assert house.stop(patience=5) == 0
    assert "Traceback" not in house.log()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_alrm_makes_waiting_mail_due(house: House, workers: str) -> None:
    house.control("rcpthosts", "mx.test\ndest.test\n")
    with FakeMx({"RCPT": LATER}) as mx:
        house.control("smtproutes", f"dest.test:127.0.0.1:{mx.port}\n")
        house.start("--workers", workers)
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            for _ in range(3):
                assert client.mail("joe@client.test", "ann@dest.test").code == 250
        wait_for(lambda: house.log().count("deferred id=") == 3, "three first attempts")
        wait_for(lambda: len(list(house.home.glob("queue/*/cur/*"))) == 3, "three waiting messages")
        assert all(row["next"] > row["arrived"] + 300 for row in house.queue())
        mx.script = {}
        house.signal(SIGALRM)
        mx.wait_for_messages(3)
    house.wait_for_empty_queue()


def test_hup_and_alrm_reach_every_worker_and_end_none(house: House) -> None:
    """Also one that is still starting: what it would be told it finds out by itself."""
    house.start("--workers", "2")
    for count in range(1, 6):
        house.control("smtpgreeting", f"mx.test {count}\n")
        house.signal(SIGALRM)
        house.signal(SIGHUP)
        expected = {f"mx.test {count} ESMTP"}
        wait_for(partial(all_greet, house, expected), "the new greeting")
    wait_for(lambda: house.log().count("worker started") == 2, "both workers")
    assert " ended" not in house.log()
    assert house.stop() == 0


def all_greet(house: House, expected: set[str]) -> bool:
    """By enough connections that each worker has some."""
    found = set()
    for _ in range(20):
        with SmtpClient(house.port, greeting=False) as client:
            found.add(client.expect(220).text)
    return found == expected
