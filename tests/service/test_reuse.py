"""A channel that is used again: what goes before the next MAIL, and under which demand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from qmtls.service.destination import IDLE_SECONDS
from tests.net import certs
from tests.net.hosts import Answer, Host
from tests.service.office import Office, taken, verbs

PIPELINING = ("there", "PIPELINING", "8BITMIME")
ONE_BY_ONE = ("there", "8BITMIME")


def begins_clean(said: list[str], refused: str) -> bool:
    """Before each MAIL but the first the server has no transaction open: content ended, RSET, or MAIL was refused."""
    starts = [n for n, verb in enumerate(said) if verb == "MAIL"]
    between = [said[a + 1 : b] for a, b in pairwise(starts)]
    return all(refused == "MAIL" or "." in part or "RSET" in part for part in between)


@pytest.mark.parametrize("ehlo", [PIPELINING, ONE_BY_ONE])
@pytest.mark.parametrize("reply", ["450 4.2.0 later", "550 5.1.1 no"])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_after_an_error_a_transaction_begins_anew(office: Office, ehlo: tuple[str, ...], reply: str, verb: str) -> None:
    office.host("mx.here.example")
    times = [0]

    def answer(*_: object) -> str:
        times[0] += 1
        return reply if times[0] % 2 else ""

    def behind(*_: object) -> str:
        return "503 5.5.1 no MAIL" if verb == "MAIL" and times[0] % 2 else ""

    replies: dict[str, Answer] = {"RCPT": behind, "DATA": behind, verb: answer}
    host = office.host("mx.a.example", Host(ehlo=ehlo, replies=replies))
    for n in range(6):
        office.post(f"{n}@a.example")
        office.run()
    assert len(host.visits) == 1, "an answer to a message is no reason to close"
    assert begins_clean(host.said(), verb)
    assert taken(host) == [f"{n}@a.example" for n in (1, 3, 5)]
    assert all(len(mail.recipients) == 1 for mail in host.mail), "nobody of another transaction"


@pytest.mark.parametrize("ehlo", [PIPELINING, ONE_BY_ONE])
def test_one_recipient_of_several_is_refused(office: Office, ehlo: tuple[str, ...]) -> None:
    office.host("mx.here.example")
    host = office.host(
        "mx.a.example", Host(ehlo=ehlo, replies={"RCPT": lambda _, line: "550 5.1.1 no" if "<bad" in line else ""})
    )
    for n in range(4):
        office.post(f"{n}@a.example", f"bad{n}@a.example")
        office.run()
    assert len(host.visits) == 1
    assert begins_clean(host.said(), "RCPT")
    assert [mail.recipients for mail in host.mail] == [[f"{n}@a.example"] for n in range(4)]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_after_nonsense_or_421_the_channel_is_closed(office: Office, verb: str) -> None:
    for reply in ("421 4.3.2 bye", "what?", "999 odd"):
        host = Host(replies={verb: reply})
        office.host("mx.a.example", host, ip="192.0.2.9")
        office.post("x@a.example")
        office.run()
        office.pass_time(1)
        assert all(visit.verbs.count("MAIL") == 1 for visit in host.visits), (reply, verbs(host))
        assert host.visits[0].lost
        office.load({})
        office.relayer.reloaded()


def test_mail_under_different_demands_goes_over_different_channels(office: Office) -> None:
    """The messages' own: REQUIRETLS, and TLS-Required: no."""
    host = office.host("mx.a.example", Host(certs.server("mx.a.example"), ehlo=(*PIPELINING, "REQUIRETLS")))
    office.names.secure |= {"a.example", "mx.a.example"}
    for _ in range(3):
        office.post("plain@a.example")
        office.post("optional@a.example", tls_optional=True)
        office.post("guarded@a.example", requiretls=True)
        office.run()
    for visit in host.visits:
        kinds = {line[line.index("<") + 1 :].partition("@")[0] for line in visit.lines if line.startswith("RCPT")}
        assert len(kinds) <= 1
    assert taken(host).count("plain@a.example") == 3
    assert taken(host).count("optional@a.example") == 3


def test_a_channel_waits_so_long_for_the_next_message_and_no_longer(tmp_path: Path) -> None:
    office = Office(tmp_path)
    host = office.host("mx.a.example")
    for n in range(3):
        office.post(f"{n}@a.example")
        office.run()
        office.pass_time(IDLE_SECONDS - 0.5, 0.5)
    assert len(host.visits) == 1
    office.pass_time(1, 0.5)
    assert host.said()[-1] == "QUIT"
    office.post("3@a.example")
    office.run()
    assert len(host.visits) == 2


@pytest.mark.parametrize("most", [1, 7, 100])
def test_many_recipients_of_one_destination_go_in_one_transaction(office: Office, most: int) -> None:
    """As many as the server says that it takes (RFC 9422)."""
    host = office.host("mx.a.example", Host(ehlo=(*PIPELINING, f"LIMITS RCPTMAX={most}")))
    office.post(*(f"{n}@a.example" for n in range(100)))
    office.run()
    assert [len(mail.recipients) for mail in host.mail] == [most] * (100 // most) + [100 % most] * bool(100 % most)
    assert len(host.visits) == 1


def test_a_message_on_an_open_channel_adds_nothing_to_the_history(office: Office) -> None:
    host = office.host("mx.a.example", Host(certs.server("mx.a.example")))
    for n in range(10):
        office.post(f"{n}@a.example")
        office.run()
    assert len(host.mail) == 10 and len(host.visits) == 1
    assert [(one.host, one.domain, one.met) for one in office.shown] == [("mx.a.example", "a.example", True)]
