"""One task and several hosts: what each gets of it, and what becomes of mail that a host cannot take."""

from __future__ import annotations

import email
from pathlib import Path

import pytest

from qmtls.delivery.mx import MAX_ADDRESSES
from qmtls.spool.api import SpoolError
from tests.net import certs, wire
from tests.net.hosts import Host
from tests.net.house import Files
from tests.service.office import CONTENT, Office, taken, verbs

EIGHT = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"
ODD = b"Subject: gr\xc3\xbc\xc3\x9fe\r\n\r\nx\r\n"  # 8-bit text where no encoding helps
OLD = ("there", "PIPELINING")
FULL = ("there", "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 0")


def mail_lines(host: Host) -> list[str]:
    return [line for visit in host.visits for line in visit.lines if line.startswith("MAIL")]


def rcpt_lines(host: Host) -> list[str]:
    return [line for visit in host.visits for line in visit.lines if line.startswith("RCPT")]


def statuses(office: Office, word: str) -> list[str]:
    """Of the log lines that begin with `word`."""
    return [line.partition(" status=")[2].split(" ")[0] for line in office.said(word)]


# ---------------------------------------------------------------- 8-bit text


@pytest.mark.parametrize("declared", ["7BIT", "8BITMIME"])
@pytest.mark.parametrize("filler", [0, 5000], ids=["small", "large"])
def test_eight_bit_text_never_goes_raw(office: Office, declared: str, filler: int) -> None:
    """Whatever the client said of it, and however large it is."""
    host = office.host("mx.a.example", Host(ehlo=OLD))
    text = EIGHT + b"z" * 98 * bool(filler) + b"\r\n" + (b"y" * 98 + b"\r\n") * filler
    office.post("x@a.example", content=text, body=declared, offer=False)
    office.relayer.rescan(office.spool)
    office.run()
    office.pass_time(1)
    (mail,) = host.mail
    assert mail.content.isascii()
    parsed, original = email.message_from_bytes(mail.content), email.message_from_bytes(text)
    assert parsed["Content-Transfer-Encoding"] == "quoted-printable"
    assert parsed.get_payload(decode=True) == original.get_payload(decode=True)
    assert not office.ids_stored
    assert "BODY" not in mail_lines(host)[0]


def test_the_size_is_that_of_what_is_sent(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=(*OLD, "SIZE 100000")))
    office.post("x@a.example", content=EIGHT)
    office.run()
    assert mail_lines(host) == [f"MAIL FROM:<s@here.example> SIZE={len(host.mail[0].content)}"]


@pytest.mark.parametrize(("content", "said"), [(EIGHT, " BODY=8BITMIME"), (CONTENT, "")])
def test_what_is_said_of_it_is_true(office: Office, content: bytes, said: str) -> None:
    host = office.host("mx.a.example", Host(ehlo=(*OLD, "8BITMIME")))
    office.post("x@a.example", content=content, body="7BIT")
    office.run()
    assert mail_lines(host) == [f"MAIL FROM:<s@here.example>{said}"]
    assert host.mail[0].content == content


def test_what_cannot_be_converted_goes_to_the_next_host(office: Office) -> None:
    first = office.host("mx1.a.example", Host(ehlo=OLD))
    second = office.host("mx2.a.example")
    office.post("x@a.example", content=ODD, body="8BITMIME")
    office.run()
    assert not mail_lines(first)
    assert second.mail[0].content == ODD
    assert not office.said("failed")


def test_what_no_host_takes_goes_back(office: Office) -> None:
    for n in (1, 2):
        office.host(f"mx{n}.a.example", Host(ehlo=OLD))
    sender = office.host("mx.here.example")
    office.post("x@a.example", content=ODD, body="8BITMIME")
    office.run()
    assert statuses(office, "failed") == ["5.6.3"]
    assert "mx2.a.example" in office.said("failed")[0] and "a header field holds 8-bit text" in office.said("failed")[0]
    assert len(sender.mail) == 1


# ---------------------------------------------------------------- the next host


def test_a_message_too_large_for_the_first_host(office: Office) -> None:
    first = office.host("mx1.a.example", Host(ehlo=("there", "SIZE 10")))
    second = office.host("mx2.a.example")
    office.post("x@a.example", "y@a.example")
    office.run()
    assert verbs(first) == [["EHLO", "QUIT"]]
    assert taken(second) == ["x@a.example", "y@a.example"]
    assert not office.said("failed")


def test_a_message_too_large_for_a_host_that_is_known(office: Office) -> None:
    """The channel is open already: the other hosts are asked all the same."""
    first = office.host("mx1.a.example", Host(ehlo=("there", "SIZE 100")))
    second = office.host("mx2.a.example")
    office.post("x@a.example")
    office.run()
    office.post("y@a.example", content=CONTENT * 10)
    office.run()
    assert (taken(first), taken(second)) == (["x@a.example"], ["y@a.example"])
    assert len(first.visits) == 1, "and it is not asked twice"


def test_a_host_that_could_not_be_asked_may_do_better(office: Office) -> None:
    office.host("mx1.a.example", Host(ehlo=("there", "SIZE 10")))
    second = office.host("mx2.a.example", Host(greeting="421 busy"))
    id = office.post("x@a.example")
    office.run()
    assert office.history(id)[0].deferred == (0,)
    reason = dict(office.history(id)[0].reasons)[0]
    assert "the server takes 10" in reason and "421 busy" in reason
    assert statuses(office, "deferred")[0].startswith("4.")
    second.greeting = "220 there"
    office.pass_time(450)
    assert taken(second) == ["x@a.example"]


def test_dns_that_fails_for_the_rest_is_doubt(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=("there", "SIZE 100")))
    office.post("x@a.example")
    office.run()
    office.names.mail.clear()
    id = office.post("y@a.example", content=CONTENT * 10)
    office.run()
    assert office.history(id)[0].deferred == (0,)
    assert len(host.mail) == 1


def test_a_host_that_says_later_keeps_its_word(office: Office) -> None:
    office.host("mx1.a.example", Host(replies={"RCPT": "450 4.2.1 later"}))
    office.host("mx2.a.example", Host(ehlo=("there", "SIZE 10")))
    id = office.post("x@a.example")
    office.run()
    assert "450 4.2.1 later" in dict(office.history(id)[0].reasons)[0]
    assert not office.said("failed")


def test_one_address_of_a_host_speaks_for_it(office: Office) -> None:
    """Its other one may be out of reach for ever: IPv6 where we have none."""
    office.host("mx.a.example", Host(ehlo=("there", "SIZE 10")))
    office.names.hosts["mx.a.example"] = (office.names.hosts["mx.a.example"], "2001:db8::1")
    office.host("mx.here.example")
    office.post("x@a.example")
    office.run()
    assert statuses(office, "failed") == ["5.3.4"]


def test_one_attempt_tries_so_many_addresses_and_no_more(office: Office) -> None:
    for n in range(1, 40):
        office.host(f"mx{n}.a.example", Host(greeting="421 busy"))
    office.names.hosts["mx1.a.example"] = tuple(f"198.51.100.{n}" for n in range(30))
    office.post("x@a.example")
    office.run()
    assert len(office.reactor.dialled) == MAX_ADDRESSES
    assert len([address for address, _ in office.reactor.dialled if address.startswith("198.")]) == 5
    assert office.said("deferred")


def test_an_address_that_nobody_may_say_is_not_put_to_every_host(office: Office) -> None:
    hosts = [office.host(f"mx{n}.a.example") for n in (1, 2)]
    office.post("x y@a.example", "z@a.example", sender=None)
    office.run()
    assert taken(*hosts) == ["z@a.example"]
    assert not hosts[1].visits
    assert statuses(office, "failed") == ["5.1.3"]


# ---------------------------------------------------------------- SMTPUTF8


def test_an_international_message(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=FULL))
    office.post("jörg@a.example", content=ODD, body="8BITMIME", smtputf8=True)
    office.run()
    assert mail_lines(host) == [f"MAIL FROM:<s@here.example> SIZE={len(ODD)} BODY=8BITMIME SMTPUTF8"]
    assert (taken(host), host.mail[0].content) == (["jörg@a.example"], ODD)
    assert "to=<jörg@a.example>" in office.said("delivered")[0]


@pytest.mark.parametrize("recipients", [["x@a.example"], ["jörg@a.example"]])
def test_what_needs_smtputf8_goes_back_from_where_there_is_none(office: Office, recipients: list[str]) -> None:
    host = office.host("mx.a.example")
    sender = office.host("mx.here.example")
    office.post(*recipients, content=ODD, body="8BITMIME", smtputf8=True)
    office.run()
    assert not host.mail
    assert statuses(office, "failed") == ["5.6.7"]
    assert len(sender.mail) == 1, "the report can be sent to servers of old"
    assert sender.mail[0].content.isascii()


def test_only_the_recipient_that_needs_it_fails(office: Office) -> None:
    host = office.host("mx.a.example")
    office.post("x@a.example", "jörg@a.example", "y@a.example", smtputf8=True, sender=None)
    office.run()
    assert taken(host) == ["x@a.example", "y@a.example"]
    assert statuses(office, "failed") == ["5.6.7"]


@pytest.mark.parametrize(
    ("content", "ehlo", "said"),
    [
        (CONTENT, OLD, ""),
        (EIGHT, (*OLD, "8BITMIME"), " BODY=8BITMIME"),
        (EIGHT, OLD, ""),
    ],
    ids=["ASCII", "8-bit text", "converted"],
)
def test_what_was_only_called_international(office: Office, content: bytes, ehlo: tuple[str, ...], said: str) -> None:
    """Clients say SMTPUTF8 of whatever they send; what needs none of it goes anywhere."""
    host = office.host("mx.a.example", Host(ehlo=ehlo))
    office.post("x@a.example", content=content, body="8BITMIME", smtputf8=True)
    office.run()
    assert mail_lines(host) == [f"MAIL FROM:<s@here.example>{said}"]
    assert len(host.mail) == 1


# ---------------------------------------------------------------- REQUIRETLS


def guarded(tmp_path: Path, rule: str = "secure") -> Office:
    anchors = tmp_path / "anchors.pem"
    anchors.write_bytes(certs.authority().pem)
    return Office(tmp_path, {"tlspolicy": f"a.example {rule}\n".replace("secure", f"secure tafile={anchors}")})


GOOD = certs.authority().leaf("mx.a.example", names=["mx.a.example", "a.example"], use=certs.SERVER)


def test_requiretls(tmp_path: Path) -> None:
    """Said to a host that offers it, over a connection of its own."""
    office = guarded(tmp_path)
    host = office.host("mx.a.example", Host(GOOD, ehlo=(*FULL, "REQUIRETLS")))
    office.post("x@a.example")
    office.run()
    office.post("y@a.example", requiretls=True)
    office.run()
    assert [("REQUIRETLS" in line) for line in mail_lines(host)] == [False, True]
    assert len(host.visits) == 2
    assert all(mail.tls for mail in host.mail)


def test_guarded_mail_goes_back_if_no_host_offers_requiretls(tmp_path: Path) -> None:
    office = guarded(tmp_path)
    hosts = [office.host(f"mx{n}.a.example", Host(GOOD, ehlo=FULL)) for n in (1, 2)]
    inbox = office.mailbox("pm")
    office.load({**_files(office), "locals": "here.example\n"})
    office.post("x@a.example", requiretls=True, sender="pm@here.example", content=CONTENT + b"secret\r\n")
    office.run()
    assert [len(host.visits) for host in hosts] == [1, 1]
    assert not any(host.mail for host in hosts)
    assert statuses(office, "failed") == ["5.7.30"]
    (report,) = inbox.iterdir()
    assert b"secret" not in report.read_bytes() and b"Subject: hello" in report.read_bytes()


def _files(office: Office) -> dict[str, str | bytes]:
    return {path.name: path.read_bytes() for path in (office.path / "control").iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("rule", "host", "status"),
    [
        ("secure", Host(ehlo=(*FULL, "REQUIRETLS")), "4.7.4"),
        ("may", Host(ehlo=(*FULL, "REQUIRETLS")), "4.7.4"),
        ("none", Host(ehlo=(*FULL, "REQUIRETLS")), "4.7.4"),
        ("may", Host(certs.authority("x").leaf("mx.a.example"), ehlo=(*FULL, "REQUIRETLS")), "4.7.5"),
        ("encrypt", Host(certs.authority("x").leaf("mx.a.example"), ehlo=(*FULL, "REQUIRETLS")), "4.7.5"),
    ],
    ids=["no TLS", "no TLS at may", "no TLS at none", "unknown at may", "unknown at encrypt"],
)
def test_tls_trouble_keeps_guarded_mail_waiting(tmp_path: Path, rule: str, host: Host, status: str) -> None:
    office = guarded(tmp_path, rule)
    office.host("mx.a.example", host)
    id = office.post("x@a.example", requiretls=True)
    office.run()
    office.pass_time(1)
    assert not host.mail
    assert statuses(office, "deferred") == [status]
    assert "tlspolicy" in dict(office.history(id)[0].reasons)[0]
    assert rule == "secure" or "REQUIRETLS" in dict(office.history(id)[0].reasons)[0]
    host.visits.clear()
    office.post("y@a.example")
    office.run()
    office.pass_time(1)
    assert bool(host.mail) is (rule != "secure"), "other mail goes as before"


# ---------------------------------------------------------------- DSN

OF_MAIL = (("RET", "HDRS"), ("ENVID", "abc"))


def test_dsn_parameters_go_on_with_the_message(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=FULL))
    office.post("x@a.example/NOTIFY=SUCCESS/ORCPT=rfc822;X@b.example", "y@a.example/NOTIFY=NEVER", parameters=OF_MAIL)
    office.run()
    assert mail_lines(host)[0].endswith(" RET=HDRS ENVID=abc")
    assert rcpt_lines(host) == [
        "RCPT TO:<x@a.example> NOTIFY=SUCCESS ORCPT=rfc822;X@b.example",
        "RCPT TO:<y@a.example> NOTIFY=NEVER",
    ]
    assert not office.said("notice"), "who takes it tells the sender"
    assert not office.ids_stored


def test_the_sender_is_told_where_nobody_else_will(office: Office) -> None:
    host = office.host("mx.a.example", Host())
    sender = office.host("mx.here.example")
    id = office.post(
        "x@a.example/NOTIFY=SUCCESS,FAILURE", "y@a.example", "z@a.example/NOTIFY=NEVER", parameters=OF_MAIL
    )
    office.run()
    assert len(host.mail) == 1
    assert "RET" not in mail_lines(host)[0] and "NOTIFY" not in "".join(rcpt_lines(host))
    (report,) = sender.mail
    assert report.sender == ""
    text = report.content.decode()
    for part in ("Action: relayed", "Final-Recipient: rfc822; x@a.example", "Original-Envelope-Id: abc", "250 2.0.0"):
        assert part in text
    assert "y@a.example" not in text and "z@a.example" not in text and "body" not in text
    assert any(f"about={id}" in line for line in office.said("notice"))
    assert not office.ids_stored


def test_delivery_into_a_mailbox_is_told(tmp_path: Path) -> None:
    office = Office(tmp_path, {"locals": "here.example\n"})
    joe, ann = office.mailbox("joe"), office.mailbox("ann")
    office.post("joe@here.example/NOTIFY=SUCCESS", sender="ann@here.example")
    office.run()
    assert len(list(joe.iterdir())) == 1
    (report,) = ann.iterdir()
    assert b"Action: delivered" in report.read_bytes()


@pytest.mark.parametrize(
    ("notify", "told"), [("NEVER", False), ("SUCCESS", False), ("DELAY", False), ("FAILURE", True), ("", True)]
)
@pytest.mark.parametrize("sender", ["s@here.example", None])
def test_who_wants_no_report_gets_none(tmp_path: Path, notify: str, told: bool, sender: str | None) -> None:
    office = Office(tmp_path, {"doublebouncehost": "here.example\n"})
    office.host("mx.a.example", Host(replies={"RCPT": "550 5.1.1 nobody"}))
    reports = office.host("mx.here.example")
    office.post(f"x@a.example{f'/NOTIFY={notify}' if notify else ''}", sender=sender)
    office.run()
    assert len(reports.mail) == told
    assert bool(office.said("no report")) is not told
    assert len(office.said("failed")) == 1
    assert not office.ids_stored


def test_a_report_names_those_only_who_want_it(office: Office) -> None:
    office.host("mx.a.example", Host(replies={"RCPT": "550 5.1.1 nobody"}))
    sender = office.host("mx.here.example")
    office.post("x@a.example/NOTIFY=NEVER", "y@a.example")
    office.run()
    (report,) = sender.mail
    assert b"y@a.example" in report.content and b"x@a.example" not in report.content


def test_news_is_safe_before_the_message_goes(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in between tells it twice, and never not at all."""
    host = office.host("mx.a.example")
    sender = office.host("mx.here.example")
    id = office.post("x@a.example/NOTIFY=SUCCESS")
    office.spool.fail = SpoolError("no space", full=True)
    office.run()
    assert len(host.mail) == 1
    assert id in office.ids_stored, "until the notice is safe"
    assert not sender.mail
    office.pass_time(61)
    assert id in office.ids_stored and len(host.mail) == 1
    office.spool.fail = None
    office.pass_time(31)
    assert not office.ids_stored
    assert len(sender.mail) == 1


def test_news_and_failure_and_waiting_in_one_attempt(office: Office) -> None:
    answers = {"b": "550 5.1.1 nobody", "c": "450 4.2.1 later"}
    host = office.host("mx.a.example", Host(replies={"RCPT": lambda _, line: answers.get(line[9], "")}))
    sender = office.host("mx.here.example")
    id = office.post(*(f"{x}@a.example/NOTIFY=SUCCESS,FAILURE" for x in "abc"))
    office.run()
    assert taken(host) == ["a@a.example"]
    actions = sorted(
        line for mail in sender.mail for line in mail.content.decode().splitlines() if line.startswith("Action")
    )
    assert actions == ["Action: failed", "Action: relayed"]
    (entry,) = office.history(id)
    assert (entry.done, entry.failed, entry.deferred) == ((0,), (1,), (2,))


# ---------------------------------------------------------------- LIMITS


def test_no_transaction_has_more_recipients_than_the_server_takes(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=(*OLD, "LIMITS RCPTMAX=2")))
    recipients = [f"{n}@a.example" for n in range(5)]
    office.post(*recipients)
    office.run()
    assert [len(mail.recipients) for mail in host.mail] == [2, 2, 1]
    assert taken(host) == recipients
    assert len(host.visits) == 1


def test_more_transactions_than_452_would_be_given(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=(*OLD, "LIMITS RCPTMAX=1")))
    recipients = [f"{n:03}@a.example" for n in range(80)]
    office.post(*recipients)
    office.run()
    assert taken(host) == recipients


def test_no_session_has_more_transactions_than_the_server_takes(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=(*OLD, "LIMITS MAILMAX=2")))
    for n in range(5):
        office.post(f"{n}@a.example")
        office.run()
    assert [visit.verbs.count("MAIL") for visit in host.visits] == [2, 2, 1]
    assert len(host.mail) == 5


def test_a_session_that_is_used_up_in_the_middle_of_a_message(office: Office) -> None:
    host = office.host("mx.a.example", Host(ehlo=(*OLD, "LIMITS MAILMAX=2 RCPTMAX=1")))
    office.post("w@a.example")
    office.run()
    office.post("x@a.example", "y@a.example")
    office.run()
    assert taken(host) == ["w@a.example", "x@a.example", "y@a.example"]
    assert len(host.visits) == 2


def test_a_session_for_one_domain(tmp_path: Path) -> None:
    office = Office(tmp_path, {"smtproutes": ":192.0.2.77\n"})
    host = Host(ehlo=(*OLD, "LIMITS RCPTDOMAINMAX=1"))
    office.reactor.hosts["192.0.2.77", 25] = host.accept
    for recipient in ("x@a.example", "y@b.example", "z@b.example"):
        office.post(recipient)
        office.run()
    assert [visit.verbs.count("MAIL") for visit in host.visits] == [1, 2]


# ---------------------------------------------------------------- the log


def test_the_log_names_recipients_whose_message_waited_in_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmtls.service.destination.REMEMBERED_TASKS", 0)
    office = Office(tmp_path, {"concurrencyremote": "1\n", "timeoutconnect": "10\n"})
    office.host("mx.a.example")
    office.reactor.hosts[office.names.hosts["mx.a.example"], 25] = wire.HANG
    for n in range(4):
        office.post(f"{n}@a.example")
    office.run()
    office.pass_time(11)
    named = [line.split("to=<")[1].partition(">")[0] for line in office.said("deferred")]
    assert sorted(named) == [f"{n}@a.example" for n in range(4)]


# ---------------------------------------------------------------- LMTP

LMTP: Files = {"smtproutes": "a.example:lmtp:unix:/run/lmtp\n"}


def lmtp(path: Path, files: Files | None = None, **answers: str) -> tuple[Office, Host]:
    office = Office(path, {**LMTP, **(files or {})})
    host = Host(lmtp=True, replies={".": lambda _, line: answers.get(line.partition("@")[0], "")})
    office.reactor.hosts["/run/lmtp", 0] = host.accept
    return office, host


def test_each_recipient_has_an_answer_of_his_own(tmp_path: Path) -> None:
    office, host = lmtp(tmp_path, full="452 4.2.2 over quota", gone="550 5.1.1 nobody")
    id = office.post("joe@a.example", "full@a.example", "gone@a.example", "ann@a.example")
    office.run()
    assert taken(host) == ["ann@a.example", "joe@a.example"]
    (entry,) = office.history(id)
    assert (entry.done, entry.failed, entry.deferred) == ((0, 3), (2,), (1,))
    assert dict(entry.reasons)[1] == "/run/lmtp said at content: 452 4.2.2 over quota"


def test_a_server_lost_between_the_answers(tmp_path: Path) -> None:
    office, host = lmtp(tmp_path, ann="close")
    id = office.post("joe@a.example", "ann@a.example", "eve@a.example")
    office.run()
    (entry,) = office.history(id)
    assert (entry.done, entry.failed, entry.deferred) == ((0,), (), (1, 2))
    assert all("possible duplicate" in reason for _, reason in entry.reasons)
    host.replies.clear()
    office.relayer.make_all_due()
    office.run()
    office.pass_time(1)
    assert taken(host) == ["ann@a.example", "eve@a.example", "joe@a.example"]


def test_delivered_by_lmtp_is_delivered(tmp_path: Path) -> None:
    """RFC 3461: nobody behind it will send word, but there is nothing behind it."""
    office, _ = lmtp(tmp_path)
    sender = office.host("mx.here.example")
    office.post("joe@a.example/NOTIFY=SUCCESS")
    office.run()
    assert b"Action: delivered" in sender.mail[0].content


def test_guarded_mail_may_go_to_a_socket_of_this_host(tmp_path: Path) -> None:
    office, host = lmtp(tmp_path)
    office.post("joe@a.example", requiretls=True)
    office.run()
    assert taken(host) == ["joe@a.example"]
    assert not any("REQUIRETLS" in line for line in host.visits[0].lines)


# ---------------------------------------------------------------- variable paths


def test_each_recipient_of_a_list_has_a_reverse_path_of_his_own(office: Office) -> None:
    host = office.host("mx.a.example")
    office.post("joe@a.example", "ann@a.example", sender="list-@here.example-@[]")
    office.run()
    assert sorted((mail.sender, mail.recipients) for mail in host.mail) == [
        ("list-ann=a.example@here.example", ["ann@a.example"]),
        ("list-joe=a.example@here.example", ["joe@a.example"]),
    ]


def test_what_fails_of_a_list_comes_back_to_its_owner(office: Office) -> None:
    office.host("mx.a.example", Host(replies={"RCPT": "550 5.1.1 nobody"}))
    owner = office.host("mx.here.example")
    office.post("joe@a.example", sender="list-@here.example-@[]")
    office.run()
    assert [mail.recipients for mail in owner.mail] == [["list-@here.example"]]
