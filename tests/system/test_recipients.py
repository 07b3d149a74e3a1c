"""Who is a recipient here, seen from outside: aliases, virtual domains, postmaster, and who is refused at RCPT."""

from __future__ import annotations

import json
from email import message_from_bytes

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import FakeMx

NOBODY = "550 5.1.1 sorry, no mailbox here by that name"


def rcpt(house: House, *recipients: str) -> list[str]:
    """What each is answered, in one transaction that is not finished."""
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        client.command("MAIL FROM:<s@client.test>", 250)
        return [str(client.command(f"RCPT TO:<{recipient}>")) for recipient in recipients]


def send(house: House, *recipients: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> None:
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        assert client.mail("s@client.test", *recipients, content=content).code == 250


def delivered_to(message: bytes) -> str:
    return str(message_from_bytes(message)["Delivered-To"])


def test_an_alias_for_people_here_and_elsewhere(house: House) -> None:
    with FakeMx() as mx:
        for user in ("joe", "ann"):
            house.mailbox(user)
        house.control("smtproutes", f":127.0.0.1:{mx.port}\n")
        house.control("aliases", "team: joe, boss,\n  far@else.test\nboss: ann, joe\njoe: joe, far@else.test\n")
        house.start()
        send(house, "Team@mx.test", "joe@mx.test", "boss@mx.test")
        (message,) = mx.wait_for_messages()
        (for_joe,), (for_ann,) = house.wait_for_mail(user="joe"), house.wait_for_mail(user="ann")
        house.wait_for_empty_queue()
        assert list(message.recipients) == ["far@else.test"]
        assert message.sender.split()[0] == "<s@client.test>"
        assert (delivered_to(for_joe), delivered_to(for_ann)) == ("joe@mx.test", "ann@mx.test")
        assert (len(house.delivered("joe")), len(house.delivered("ann")), len(mx.messages)) == (1, 1, 1)


def test_a_virtual_domain_with_a_catch_all(house: House) -> None:
    for user in ("shop", "shop-sales", "joe"):
        house.mailbox(user)
    house.control("rcpthosts", "mx.test\nshop.test\n.below.test\n")
    house.control("virtualdomains", "shop.test:shop\n.below.test:empty\njoe@x.below.test:joe\n")
    house.control("aliases", "news@shop.test: joe\n")
    house.start()
    assert rcpt(house, "any@x.below.test", "joe@x.below.test", "any@else.test") == [
        NOBODY,
        "250 2.1.5 ok",
        "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts",
    ]
    send(house, "Sales@Shop.test", "anybody@shop.test", "news@shop.test")
    for user, address in (
        ("shop-sales", "shop-sales@Shop.test"),
        ("shop", "shop-anybody@shop.test"),
        ("joe", "joe@mx.test"),
    ):
        (message,) = house.wait_for_mail(user=user)
        assert delivered_to(message) == address
    house.wait_for_empty_queue()


def test_unknown_recipients_are_refused_before_they_cost_anything(house: House) -> None:
    house.mailbox("joe")
    house.control("aliases", "gone: nobody\nhalf: nobody, joe\n")
    house.start()
    answers = rcpt(house, "nobody@mx.test", "gone@mx.test", "half@mx.test", "joe@mx.test", "joe-x@mx.test")
    assert answers == [NOBODY, NOBODY, "250 2.1.5 ok", "250 2.1.5 ok", NOBODY]
    house.mailbox("nobody")  # at once, without a reload
    assert rcpt(house, "nobody@mx.test", "gone@mx.test") == ["250 2.1.5 ok"] * 2


def test_aliases_are_read_again(house: House) -> None:
    house.mailbox("joe")
    house.start()
    assert rcpt(house, "info@mx.test") == [NOBODY]
    house.control("aliases", "info: joe\n")
    house.reload()
    assert rcpt(house, "info@mx.test") == ["250 2.1.5 ok"]
    after = len(house.log())
    house.control("aliases", "info: info2\ninfo2: info\n")
    house.wait_for_log(r"reload failed, .* control/aliases:2: closes a loop: info -> info2 -> info", after=after)
    assert rcpt(house, "info@mx.test") == ["250 2.1.5 ok"]


@pytest.mark.parametrize("name", ["postmaster", "PostMaster@mx.test", "postmaster@[127.0.0.1]", "postmaster@v.test"])
def test_postmaster_is_never_refused(house: House, name: str) -> None:
    house.control("rcpthosts", "mx.test\nv.test\n")
    house.control("virtualdomains", "v.test:nobody\n")
    mailbox = house.home / "mail/postmaster"
    mailbox.rename(house.home / "mail/joe")
    house.start()
    assert "nobody takes mail to postmaster" in house.qmtls("check", status=1).stdout
    send(house, name)
    house.wait_for_log("deferred .*make one: qmtls mailbox add postmaster")
    house.control("aliases", "postmaster: joe\n")
    house.reload()
    send(house, name)
    house.wait_for_mail(user="joe")
    house.control("aliases", None)
    house.qmtls("mailbox", "add", "postmaster")
    house.qmtls("queue", "retry", "--domain", "mx.test")
    house.wait_for_mail(user="postmaster")
    house.wait_for_empty_queue()


def test_mail_that_comes_back(house: House) -> None:
    house.mailbox("joe")
    house.mailbox("s")
    house.start()
    content = b"Delivered-To: joe@mx.test\r\nSubject: x\r\n\r\nhello\r\n"
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        assert client.mail("s@mx.test", "joe@mx.test", content=content).code == 250
    (report,) = house.wait_for_mail(user="s")
    assert b"Status: 5.4.6" in report and b"this message is looping" in report
    assert house.delivered("joe") == []


def test_percenthack_never_opens_the_relay(house: House) -> None:
    house.mailbox("joe")
    house.control("locals", "mx.test\nb.test\n")
    house.control("percenthack", "mx.test\n")
    house.start()
    assert [
        answer[:3] for answer in rcpt(house, "joe%b.test@mx.test", "ann%b.test@mx.test", "x%else.test@mx.test")
    ] == [*("250", "550", "553")]
    send(house, "joe%b.test@mx.test")
    assert delivered_to(house.wait_for_mail(user="joe")[0]) == "joe@b.test"


def test_sendmail_knows_aliases(house: House) -> None:
    house.mailbox("joe")
    house.control("aliases", "root: joe\n")
    house.start()
    house.qmtls("sendmail", "-f", "cron@mx.test", "root", stdin=b"Subject: x\n\nhello\n")
    (message,) = house.wait_for_mail(user="joe")
    assert delivered_to(message) == "joe@mx.test"


def test_check_as_scripts_read_it(house: House) -> None:
    house.control("aliases", "info: nobody\n")
    rows = [json.loads(line) for line in house.qmtls("check", "--json", status=1).stdout.splitlines()]
    assert [(row["file"], row["line"]) for row in rows if row["level"] == "error"] == [("control/aliases", 1)]
