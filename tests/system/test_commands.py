"""The `qmtls` command beside the service: a home from nothing, mail put in while it is down, the queue changed live."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from tests.system.client import SmtpClient, client_context
from tests.system.conftest import NewHouse
from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.waiting import wait_for

LATER = Do(b"450 4.2.0 come back tomorrow\r\n")


@pytest.fixture
def made(new_house: NewHouse) -> House:
    """A home as `qmtls init` makes it; only the port is another."""
    house = new_house(bare=True)
    house.qmtls("init", str(house.home), "--me", house.me)
    house.control("listen", f"smtp tcp:{house.port}:interface=127.0.0.1\n")
    return house


def ids(house: House) -> list[str]:
    return [row["id"] for row in house.queue()]


def test_a_home_from_nothing(made: House) -> None:
    """A client that README's two lines let in relays through a home that init made; others are refused."""
    assert made.qmtls("check").stderr == ""
    made.start()
    trust, example = made.home / "clients/ca.pem", made.home / "clients/example.pem"
    made.qmtls("cert", "request", "--email", "joe@client.test")
    made.qmtls("cert", "issue", "joe@client.test.csr")
    joe = made.home / "joe@client.test.pem"

    def rcpt(certificate: Path | None) -> str:
        with SmtpClient(made.port) as client:
            client.starttls(client_context(trust, certificate))
            client.command("MAIL FROM:<x@client.test>", 250)
            return str(client.command("RCPT TO:<ann@elsewhere.test>"))

    assert rcpt(None).endswith("; no valid cert for gatewaying")
    assert rcpt(example).startswith("250 ")
    assert rcpt(joe).endswith("not in my list of tlsclients")
    rules = made.home / "control/tlsclients"
    made.control("tlsclients", rules.read_text() + "joe@client.test\n")
    wait_for(lambda: rcpt(joe).startswith("250 "), "the new rule")


def test_mail_put_in_while_the_service_is_down(made: House) -> None:
    sent = made.qmtls("send", "--from", "joe@mx.test", "--to", "postmaster@mx.test", stdin=b"hello\n").stdout.strip()
    letter = b"From: root@mx.test\nTo: postmaster@mx.test\nBcc: postmaster\nSubject: report\n\n.\nlast\n"
    made.qmtls("sendmail", "-t", "-i", stdin=letter)
    assert sent in ids(made)
    assert len(ids(made)) == 2
    made.start()
    first, second = sorted(made.wait_for_mail(2), key=lambda message: b"Subject: report" in message)
    assert first.endswith(b"\n\nhello\n")
    assert second.endswith(b"\n\n.\nlast\n")
    assert b"Bcc" not in second
    made.wait_for_empty_queue()
    assert ids(made) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_mail_put_in_while_it_runs(made: House, workers: str) -> None:
    made.start("--workers", workers)
    for count in range(1, 4):
        made.qmtls("sendmail", "-f", "joe@mx.test", "--", "postmaster", stdin=b"Subject: x\n\nhello\n")
        made.wait_for_mail(count)
    made.wait_for_empty_queue()


def test_queue_of_a_live_service(house: House) -> None:
    house.control("rcpthosts", "dest.test\n.dest.test\n")
    with FakeMx({"RCPT": LATER}) as mx:
        house.control("smtproutes", f"dest.test:127.0.0.1:{mx.port}\n.dest.test:127.0.0.1:{mx.port}\n")
        house.start()
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            for recipients in (["ann@dest.test"], ["bob@a.dest.test", "cat@a.dest.test"], ["dan@b.dest.test"]):
                assert client.mail("joe@client.test", *recipients).code == 250
        wait_for(lambda: [row["attempts"] for row in house.queue()] == [1, 1, 1], "three first attempts")

        first, second, third = house.queue()
        assert set(first) == {"id", "from", "to", "size", "arrived", "attempts", "next", "held", "reason"}
        assert (first["from"], first["to"], first["held"]) == ("joe@client.test", ["ann@dest.test"], False)
        assert second["to"] == ["bob@a.dest.test", "cat@a.dest.test"]
        assert "450 4.2.0 come back tomorrow" in first["reason"]
        assert first["next"] > first["arrived"] + 300
        listing = house.qmtls("queue", "list", "--domain", "b.dest.test").stdout
        assert third["id"] in listing and first["id"] not in listing
        shown = json.loads(house.qmtls("queue", "show", second["id"], "--json").stdout)
        assert shown["client"] == "127.0.0.1"
        assert [event["deferred"] for event in shown["history"]] == [second["to"]]

        removed = house.qmtls("queue", "remove", third["id"]).stdout
        assert removed == f"{third['id']}: removed (<joe@client.test> to dan@b.dest.test)\n"
        assert ids(house) == [first["id"], second["id"]]
        house.qmtls("queue", "remove", third["id"], status=1)

        mx.script = {}
        retry_until_sent(house, mx, second["id"], 1)
        assert mx.messages[0].recipients == ("bob@a.dest.test", "cat@a.dest.test")
        assert ids(house) == [first["id"]]
    assert house.stop() == 0
    assert "Traceback" not in house.log()


def retry_until_sent(house: House, mx: FakeMx, id: str, count: int) -> None:
    """Orders that are given again do no harm."""

    def sent() -> bool:
        house.qmtls("queue", "retry", id, status=None)
        return len(mx.messages) >= count and id not in ids(house)

    wait_for(sent, "the retried message")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_retry_right_after_a_start(house: House, workers: str) -> None:
    """An order given in the service's first second is not overlooked."""
    house.control("rcpthosts", "dest.test\n")
    with FakeMx({"RCPT": [LATER, Do()]}) as mx:
        house.control("smtproutes", f"dest.test:127.0.0.1:{mx.port}\n")
        house.start("--workers", workers)
        with SmtpClient(house.port) as client:
            client.command("EHLO client.test", 250)
            assert client.mail("joe@client.test", "ann@dest.test").code == 250
        (waiting,) = wait_for(lambda: list(house.home.glob("queue/*/cur/*")), "the first attempt's end")
        assert (
            house.qmtls("queue", "retry", waiting.name).stdout
            == f"{waiting.name}: due now (<joe@client.test> to ann@dest.test)\n"
        )
        mx.wait_for_messages()


def test_remove_by_sender_while_it_is_down(house: House) -> None:
    house.control("concurrencyremote", "0\n")
    house.control("rcpthosts", "dest.test\n")
    house.start()
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        for sender in ("joe@client.test", "eve@client.test", "eve@client.test"):
            assert client.mail(sender, "ann@dest.test").code == 250
    assert house.stop() == 0
    assert len(ids(house)) == 3
    house.qmtls("queue", "remove", "--from", "eve@client.test")
    with FakeMx() as mx:
        house.control("smtproutes", f"dest.test:127.0.0.1:{mx.port}\n")
        house.control("concurrencyremote", None)
        house.start()
        mx.wait_for_messages()
        house.wait_for_empty_queue()
        assert [message.sender.split()[0] for message in mx.messages] == ["<joe@client.test>"]


def test_mailboxes_come_and_go(house: House, anonymous: ssl.SSLContext) -> None:
    house.start()

    def rcpt() -> int:
        with SmtpClient(house.port) as client:
            client.starttls(anonymous)
            client.command("MAIL FROM:<x@client.test>", 250)
            return client.command("RCPT TO:<ann@mx.test>").code

    assert rcpt() == 550
    house.qmtls("mailbox", "add", "ann")
    assert rcpt() == 250
    assert "ann" in house.qmtls("mailbox", "list").stdout
    house.qmtls("mailbox", "remove", "ann")
    assert rcpt() == 550
