"""Whatever a host says wherever one reply is due: what becomes of three recipients, at once and in the end.

The table is tests/replies.py. All hosts of a case are in one office, each with a domain of its own. After the one odd
reply each of them answers as it should.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.net import certs
from tests.net.hosts import CLOSE, HANG, Host, Visit
from tests.replies import SAID, STAGES, Kind, Said, Then, fates, perhaps_taken
from tests.service.office import Office

VERBS = {"content": "."}
WAYS = {
    "pipelined": Host().ehlo,
    "one by one": ("there", "8BITMIME", "SIZE 0"),
    "LMTP": Host().ehlo,
    "used again": Host().ehlo,  # the channel has carried a message before
}
SILENCE = 61  # seconds; `timeoutremote` of the office is 60
RETRY = 900  # the second attempt, also of those who waited for a silent host first


class Odd:
    """A host that gives one odd reply, once, and then behaves."""

    def __init__(self, stage: str, said: Said, way: str) -> None:
        self.stage, self.said = stage, said
        self.lmtp = way == "LMTP"
        self.armed = way != "used again"
        self.host = Host(ehlo=WAYS[way], lmtp=self.lmtp, greeting=self.greeting)
        if stage != "greeting":
            self.host.replies[VERBS.get(stage, stage)] = self.answer
            self.host.replies["LHLO"] = self.answer if stage == "EHLO" else ""

    def greeting(self, visit: Visit, line: str) -> str | bytes:
        return (self.stage == "greeting" and self.odd(visit)) or "220 there"

    def answer(self, visit: Visit, line: str) -> str | bytes:
        if self.stage == "RCPT" and "<b@" not in line:
            return ""
        if self.lmtp and self.stage == "content" and not line.startswith("b@"):
            return ""
        return self.odd(visit, line)

    def odd(self, visit: Visit, line: str = "") -> str | bytes:
        """ "": as it should be."""
        if not self.armed:
            return ""
        self.armed = False
        octets = self.said.octets
        if self.said.then is Then.GO_ON:
            self.take_it(visit, line)
            return octets
        visit.reply(octets)
        if self.said.then is Then.CLOSE:
            return CLOSE
        if self.said.then is Then.RESET:
            visit.transport.abortConnection()  # type: ignore[union-attr]
        elif self.said.then is Then.HALF:
            visit.transport.loseWriteConnection()  # type: ignore[union-attr]
        return HANG

    def take_it(self, visit: Visit, line: str) -> None:
        """Where the reply says yes it means it."""
        if self.stage == "RCPT" and self.said.kind is Kind.YES:
            visit.recipients.append(line[line.index("<") + 1 : line.index(">")])
        if self.stage == "DATA" and self.said.octets.startswith(b"3"):
            visit.content = []

    def copies(self, domain: str) -> dict[str, int]:
        """Whole messages: where nobody is left a lone dot ends the content (RFC 2920)."""
        taken = Counter(r for mail in self.host.mail if mail.content for r in mail.recipients)
        return {name: taken[f"{name}@{domain}"] for name in "abc"}


def expected(stage: str, said: Said, way: str) -> str:
    again = way == "used again" and stage in ("RSET", "MAIL")
    if again and said.kind is Kind.TOO_MUCH:
        return "WWW" if said.octets.startswith(b"2") else "DDD"
    if again and (stage == "RSET" or said.kind not in (Kind.YES, Kind.LATER, Kind.NEVER)):
        # The host had gone, or lost its way, before it looked at the message: a fresh connection, and no deferral.
        # What it says to RSET it does not say of the message.
        return "DDD"
    if way == "used again" and said.then is Then.RESET and stage in ("RCPT", "DATA"):
        return "DDD"  # the answer to MAIL is gone too, so that it is as above
    if way == "LMTP" and stage == "content" and said.then is Then.RESET:
        return "WWW"  # the first one's answer is gone too
    return fates(stage, said, lmtp=way == "LMTP")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_reply_at_every_stage(tmp_path: Path, stage: str, way: str) -> None:
    if way == "used again" and stage in ("greeting", "EHLO"):
        return  # they come once in a connection
    if way != "used again" and stage == "RSET":
        return  # it is said where another message went before
    domains = {name: f"d{n}.example" for n, name in enumerate(SAID)}
    office = Office(tmp_path, lmtp_routes(domains.values()) if way == "LMTP" else {})
    sender = office.host("mx.here.example")
    odd = {name: Odd(stage, said, way) for name, said in SAID.items()}
    ids = {}
    for name, domain in domains.items():
        office.host(f"mx.{domain}", odd[name].host)
        office.reactor.hosts[f"/run/{domain}", 0] = odd[name].host.accept
    if way == "used again":
        before(office, odd, domains, stage)
    for name, domain in domains.items():
        ids[name] = office.post(*(f"{who}@{domain}" for who in "abc"))
    office.run()
    office.pass_time(2 * SILENCE)
    for name, domain in domains.items():
        assert found(office, ids[name]) == expected(stage, SAID[name], way), name
        check_the_doubt(office, domain, stage, SAID[name], way, name)
    office.pass_time(RETRY)
    assert not set(ids.values()) & set(office.ids_stored)
    for name, domain in domains.items():
        fate = dict(zip("abc", expected(stage, SAID[name], way), strict=True))
        for n, (who, copies) in enumerate(odd[name].copies(domain).items()):
            twice = fate[who] == "W" and perhaps_taken(stage, SAID[name], n, lmtp=way == "LMTP")
            assert copies == 0 if fate[who] == "F" else 1 <= copies <= 1 + twice, (name, who)
        told = [mail for mail in sender.mail if f"@{domain}>:".encode() in mail.content]
        assert len(told) == ("F" in fate.values()), name


def lmtp_routes(domains: object) -> dict[str, str | bytes]:
    lines = "".join(f"{domain}:lmtp:unix:/run/{domain}\n" for domain in domains)  # type: ignore[attr-defined]
    return {"smtproutes": lines}


def before(office: Office, odd: dict[str, Odd], domains: dict[str, str], stage: str) -> None:
    """A message by each channel; at RSET one whose recipients are refused, so that it stays open on the host."""
    for name, domain in domains.items():
        if stage == "RSET":
            odd[name].host.replies["RCPT"] = "550 5.1.1 nobody"
        office.post(f"z@{domain}", sender=None)
    office.run()
    for each in odd.values():
        each.host.mail.clear()
        each.armed = True
        if stage == "RSET":
            del each.host.replies["RCPT"]


def found(office: Office, id: str) -> str:
    """What the log says of each recipient, in their order: the last word."""
    letters = {"delivered": "D", "deferred": "W", "failed": "F"}
    words = {}
    for line in office.log:
        word, _, rest = line.partition(" ")
        if word in letters and rest.startswith(f"id={id} "):
            words[rest.partition("to=<")[2][:1]] = letters[word]
    return "".join(words.get(who, "-") for who in "abc")


def check_the_doubt(office: Office, domain: str, stage: str, said: Said, way: str, name: str) -> None:
    for n, who in enumerate("abc"):
        doubt = perhaps_taken(stage, said, n, lmtp=way == "LMTP")
        lines = [line for line in office.said("deferred") if f"<{who}@{domain}>" in line]
        assert all(("possible duplicate" in line) is doubt for line in lines), (name, who)


# ---------------------------------------------------------------- STARTTLS


@pytest.mark.parametrize("level", ["may", "encrypt"])
@pytest.mark.parametrize("name", SAID)
def test_every_answer_to_starttls(tmp_path: Path, level: str, name: str) -> None:
    """Where TLS is demanded nothing goes; where it is not, mail goes in plaintext, once."""
    said = SAID[name]
    office = Office(tmp_path, {"tlspolicy": f"a.example {level}\n"})
    host = Host(certs.server("mx.a.example"), handshake=HANG if said.kind is Kind.YES else "")
    host.replies["STARTTLS"] = lambda visit, line: Odd("STARTTLS", said, "pipelined").odd(visit)
    office.host("mx.a.example", host)
    office.post("a@a.example", "b@a.example", "c@a.example")
    office.run()
    office.pass_time(2 * SILENCE)
    taken = [(mail.recipients, mail.tls) for mail in host.mail]
    if level == "encrypt":
        assert not taken
        assert len(office.said("deferred")) == 3 and "tlspolicy" in office.said("deferred")[0]
    else:
        assert taken == [(["a@a.example", "b@a.example", "c@a.example"], False)]
        assert not office.ids_stored


# ---------------------------------------------------------------- time


def test_a_reply_that_comes_octet_by_octet_is_not_waited_for_for_ever(office: Office) -> None:
    """Patience is for a whole reply: else a host could keep a message, and a lane, for weeks."""
    host = office.host("mx.a.example", Host(replies={"MAIL": HANG}))
    office.post("a@a.example")
    office.run()
    for _ in range(20):
        host.visits[0].reply(b"2")
        office.pass_time(10)
    assert office.said("deferred") and "timed out at MAIL" in office.said("deferred")[0]


def test_replies_that_come_one_by_one_have_their_time_each(office: Office) -> None:
    """As those of a busy host to a group of commands."""
    host = office.host("mx.a.example", Host(replies={"MAIL": HANG}))
    office.post("a@a.example", "b@a.example", "c@a.example")
    office.run()
    (visit,) = host.visits
    for answer in ("250 ok", "250 ok", "250 ok", "250 ok", "354 go on", "250 2.0.0 taken"):
        office.pass_time(50)
        visit.reply(answer)
    office.run()
    assert len(office.said("delivered")) == 3
