"""The server's adapter: the disk behind a dialogue, faults of ours, time, back-pressure and the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import LogEvent

from qmtls.net.mailboxes import MailboxError
from qmtls.net.patience import ABORT_AFTER
from qmtls.smtp.address import Address
from qmtls.smtp.server import MAX_BUFFERED
from qmtls.spool.api import SpoolError
from qmtls.spool.incoming import FLUSH_AT
from tests.net.house import PLAIN, Client, Files, Site

MakeSite = Callable[[Files], Site]
FULL = SpoolError("no space", full=True)
BROKEN = SpoolError("I/O error")


# ---------------------------------------------------------------- what is stored


def test_a_message(site: Site) -> None:
    client = site.client()
    assert client.replies == ["220 mail.example.org ESMTP"]
    answer = client.mail()
    id = answer.rpartition(" ")[2]
    assert answer == f"250 2.0.0 ok {id}"
    assert site.stored == [id]
    head, _, rest = site.content(id).partition(b"Subject:")
    assert head.startswith(b"Received: from c.example ([192.0.2.1])")
    assert rest == b" x\r\n\r\nhello\r\n"
    (offered,) = site.offered
    assert offered.id == id
    assert offered.remembered == site.content(id)
    assert [str(r.address) for r in offered.envelope.recipients] == ["r@there.example"]
    assert offered.envelope.arrival.protocol == "ESMTP"
    assert any(line.startswith(f"accepted id={id} client=192.0.2.1 from=<s@c.example>") for line in site.log)


def test_a_pipelined_dialogue_in_one_segment(site: Site) -> None:
    lines = [
        "EHLO c",
        "MAIL FROM:<>",
        "RCPT TO:<a@there.example>",
        "RCPT TO:<b@else.example>",
        "DATA",
        "x",
        ".",
        "QUIT",
    ]
    answer = site.client().say(*lines).split("|")
    codes = [line[:3] for line in answer if line[3] == " "]
    assert codes == ["250", "250", "250", "553", "354", "250", "221"]
    (offered,) = site.offered
    assert offered.envelope.reverse_path is None
    assert site.protocol not in site.connections


@pytest.mark.parametrize(
    "content", [b" begins with a blank\r\nx\r\n", b"no field\r\n", b"\r\nthe empty line itself\r\n"]
)
@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
def test_content_without_a_header(site: Site, verb: str, content: bytes) -> None:
    client = site.client()
    client.begin()
    if verb == "DATA":
        client.send(b"DATA\r\n" + content + b".\r\n")
    else:
        client.send(b"BDAT 1\r\n%cBDAT %d LAST\r\n" % (content[0], len(content) - 1) + content[1:])
    assert client.replies[-1].startswith("250 2.0.0 ok")
    head, _, rest = site.content(site.stored[0]).partition(b"\r\n\r\n")
    assert head.startswith(b"Received: ") and head.endswith(b" +0000")
    assert rest == content.removeprefix(b"\r\n")


def test_chunks(site: Site) -> None:
    client = site.client()
    client.begin()
    client.got.clear()
    client.send(b"BDAT 5\r\nab\r\ncBDAT 3 LAST\r\nd\r\n")
    assert [line[:3] for line in client.replies] == ["250", "250"]
    assert site.content(site.stored[0]).endswith(b"ab\r\ncd\r\n")


def test_what_opened_the_relay_goes_into_the_envelope(make_site: MakeSite) -> None:
    site = make_site({**PLAIN, "relaynetworks": "192.0.2.0/28\n"})
    client = site.client()
    client.begin("s@c.example", "x@far.example")
    assert client.say("RSET").startswith("250")
    assert client.say("MAIL FROM:<s@c.example>", "RCPT TO:<r@there.example>", "DATA", "x", ".")
    client.mail()
    assert [o.envelope.arrival.identity for o in site.offered] == ["", ""]
    client.begin("s@c.example", "x@far.example", "r@there.example")
    assert client.say("DATA", "x", ".")
    assert site.offered[-1].envelope.arrival.identity == "192.0.2.0/28"


def test_recipients_stored_under_our_own_name(make_site: MakeSite) -> None:
    site = make_site({**PLAIN, "locals": "here.example\n", "rcpthosts": "here.example\n"})
    site.mailboxes = lambda address: address.local_part == "postmaster"
    client = site.client()
    client.begin("s@c.example", "PostMaster")
    assert client.say("RCPT TO:<nobody@here.example>").startswith("550 5.1.1")
    assert client.say("DATA", "x", ".")
    assert [str(r.address) for r in site.offered[0].envelope.recipients] == ["postmaster@here.example"]


def test_aliases_in_the_envelope(make_site: MakeSite) -> None:
    lines = "team: joe, ann, far@away.example\nboss: ann\ngone: nobody\nfar@v.example: far@away.example\n"
    files = {"locals": "here.example\n", "rcpthosts": "here.example\nv.example\n", "aliases": lines}
    site = make_site({**PLAIN, **files, "virtualdomains": "v.example:joe\n", "percenthack": "v.example\n"})
    site.mailboxes = lambda address: address.local_part in ("joe", "ann")
    client = site.client()
    client.begin("s@c.example", "Team@here.example", "boss@here.example", "joe@here.example", "Far@v.example")
    client.say("RCPT TO:<x@v.example>", "RCPT TO:<ann%here.example@v.example>")
    for nobody in ("gone@here.example", "gone%here.example@v.example"):
        assert client.say(f"RCPT TO:<{nobody}>").startswith("550 5.1.1")
    assert client.say("RCPT TO:<far%away.example@v.example>").startswith("553 5.7.1")
    assert client.say("DATA", "x", ".")
    stored = [str(r.address) for r in site.offered[0].envelope.recipients]
    assert stored == ["joe@here.example", "ann@here.example", "far@away.example", "x@v.example"]


def test_aliases_that_lead_to_one_recipient(make_site: MakeSite) -> None:
    files = {"locals": "here.example\n", "rcpthosts": "here.example\n", "aliases": "one: joe\ntwo: joe\n"}
    site = make_site({**PLAIN, **files})
    site.mailboxes = lambda address: address.local_part == "joe"
    client = site.client()
    client.say("EHLO c.example", "MAIL FROM:<s@c.example>")
    client.say("RCPT TO:<one@here.example> NOTIFY=SUCCESS ORCPT=rfc822;one@here.example")
    client.say("RCPT TO:<two@here.example> NOTIFY=NEVER ORCPT=rfc822;two@here.example", "DATA", "x", ".")
    (recipient,) = site.offered[0].envelope.recipients
    assert dict(recipient.parameters) == {"NOTIFY": "SUCCESS", "ORCPT": "rfc822;one@here.example"}


def test_a_message_has_only_so_many_recipients_behind_aliases(make_site: MakeSite) -> None:
    one = "".join(f"a{n}: {', '.join(f'u{n}.{m}@away.example' for m in range(4000))}\n" for n in range(4))
    site = make_site({**PLAIN, "locals": "here.example\n", "rcpthosts": "here.example\n", "aliases": one})
    client = site.client()
    client.begin("s@c.example", "a0@here.example", "a1@here.example", "a1@here.example")
    assert client.say("RCPT TO:<a2@here.example>").startswith("452 4.5.3")
    assert client.say("DATA", "x", ".")
    assert len(site.offered[0].envelope.recipients) == 8000
    client.begin("s@c.example", "a2@here.example")


def test_large_content_is_not_remembered(site: Site) -> None:
    site.client().mail("x" * 900 + "\r\n" + ("y" * 998 + "\r\n") * 70)
    assert site.offered[0].remembered is None
    assert site.offered[0].size > 70_000


# ---------------------------------------------------------------- the disk fails


def test_the_answer_waits_for_the_commit(site: Site) -> None:
    client = site.client()
    client.begin()
    client.say("DATA")
    site.desk.open = False
    assert client.say("x", ".", "NOOP") == ""
    assert not site.offered
    site.desk.work()
    site.reactor.run()
    assert [line[:9] for line in client.replies] == ["250 2.0.0", "250 2.0.0"]
    assert len(site.offered) == 1


@pytest.mark.parametrize(("error", "reply"), [(FULL, "452 4.3.1"), (BROKEN, "451 4.3.0")])
def test_a_failed_commit(site: Site, error: SpoolError, reply: str) -> None:
    site.spool.fail = error
    client = site.client()
    assert client.mail().startswith(reply)
    assert not site.offered and not site.stored
    site.spool.fail = None
    assert client.mail().startswith("250")
    assert len(site.offered) == 1


def test_a_fault_in_the_spool_is_no_acceptance(
    site: Site, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
) -> None:
    def commit(batch: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(site.spool, "commit", commit)
    assert site.client().mail().startswith("451 4.3.0")
    assert failures
    failures.clear()


@pytest.mark.parametrize(("error", "reply"), [(FULL, "452 4.3.1"), (BROKEN, "451 4.3.0")])
def test_a_disk_that_fails_in_the_middle(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: SpoolError, reply: str
) -> None:
    def flush(incoming: object) -> None:
        raise error

    monkeypatch.setattr("qmtls.spool.memory.MemoryIncoming.flush", flush)
    client = site.client()
    answer = client.mail(("y" * 998 + "\r\n") * 1000)
    assert answer.startswith(reply)
    assert not site.offered and not site.stored
    assert client.say("NOOP").startswith("250")


def test_a_client_lost_during_the_commit_is_no_message_lost(site: Site) -> None:
    client = site.client()
    client.begin()
    client.say("DATA")
    site.desk.open = False
    client.say("x", ".")
    client.transport.abortConnection()  # type: ignore[union-attr]
    site.reactor.run()
    assert not site.connections
    site.desk.work()
    site.reactor.run()
    assert [o.id for o in site.offered] == site.stored
    assert len(site.stored) == 1


def test_a_client_lost_in_its_content_leaves_nothing(site: Site) -> None:
    client = site.client()
    client.begin()
    client.say("DATA", "Subject: x", "", "hel")
    reception = site.protocol.storing.reception
    assert reception is not None
    client.transport.abortConnection()  # type: ignore[union-attr]
    site.reactor.run()
    assert reception.incoming.aborted  # type: ignore[union-attr]
    assert not site.stored and not site.offered


@pytest.mark.parametrize("end", ["RSET", "EHLO again", "BDAT 2"])
def test_an_aborted_transaction_leaves_nothing(site: Site, end: str) -> None:
    client = site.client()
    client.begin()
    client.send(b"BDAT 7\r\nX: \r\n\r\n")
    reception = site.protocol.storing.reception
    assert reception is not None
    if end == "BDAT 2":
        client.send(b"BDAT 2\r\n\n\r")
        client.send(b"BDAT 0 LAST\r\n")
    else:
        client.say(end)
    assert reception.incoming.aborted  # type: ignore[union-attr]
    assert site.protocol.storing.reception is None
    assert not site.offered


# ---------------------------------------------------------------- faults of ours


def test_an_exception_is_our_trouble(site: Site, failures: list[LogEvent]) -> None:
    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    site.snapshot = site.make({**PLAIN, "locals": "here.example\n", "rcpthosts": "here.example\nthere.example\n"})
    site.mailboxes = broken
    client = site.client()
    assert client.say("EHLO c", "MAIL FROM:<>", "RCPT TO:<a@here.example>", "NOOP").endswith(
        "|421 4.3.0 trouble on our side, try again later"
    )
    assert client.lost is not None
    assert len(failures) == 1
    failures.clear()


def test_a_mailbox_that_cannot_be_looked_at_is_temporary(site: Site) -> None:
    def broken(*_: object) -> bool:
        raise MailboxError("I/O error")

    site.snapshot = site.make({**PLAIN, "locals": "here.example\n", "rcpthosts": "here.example\nthere.example\n"})
    site.mailboxes = broken
    client = site.client()
    client.say("EHLO c", "MAIL FROM:<>")
    assert client.say("RCPT TO:<a@here.example>").startswith("451 4.2.0")
    assert client.say("RCPT TO:<a@there.example>").startswith("250")


def test_a_fault_behind_the_commit_does_not_leave_the_client_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch, failures: list[LogEvent]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("qmtls.net.reception.Reception.log_accepted", broken)
    client = site.client()
    assert client.mail().startswith("421 4.3.0")
    assert client.lost is not None
    assert failures
    failures.clear()


# ---------------------------------------------------------------- time


def test_a_silent_client(site: Site) -> None:
    client = site.client()
    site.reactor.pass_time(299, 10)
    assert client.lost is None
    client.got.clear()
    site.reactor.pass_time(2)
    assert client.replies == ["421 4.4.2 timeout, closing the connection"]
    assert client.lost is not None
    assert any("timeout client=192.0.2.1" in line for line in site.log)


def test_single_octets_do_not_buy_time(site: Site) -> None:
    client = site.client()
    for _ in range(31):
        client.send(b"N")
        site.reactor.pass_time(10)
    assert client.lost is not None


def test_each_reply_gives_new_time(site: Site) -> None:
    client = site.client()
    for _ in range(5):
        site.reactor.pass_time(200, 50)
        assert client.say("NOOP").startswith("250")
    site.reactor.pass_time(301, 10)
    assert client.lost is not None


@pytest.mark.parametrize("refused", [False, True], ids=["wanted", "refused"])
def test_the_pace_of_content(make_site: MakeSite, refused: bool) -> None:
    """100 octets a second are enough, for as long as it takes; refused content is read to its end as patiently."""
    site = make_site({**PLAIN, "databytes": "100\n" if refused else "0\n"})
    client = site.client()
    client.begin()
    client.say("DATA")
    for _ in range(400):
        client.send(b"x" * 98 + b"\r\n")
        site.reactor.pass_time(1)
    assert client.lost is None
    assert client.say(".").startswith("552" if refused else "250")


@pytest.mark.parametrize("refused", [False, True], ids=["wanted", "refused"])
def test_content_that_comes_too_slowly(make_site: MakeSite, refused: bool) -> None:
    site = make_site({**PLAIN, "databytes": "100\n" if refused else "0\n"})
    client = site.client()
    client.begin()
    client.say("DATA")
    client.send(b"x" * 198 + b"\r\n")
    for _ in range(59):
        client.send(b"y")
        site.reactor.pass_time(1)
    assert client.lost is None
    for _ in range(10):
        client.send(b"y")
        site.reactor.pass_time(1)
    assert client.lost is not None
    assert client.replies[-1].startswith("421 4.4.2")
    assert not site.offered and not site.stored


def test_a_slow_disk_is_not_the_clients_fault(site: Site) -> None:
    client = site.client()
    client.begin()
    client.say("DATA")
    site.desk.open = False
    client.send(b"x" * 998 + b"\r\n")
    client.send((b"y" * 998 + b"\r\n") * (FLUSH_AT // 1000 + 1))
    assert len(site.desk.waiting) == 1
    site.reactor.pass_time(5000, 100)
    assert client.lost is None
    site.desk.open = True
    site.desk.work()
    site.reactor.run()
    site.reactor.pass_time(50)
    assert client.say(".").startswith("250")


def test_a_slow_commit_is_not_the_clients_fault(site: Site) -> None:
    client = site.client()
    client.begin()
    client.say("DATA")
    site.desk.open = False
    client.say("x", ".")
    site.reactor.pass_time(5000, 100)
    site.desk.work()
    site.reactor.run()
    assert client.replies[0].startswith("250 2.0.0 ok")


def deaf(client: Client) -> None:
    """The client's program reads nothing any more."""
    client.transport.pauseProducing()  # type: ignore[union-attr]


def hearing(client: Client) -> None:
    client.transport.resumeProducing()  # type: ignore[union-attr]


def test_a_peer_that_never_reads_our_last_words(site: Site) -> None:
    site.reactor.capacity = 16
    client = site.client()
    deaf(client)
    client.send(b"QUIT\r\nQUIT\r\n")
    assert site.connections
    site.reactor.pass_time(ABORT_AFTER - 1)
    assert site.connections
    site.reactor.pass_time(1.5)
    assert not site.connections
    assert not site.reactor.getDelayedCalls()


# ---------------------------------------------------------------- back-pressure


def pending(transport: Any) -> int:
    return int(transport._tempDataLen + len(transport.dataBuffer))


def test_a_client_that_does_not_read_our_replies(site: Site) -> None:
    """It is not read either: what waits for it here stays bounded, and goes on where it was once it reads."""
    site.tireless()
    client = site.client()
    deaf(client)
    client.got.clear()
    count = 100_000
    client.send(b"NOOP\r\n" * count)
    server = site.protocol.transport
    assert server not in site.reactor.readers
    assert pending(server) < 512 * 1024
    hearing(client)
    site.reactor.run()
    assert client.got.count(b"250 2.0.0 ok\r\n") == count


def test_a_client_that_never_reads_is_left(site: Site) -> None:
    site.tireless()
    client = site.client()
    deaf(client)
    client.send(b"NOOP\r\n" * 100_000)
    site.reactor.pass_time(300 + ABORT_AFTER + 5, 5)
    assert not site.connections
    assert not site.reactor.getDelayedCalls()


def test_a_flood_behind_a_question_is_left_in_the_network(site: Site) -> None:
    site.tireless()
    client = site.client()
    client.begin()
    client.say("DATA")
    site.desk.open = False
    client.say("x", ".")
    client.send(b"NOOP\r\n" * 100_000)
    assert site.protocol.session.buffered <= 2 * MAX_BUFFERED
    assert site.protocol.transport not in site.reactor.readers
    client.got.clear()
    site.desk.work()
    site.reactor.run()
    assert client.replies[0].startswith("250 2.0.0 ok ")
    assert client.got.count(b"250 2.0.0 ok\r\n") == 100_000


def test_content_stops_while_it_goes_to_the_disk(site: Site) -> None:
    client = site.client()
    client.begin()
    client.say("DATA")
    site.desk.open = False
    line = b"z" * 98 + b"\r\n"
    client.send(line * 50_000)  # 5 MB
    reception = site.protocol.storing.reception
    assert reception is not None
    turns = 0
    while site.desk.waiting:
        assert len(site.desk.waiting) == 1
        assert reception.size <= FLUSH_AT * (turns + 1) + 2 * MAX_BUFFERED
        assert site.protocol.session.buffered <= 2 * MAX_BUFFERED
        assert site.protocol.transport not in site.reactor.readers
        site.desk.work(1)
        site.reactor.run()
        turns += 1
    assert turns > 10
    site.desk.open = True
    assert client.say(".").startswith("250")
    assert site.content(site.stored[0]).count(line) == 50_000


# ---------------------------------------------------------------- the end


def test_idle_clients_are_told_that_the_service_ends(site: Site) -> None:
    client = site.client()
    client.got.clear()
    site.protocol.shut_down()
    site.reactor.run()
    assert client.replies == ["421 4.3.2 the service is shutting down, try again later"]
    assert client.lost is not None
    assert not site.connections


def test_a_client_in_the_middle_may_finish_and_then_goes(site: Site) -> None:
    client = site.client()
    client.begin()
    site.protocol.shut_down()
    assert client.say("DATA").startswith("354")
    answer = client.say("x", ".").split("|")
    assert [line[:3] for line in answer] == ["250", "421"]
    assert client.lost is not None
    assert len(site.offered) == 1


def test_what_was_handed_over_is_answered_at_the_end_too(site: Site) -> None:
    client = site.client()
    client.begin()
    client.say("DATA")
    site.desk.open = False
    client.say("x", ".")
    site.protocol.shut_down()
    site.desk.work()
    site.reactor.run()
    assert [line[:3] for line in client.replies] == ["250", "421"]
    assert len(site.offered) == 1


def test_cut_off(site: Site) -> None:
    client = site.client()
    client.begin()
    site.protocol.cut_off()
    site.reactor.run()
    assert client.lost is not None and not site.connections


def test_nothing_is_read_after_the_end(site: Site) -> None:
    client = site.client()
    answer = client.say("EHLO c", "QUIT", "MAIL FROM:<>", "RCPT TO:<r@there.example>", "DATA", "x", ".")
    assert answer.split("|")[-1].startswith("221")
    assert not site.offered


def test_the_address_that_was_connected_to(make_site: MakeSite) -> None:
    here: Files = {"locals": "here.example\n", "localiphost": "here.example\n", "rcpthosts": "here.example\n"}
    site = make_site({**PLAIN, **here})
    asked: list[Address] = []

    def exists(address: Address) -> bool:
        asked.append(address)
        return True

    site.mailboxes = exists
    client = site.client()
    client.say("EHLO c", "MAIL FROM:<>")
    assert client.say("RCPT TO:<joe@[192.0.2.25]>").startswith("250")
    assert [a.local_part for a in asked] == ["joe"]
    assert client.say("RCPT TO:<joe@[192.0.2.26]>").startswith("553")
