"""One transcript of `qmtls policy explain` for each way that mail can wait: tests/system/explain/NAME.

A service tries mail to a domain for each of them; then the queued message is explained. Times, ports, addresses and
keys are written as words. What the sentences say is what the hosts below do.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from shutil import rmtree

import dns.flags
import dns.message
import dns.rcode
import pytest

from qmtls.delivery.window import INITIAL
from qmtls.ledger.handshakes import Handshake, handshakes_for
from qmtls.ledger.schema import FILE, read_ledger
from qmtls.net.stsfiles import StsFiles
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient
from qmtls.tls.sts import CachedPolicy, StsMode, StsPolicy
from tests.system.house import House
from tests.system.mx import EXTENSIONS, Do, FakeMx
from tests.system.outbound.dns import NameServer
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.outbound.test_demands import sha256
from tests.system.outbound.test_extensions import post
from tests.system.outbound.test_hosts import fresh_address, pytestmark  # noqa: F401 - port 25 for this module too
from tests.system.pki import Authority, Credential
from tests.system.waiting import wait_for

TRANSCRIPTS = Path(__file__).parent / "explain"
LATER = frozenset({"held", "rate", "resting", "no-end"})  # explained after something else has happened
REPLACED = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? UTC"), "TIME"),
    (re.compile(r"just now|\d+ (?:second|minute)s ago"), "AGE"),
    (re.compile(r"spki:[A-Za-z0-9+/]{43}="), "spki:KEY"),
    (re.compile(r"[0-9a-f]{16}\.\.\."), "DIGITS..."),
    (re.compile(r"TLSv1\.3 TLS_\w+ \w+"), "PARAMETERS"),
    (re.compile(r"127\.\d+\.\d+\.\d+"), "ADDRESS"),
    (re.compile(r"(ADDRESS\]?:| port )\d+"), r"\1PORT"),
)


class SignedServer(NameServer):
    """Says of each answer below `signed.test` that it has checked its signatures, as a resolver on this host may."""

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = super()._answer(query)
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        if name.endswith(".signed.test"):
            answer.flags |= dns.flags.AD
        if name in ("_25._tcp.mx-dane-bogus.signed.test", "dns-failure.test", "mx-dns-host.test"):
            answer.set_rcode(dns.rcode.SERVFAIL)  # what a validating resolver makes of a bad signature
        return answer

    def _reply(self, data: bytes, peer: tuple[str, int]) -> None:
        """Of one domain nobody ever hears."""
        if dns.message.from_wire(data).question[0].name.to_text().lower() != "dns-hangs.test.":
            super()._reply(data, peer)


class World:
    """Domains, each with one host that does one thing wrong."""

    def __init__(self, stack: ExitStack, house: House, authority: Authority, directory: Path) -> None:
        self._stack, self._house, self._authority, self._directory = stack, house, authority, directory
        self.names = stack.enter_context(SignedServer())
        self.lines: list[str] = []
        self.routes: list[str] = []
        self.untried: set[str] = set()  # names of ways that keep mail from being tried at all
        self.late: set[str] = set()  # of those for which mail comes when all others are known
        self.ways: dict[str, str] = {}  # name of the transcript: domain (mail is for bob there), or a recipient
        house.control("dnsserver", f"{self.names.address}\n")

    def context(self, name: str, host: str = "relay.test") -> ssl.SSLContext:
        """That of a server with a certificate for `host`, by a CA that nobody knows."""
        return self._authority.server(host).server_context(self._directory / f"{name}.pem")

    def host(
        self,
        name: str,
        *,
        below: str = "test",
        tls: bool = True,
        context: ssl.SSLContext | None = None,
        line: str = "",
        **script: Do,
    ) -> str:
        """mx-NAME.BELOW for the domain NAME.BELOW."""
        domain, host, address = f"{name}.{below}", f"mx-{name}.{below}", fresh_address()
        if tls and context is None:
            context = self.context(name, host)
        self._stack.enter_context(FakeMx(dict(script), tls=context, host=address, port=25))
        self.names.mx(domain, host)
        self.names.host(host, address)
        if line:
            self.lines.append(f"{domain} {line}")
        self.ways[name] = domain
        return domain

    def silent(self, name: str) -> str:
        """mx-NAME.test for NAME.test, where nobody listens."""
        self.names.mx(f"{name}.test", f"mx-{name}.test")
        self.names.host(f"mx-{name}.test", fresh_address())
        self.ways[name] = f"{name}.test"
        return f"{name}.test"

    def relay(
        self,
        name: str,
        context: ssl.SSLContext | None,
        scheme: str = "",
        line: str = "",
        extensions: Sequence[str] = EXTENSIONS,
        **script: Do,
    ) -> str:
        """A relay at an address of its own for NAME.test; its route, as tlspolicy and authroutes name it."""
        address = fresh_address()
        mx = self._stack.enter_context(FakeMx(dict(script), tls=context, host=address, extensions=extensions))
        self.routes.append(f"{name}.test:{scheme}{address}:{mx.port}")
        self.ways[name] = f"{name}.test"
        if line:
            self.lines.append(f"[{address}]:{mx.port} {line}")
        return f"{address}:{mx.port}"

    def policy(self, domain: str, *mx: str) -> None:
        """An MTA-STS policy that is in the cache, as seen a moment ago."""
        now = time.time()
        cached = CachedPolicy(domain, "one", StsPolicy(StsMode.ENFORCE, 86_400, mx), now, now, now)
        StsFiles(self._house.home / "state/sts").write(cached)


def ways_to_wait(world: World, house: House, authority: Authority) -> None:
    """Every row of docs/tls.md's table of levels, and what is no matter of TLS."""
    stranger = authority.server("stranger.test")
    world.host("no-starttls", tls=False, line="encrypt")
    world.host("starttls-refused", line="encrypt", STARTTLS=Do(b"454 4.7.0 TLS not available\r\n"))
    world.host("handshake-cut", line="encrypt", handshake=Do(then="reset"))
    world.host("hung-up", line="encrypt", handshake=Do(then="close"))
    world.host("injected", line="encrypt", STARTTLS=Do(b"220 go\r\n250 mail.injected.test\r\n"))
    world.host("untrusted", line="verify")
    world.host("wrong-name", line="secure match=other.test tafile=ca.crt")
    world.host("pin-line", line=f'pin match=sha256:{sha256(stranger)} owner=ops reason="agreed by phone"')
    house.control(f"{world.host('pin-file')}.pem", stranger.pem)
    house.control(f"{world.host('pin-broken')}.pem", b"")
    world.host("post-quantum", line="encrypt pq=require groups=X25519:X25519MLKEM768")
    world.host("dane-absent", below="signed.test", line="dane-only")
    world.host("dane-unsigned", line="dane-only")
    world.host("dane-bogus", below="signed.test")
    world.names.records["_25._tcp.mx-dane-other.signed.test", "TLSA"] = [f"3 1 1 {'00' * 32}"]
    world.host("dane-other", below="signed.test")
    world.policy(world.host("sts-other-host"), "elsewhere.test")
    world.policy(world.host("sts-untrusted"), "mx-sts-untrusted.test")
    world.host("sts-absent", line="sts")
    world.host("greeting", connect=Do(b"554 5.3.2 not today\r\n"))
    world.host("greylisted", RCPT=Do(b"450 4.2.0 come back later\r\n"))
    world.silent("refused")
    world.names.mx("no-address.test", "mx-no-address.test")
    world.ways |= {"no-address": "no-address.test", "dns-failure": "dns-failure.test"}
    more_ways(world, house, authority)
    ways_of_dns(world, house, stranger)
    ways_of_a_session(world, house)


def more_ways(world: World, house: House, authority: Authority) -> None:
    """Rules with a date, downgrades, logins, other schemes, and what we do ourselves."""
    world.host("until", tls=False, line="encrypt until=2020-01-01 owner=ops")
    world.names.records["_25._tcp.mx-dane-stripped.signed.test", "TLSA"] = [f"3 1 1 {'00' * 32}"]
    world.host("dane-stripped", below="signed.test", tls=False)
    world.names.records["_25._tcp.mx-dane-unusable.signed.test", "TLSA"] = [f"1 1 1 {'00' * 32}"]
    world.host("dane-unusable", below="signed.test", tls=False)
    world.names.records["_25._tcp.mx-dane-unusable-sts.signed.test", "TLSA"] = [f"1 1 1 {'00' * 32}"]
    world.policy(world.host("dane-unusable-sts", below="signed.test"), "mx-dane-unusable-sts.signed.test")
    world.policy(world.host("sts-stripped", tls=False), "mx-sts-stripped.test")
    world.host("requiretls")
    old = world.context("old-tls")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    world.host("old-tls", context=old, line="encrypt protocols=TLSv1.3")
    strict = world.context("our-certificate")
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(cadata=Authority("another").pem.decode())
    world.host("our-certificate", context=strict, line="encrypt")
    house.control("clientcert.pem", authority.server("mx.test").bundle)
    verify, plain = "verify tafile=ca.crt match=relay.test", (*EXTENSIONS, "AUTH PLAIN")
    refuse = Do(b"535 5.7.8 wrong\r\n")
    logins = [
        world.relay("login-unverified", world.context("login-unverified")),
        world.relay("login-unknown", world.context("login-unknown"), line=verify),
        world.relay("login-refused", world.context("login-refused"), line=verify, extensions=plain, AUTH=refuse),
    ]
    house.control("authroutes", "".join(f"{one} printer secret\n" for one in logins)).chmod(0o600)
    world.relay("smtps-plain", None, "smtps:")
    world.routes.append("socket.test:lmtp:unix:/nowhere/lmtp")
    world.ways["socket"] = "socket.test"
    for name in ("held", "ruled", "paused"):
        world.silent(name)
    world.host("host-paused")
    house.control(
        "holds",
        'to=@ruled.test reason="ask ops"\ndestination=paused.test\ndestination=mx-host-paused.test until=2099-12-31\n',
    )
    world.untried |= {"ruled", "paused", "host-paused"}
    world.host("rate")
    house.control("destinations", "rate.test rate=1/d\nagain.test rate=1/d\nconnections.test connections=1\n")
    world.untried.add("rate")
    world.silent("resting")
    world.late.add("resting")


def ways_of_dns(world: World, house: House, stranger: Credential) -> None:
    """Names without addresses, and no answers."""
    names = world.names
    world.ways |= {name: f"{name}.test" for name in ("dns-hangs", "dns-host", "mx-no-host", "relay-no-address")}
    names.mx("dns-host.test", "mx-dns-host.test")
    names.records["mx-no-host.test", "MX"] = ["10 bad\\047name.test."]
    world.routes.append("relay-no-address.test:nowhere.test")
    names.mx(world.host("pin-no-address"), "mx1-pin-no-address.test", "mx-pin-no-address.test")
    house.control("mx1-pin-no-address.test.pem", stranger.pem)
    names.records["_mta-sts.sts-unreachable.test", "TXT"] = ['"v=STSv1; id=1"']
    names.host("mta-sts.sts-unreachable.test", fresh_address())
    world.host("sts-unreachable", line="sts")


def ways_of_a_session(world: World, house: House) -> None:
    """What hosts do in the middle of it, lines for them, and our own mailboxes."""
    house.control("timeoutremote", "15\n")  # for those that hang
    hang = Do(b"", then="hang")
    world.host("hangs", connect=hang)
    world.host("cut-off", content=Do(then="close"))
    world.host("no-end", DATA=Do(then="close"))
    world.host("again", RCPT=Do(b"450 4.2.0 come back later\r\n"))
    for name in ("connections", "window"):
        world.host(name, connect=hang)
        world.late.add(name)
    new = house.mailbox("bob") / "tmp"
    new.rmdir()
    new.write_bytes(b"")
    rmtree(house.mailbox("postmaster"))
    world.ways |= {"mailbox": "mx.test", "no-postmaster": "postmaster@mx.test"}


@pytest.fixture
def transcripts(house: House, authority: Authority, tmp_path: Path) -> Iterator[dict[str, str]]:
    """By the name of the way."""
    with ExitStack() as stack:
        world = World(stack, house, authority, tmp_path)
        house.control("ca.crt", authority.pem)
        ways_to_wait(world, house, authority)
        house.control("tlspolicy", "".join(f"{line}\n" for line in world.lines))
        world.host("marker")
        del world.ways["marker"]
        open_to_all(house, *world.routes).start()
        ids = {
            name: first_message(house, name, domain) for name, domain in world.ways.items() if name not in world.late
        }
        tried = len(ids) - len(world.untried)
        wait_for_reasons(house, tried)
        wait_for_handshakes(house)
        found = transcripts_of(house, {name: id for name, id in ids.items() if name not in LATER})
        found |= later_ways(house, ids, tried)
        yield found | ways_in_line(house) | ways_by_settings(house, ids)


def first_message(house: House, name: str, domain: str) -> str:
    if name == "requiretls":
        return post(house, Recipient(Address("bob", domain)), sender=Address("ann", "a.test"), requiretls=True)
    (id,) = hand_in(house, domain if "@" in domain else f"bob@{domain}")
    return id


def later_ways(house: House, ids: dict[str, str], tried: int) -> dict[str, str]:
    """Of mail that meets what earlier mail found."""
    house.qmtls("queue", "hold", ids["held"])
    (rate,) = hand_in(house, "carl@rate.test")  # the first of this day has gone
    hand_in(house, "bob@resting.test")
    wait_for_reasons(house, tried := tried + 1)
    (resting,) = hand_in(house, "carl@resting.test")  # well within a minute
    wait_for_reasons(house, tried := tried + 1)
    for n in range(3):  # after three in a row, with the first message, it rests
        (no_end,) = hand_in(house, f"carl{n}@no-end.test")
        wait_for_reasons(house, tried + n + 1)
    wait_for(lambda: len(last_handshakes(house, "no-end.test")) == 3, "its handshakes in the ledger")
    house.qmtls("queue", "retry", ids["again"])  # which stands in line until tomorrow
    now = {"held": ids["held"], "rate": rate, "resting": resting, "no-end": no_end, "due-again": ids["again"]}
    return transcripts_of(house, now)


def ways_in_line(house: House) -> dict[str, str]:
    """Hosts that hang, with all the connections that they may have."""
    last = {}
    for name, most in (("connections", 1), ("window", INITIAL)):
        last[name] = hand_in(house, f"carl@{name}.test", contents=[b"Subject: x\r\n\r\n"] * (most + 1))[-1]
    return transcripts_of(house, last)


def ways_by_settings(house: House, ids: dict[str, str]) -> dict[str, str]:
    """What a change of the settings keeps back."""
    assert house.stop() == 0  # which would see the changes at once, and may be busy with them
    found = {}
    for name, file, way in (
        ("remote-mail-off", "concurrencyremote", "refused"),
        ("local-mail-off", "concurrencylocal", "mailbox"),
        ("retests-off", "policyretest", "untrusted"),
    ):
        house.control(file, "0\n")
        found[name] = transcript(house, ids[way])
        house.control(file, None)
    return found


def wait_for_handshakes(house: House) -> None:
    """The ledger has all that was seen so far: it is written in order."""
    hand_in(house, "bob@marker.test")
    wait_for(lambda: last_handshakes(house, "marker.test"), "a handshake in the ledger")


def last_handshakes(house: House, domain: str) -> list[Handshake]:
    ledger = read_ledger(house.home / "state" / FILE)
    if ledger is None:
        return []
    with closing(ledger):
        return handshakes_for(ledger, domain, 0)


def transcripts_of(house: House, ids: dict[str, str]) -> dict[str, str]:
    """Several at a time: one of them asks a name server that never answers."""
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(ids, pool.map(partial(transcript, house), ids.values()), strict=True))


def transcript(house: House, id: str) -> str:
    text = house.qmtls("policy", "explain", id, status=1).stdout.replace(id, "ID")
    for pattern, word in REPLACED:
        text = pattern.sub(word, text)
    return text


def test_each_way_that_mail_can_wait(transcripts: dict[str, str]) -> None:
    if os.environ.get("WRITE_TRANSCRIPTS"):
        for name, text in transcripts.items():
            (TRANSCRIPTS / name).write_text(text)
    expected = {path.name: path.read_text() for path in TRANSCRIPTS.iterdir()}
    assert transcripts.keys() == expected.keys()
    for name, text in transcripts.items():
        assert text == expected[name], name
