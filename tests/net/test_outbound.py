"""From a next hop to an open channel: what each level of TLS does with each fact, and which hosts are tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred

from qmtls.delivery.outcome import Fate
from qmtls.delivery.plan import NextHop
from qmtls.net.channel import HANDSHAKE_SECONDS, Channel
from qmtls.net.hostlookup import PATIENCE
from qmtls.net.outbound import HostFailed
from qmtls.net.targets import MOST_QUESTIONS, Target, Unreachable
from tests.net import certs
from tests.net.certs import Leaf, authority
from tests.net.doubles import TROUBLE
from tests.net.hosts import CLOSE, HANG, Host
from tests.net.house import Files
from tests.net.wayout import ADDRESS, HOP, TARGET, WayOut
from tests.net.wire import HANG as NO_ANSWER

MX = "mx.there.example"
GOOD = authority().leaf("mx", names=[MX, "there.example"], use=certs.SERVER)
OTHER_KEY = authority("another").leaf("mx", names=[MX, "there.example"])

# ---------------------------------------------------------------- levels and facts

FACTS: dict[str, Callable[[], Host]] = {
    "no starttls": Host,
    "handshake fails": lambda: Host(GOOD, handshake="no handshake at all\r\n"),
    "handshake closed": lambda: Host(GOOD, handshake=CLOSE),
    "handshake hangs": lambda: Host(GOOD, handshake=HANG),
    "injected": lambda: Host(GOOD, inject=b"250 injected\r\n"),
    "starttls hangs": lambda: Host(GOOD, replies={"STARTTLS": HANG}),
    "starttls 421": lambda: Host(GOOD, replies={"STARTTLS": "421 busy"}),
    "starttls 454": lambda: Host(GOOD, replies={"STARTTLS": "454 not now"}),
    "starttls 502": lambda: Host(GOOD, replies={"STARTTLS": "502 what"}),
    "other CA": lambda: Host(OTHER_KEY),
    "other name": lambda: Host(authority().leaf("mx", names=["mx.else.example"])),
    "expired": lambda: Host(authority().leaf("mx", names=[MX, "there.example"], days=-1)),
    "no names": lambda: Host(authority().leaf(MX)),
    "address as a name": lambda: Host(authority().leaf(MX, names=[ADDRESS])),
    "malformed names": lambda: Host(authority().leaf(MX, san_der=b"\x30\x82\xff\xff\x82\x01x")),
    "a NUL in the name": lambda: Host(authority().leaf(MX, san_der=san(MX.encode() + b"\0.evil.example"))),
    "unreadable": lambda: Host(GOOD, context=certs.odd_context(GOOD)),
    "good": lambda: Host(GOOD),
}


def san(name: bytes) -> bytes:
    return b"\x30" + bytes([len(name) + 2]) + b"\x82" + bytes([len(name)]) + name


def line(text: str) -> Callable[[Path], Files]:
    def files(path: Path) -> Files:
        anchors = path / "anchors.pem"
        anchors.write_bytes(authority().pem)
        return {"tlspolicy": f"there.example {text}\n".replace("CA", f"tafile={anchors}")}

    return files


LEVELS: dict[str, Callable[[Path], Files]] = {
    "none": line("none"),
    "may": line("may"),
    "encrypt": line("encrypt"),
    "verify": line("verify CA"),
    "secure": line("secure CA"),
    "pin a key": lambda path: {f"{MX}.pem": GOOD.pem},
    "pin a CA": lambda path: {f"tlshosts/{MX}.pem": authority().pem},
}

# What becomes of it: "plain" on the same connection, "again" in plaintext on a new one, "tls", "wait" and its status.
SEND = dict.fromkeys(FACTS, "tls")
BROKEN = ("handshake fails", "handshake closed", "handshake hangs", "injected", "starttls hangs", "starttls 421")
NONE = ("no starttls", "starttls 454", "starttls 502")
NAMELESS = ("other name", "no names", "address as a name", "malformed names", "a NUL in the name", "unreadable")
OFFERED = {
    **SEND,
    **dict.fromkeys(("no starttls", "starttls 454", "starttls 502", "starttls hangs", "starttls 421"), "wait 4.7.4"),
    **dict.fromkeys(("handshake fails", "handshake closed", "handshake hangs"), "wait 4.7.5"),
    "injected": "wait 4.7.4",
}
CHAINED = {**OFFERED, **dict.fromkeys(("other CA", "expired", *NAMELESS), "wait 4.7.5")}
TABLE: dict[str, dict[str, str]] = {
    "none": dict.fromkeys(FACTS, "plain"),
    "may": {**SEND, **dict.fromkeys(NONE, "plain"), **dict.fromkeys(BROKEN, "again")},
    "encrypt": OFFERED,
    "verify": CHAINED,
    "secure": CHAINED,
    "pin a key": CHAINED,
    "pin a CA": CHAINED,
}


@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects")
def test_the_table(tmp_path: Path, level: str, fact: str) -> None:
    """The table of docs/tls.md, cell by cell, against real handshakes."""
    way = WayOut(tmp_path / "control", LEVELS[level](tmp_path))
    host = way.host(FACTS[fact]())
    found = way.dial()
    way.reactor.pass_time(HANDSHAKE_SECONDS * 3, 5)
    (result,) = found
    expected = TABLE[level][fact]
    if expected.startswith("wait"):
        assert isinstance(result, HostFailed), result
        assert result.tls
        assert expected == f"wait {result.status}"
        assert MX in str(result) and "control/" in str(result)
        assert len(host.visits) == 1, "no second connection, least of all a plaintext one"
        assert all(visit.lost for visit in host.visits)
    else:
        assert isinstance(result, Channel), result
        assert len(host.visits) == (2 if expected == "again" else 1)
        visit = host.visits[-1]
        assert visit.tls == (expected == "tls")
        assert visit.verbs == (["EHLO", "STARTTLS", "EHLO"] if expected == "tls" else visit.verbs)
        if expected == "again":
            assert visit.verbs == ["EHLO"]
            assert any("tls fallback" in line for line in way.log)
        if level == "none":
            assert visit.verbs == ["EHLO"]
    for visit in host.visits:
        assert "MAIL" not in visit.verbs


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(LEVELS)
    assert all(set(row) == set(FACTS) for row in TABLE.values())


def test_a_fallback_that_fails_too_is_a_failed_host(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {})
    host = way.host(Host(GOOD, handshake=CLOSE))
    host.greeting = "220 there"
    found = way.dial()
    assert isinstance(found[0], Channel)
    host.greeting = "421 enough"
    (result,) = way.dial()
    assert isinstance(result, HostFailed)
    assert not result.tls
    assert "421 enough" in str(result)


def test_a_key_pin_asks_for_neither_name_nor_date_nor_ca(tmp_path: Path) -> None:
    leaf = authority("another").leaf("x", names=["unlike.example"], days=-1)
    way = WayOut(tmp_path, {f"{MX}.pem": leaf.pem})
    way.host(Host(leaf))
    (channel,) = way.dial()
    assert isinstance(channel, Channel)
    assert channel.tls.endswith(" pin")


def test_a_domain_pin_holds_for_whatever_host(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {"there.example.pem": authority().pem})
    way.host(Host(GOOD))
    assert isinstance(way.dial(Target("any.else.example", ADDRESS, 25))[0], Channel)
    way.host(Host(authority().leaf(names=["any.else.example"])))
    assert isinstance(way.dial(Target("any.else.example", ADDRESS, 25))[0], HostFailed)


def test_an_unusable_pin_file_makes_no_connection(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {f"{MX}.pem": "garbage\n"})
    host = way.host(Host(GOOD))
    (result,) = way.dial()
    assert isinstance(result, HostFailed) and result.tls
    assert "cannot be used" in str(result)
    assert not host.visits


def test_the_host_is_told_whom_we_mean(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {})
    host = way.host(Host(GOOD))
    way.dial()
    assert host.visits[0].server_name == MX
    way.dial(Target(ADDRESS, ADDRESS, 25))
    assert host.visits[1].server_name is None


def test_our_certificate_is_shown(tmp_path: Path) -> None:
    own = authority().leaf("client", email="us@mail.example.org")
    way = WayOut(tmp_path, {"clientcert.pem": own.bundle})
    shown: set[object] = set()

    def see(conn: SSL.Connection, cert: X509, *_: int) -> bool:
        shown.add(cert.to_cryptography())
        return True

    context = certs.context(GOOD)
    context.set_verify(SSL.VERIFY_PEER, see)
    way.host(Host(GOOD, context=context))
    way.dial()
    assert shown == {own.cert}


@pytest.mark.parametrize(("level", "again"), [("may", True), ("encrypt", False)])
def test_a_host_that_refuses_our_certificate(tmp_path: Path, level: str, again: bool) -> None:
    """With TLS 1.3 the client hears of it only after its side of the handshake is done."""

    way = WayOut(tmp_path, {"tlspolicy": f"there.example {level}\n"})
    context = certs.context(GOOD)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    host = way.host(Host(GOOD, context=context))
    (result,) = way.dial()
    if again:
        assert isinstance(result, Channel)
        assert [v.tls for v in host.visits] == [False, False]
    else:
        assert isinstance(result, HostFailed) and result.tls
        assert len(host.visits) == 1


def test_an_old_protocol_does_not_meet_a_demand_for_a_new_one(tmp_path: Path) -> None:

    way = WayOut(tmp_path, {"tlspolicy": "there.example encrypt protocols=TLSv1.3\n"})
    way.host(Host(GOOD, context=certs.context(GOOD, newest=SSL.TLS1_2_VERSION)))
    (result,) = way.dial()
    assert isinstance(result, HostFailed) and result.tls
    way.host(Host(GOOD))
    assert isinstance(way.dial()[0], Channel)


# ---------------------------------------------------------------- a host that does not work


@pytest.mark.parametrize("greeting", ["421 busy", "554 go away", CLOSE, HANG, "hello"])
def test_a_greeting_that_is_not_2xx(tmp_path: Path, greeting: str) -> None:
    way = WayOut(tmp_path, {"timeoutremote": "20\n"})
    host = way.host(Host(greeting=greeting))
    found = way.dial()
    way.reactor.pass_time(30, 5)
    (result,) = found
    assert isinstance(result, HostFailed)
    assert result.status == "4.4.2" and not result.tls
    assert str(result).startswith(f"{MX} ({ADDRESS}")
    if greeting[0].isdigit():
        assert greeting in str(result)
    assert host.visits[0].lost


@pytest.mark.parametrize("reply", ["451 no", CLOSE, HANG, "nonsense"])
def test_an_ehlo_that_fails(tmp_path: Path, reply: str) -> None:
    way = WayOut(tmp_path, {"timeoutremote": "20\n"})
    way.host(Host(replies={"EHLO": reply}))
    found = way.dial()
    way.reactor.pass_time(30, 5)
    assert isinstance(found[0], HostFailed)


def test_ehlo_unknown_helo_known(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {})
    host = way.host(Host(GOOD, replies={"EHLO": "502 what"}))
    (channel,) = way.dial()
    assert isinstance(channel, Channel)
    assert host.said() == ["EHLO", "HELO"]
    way.load({"tlspolicy": "there.example encrypt\n"})
    assert isinstance(way.dial()[0], HostFailed)


def test_nobody_there(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {"timeoutconnect": "7\n"})
    (result,) = way.dial()
    assert isinstance(result, HostFailed)
    assert str(result) == f"{MX} ({ADDRESS}) cannot be connected to: connection refused"
    way.reactor.hosts[ADDRESS, 25] = NO_ANSWER
    found = way.dial()
    way.reactor.pass_time(6.5)
    assert not found
    way.reactor.pass_time(1)
    assert isinstance(found[0], HostFailed)
    assert "cannot be connected to" in str(found[0])
    assert not way.reactor.getDelayedCalls()


def test_a_host_that_dies_in_the_handshake_leaves_no_timer(tmp_path: Path) -> None:
    way = WayOut(tmp_path, {"tlspolicy": "there.example encrypt\n"})
    way.host(Host(GOOD, handshake=CLOSE))
    assert isinstance(way.dial()[0], HostFailed)
    assert not way.reactor.getDelayedCalls()


# ---------------------------------------------------------------- which hosts


def way_to(tmp_path: Path, mail: object, hosts: dict[str, object], files: Files | None = None) -> WayOut:
    way = WayOut(tmp_path, files)
    way.names.mail["there.example"] = mail
    way.names.hosts.update(hosts)
    return way


def names_of(found: list[Target] | Unreachable) -> list[str]:
    assert isinstance(found, list), found
    return [f"{t.name} {t.address}" for t in found]


def failed(found: object, fate: Fate, status: str) -> str:
    assert isinstance(found, Unreachable), found
    assert (found.outcome.fate, found.outcome.status) == (fate, status)
    return found.outcome.reason


def test_hosts_in_order(tmp_path: Path) -> None:
    records = [(20, "b.example"), (10, "a.example"), (30, "gone.example")]
    way = way_to(tmp_path, records, {"a.example": ("192.0.2.1", "2001:db8::1"), "b.example": "192.0.2.2"})
    assert names_of(way.targets()) == ["a.example 192.0.2.1", "a.example 2001:db8::1", "b.example 192.0.2.2"]


def test_no_mx_means_the_domain_itself(tmp_path: Path) -> None:
    assert names_of(way_to(tmp_path, [], {"there.example": "192.0.2.1"}).targets()) == ["there.example 192.0.2.1"]


def test_clear_answers_are_permanent(tmp_path: Path) -> None:
    way = WayOut(tmp_path)
    assert "does not exist" in failed(way.targets(), Fate.FAILED, "5.1.2")
    way.names.mail["there.example"] = [(0, "")]
    failed(way.targets(), Fate.FAILED, "5.1.10")
    way.names.mail["there.example"] = []
    failed(way.targets(), Fate.FAILED, "5.4.4")
    failed(way.targets(NextHop("[nonsense]")), Fate.FAILED, "5.1.2")


def test_doubt_is_temporary(tmp_path: Path) -> None:
    way = way_to(tmp_path, TROUBLE, {})
    failed(way.targets(), Fate.DEFERRED, "4.4.3")
    way.names.mail["there.example"] = [(10, "a.example")]
    failed(way.targets(), Fate.DEFERRED, "4.4.4")  # a host without an address: somebody may mend that
    way.names.mail["there.example"] = [(10, "not a host name!")]
    failed(way.targets(), Fate.DEFERRED, "4.4.4")
    way.names.mail["there.example"] = [(10, "there.example")]
    failed(way.targets(), Fate.DEFERRED, "4.4.4")
    way.names.mail["there.example"] = []
    way.names.hosts["there.example"] = TROUBLE
    failed(way.targets(), Fate.DEFERRED, "4.4.3")


def test_trouble_with_one_host_is_no_trouble_with_the_others(tmp_path: Path) -> None:
    records = [(10, "a.example"), (20, "b.example")]
    way = way_to(tmp_path, records, {"a.example": TROUBLE, "b.example": "192.0.2.2"})
    assert names_of(way.targets()) == ["b.example 192.0.2.2"]
    way.names.hosts["b.example"] = ()
    failed(way.targets(), Fate.DEFERRED, "4.4.3")


def test_trouble_with_our_own_name_might_be_a_loop(tmp_path: Path) -> None:
    records = [(10, "mail.example.org"), (20, "b.example")]
    way = way_to(tmp_path, records, {"mail.example.org": TROUBLE, "b.example": "192.0.2.2"})
    failed(way.targets(), Fate.DEFERRED, "4.4.3")


def test_the_list_ends_at_ourselves(tmp_path: Path) -> None:
    records = [(10, "a.example"), (20, "us.example"), (30, "c.example")]
    hosts = {"a.example": "192.0.2.1", "us.example": "192.0.2.99", "c.example": "192.0.2.3"}
    way = way_to(tmp_path, records, dict(hosts))
    way.own = frozenset({"192.0.2.99"})
    assert names_of(way.targets()) == ["a.example 192.0.2.1"]
    way.names.mail["there.example"] = records[1:]
    failed(way.targets(), Fate.FAILED, "5.4.6")


def test_a_name_that_hangs_does_not_keep_mail_from_the_other_hosts(tmp_path: Path) -> None:
    hangs: Deferred[object] = Deferred()
    records = [(10, "hangs.example"), (20, "b.example"), (30, "c.example")]
    way = way_to(tmp_path, records, {"hangs.example": hangs, "b.example": "192.0.2.2", "c.example": "192.0.2.3"})
    found = way.result(way.dialer.targets(HOP, way.snapshot))
    assert not found, "the best host is waited for"
    way.reactor.advance(PATIENCE)
    assert names_of(found[0]) == ["b.example 192.0.2.2", "c.example 192.0.2.3"]
    way.names.hosts["c.example"] = Deferred()
    way.names.hosts["hangs.example"] = ()
    found = way.result(way.dialer.targets(HOP, way.snapshot))
    way.reactor.advance(PATIENCE)
    assert names_of(found[0]) == ["b.example 192.0.2.2"]


def test_where_no_host_can_be_used_the_one_that_hangs_is_waited_for(tmp_path: Path) -> None:
    hangs: Deferred[object] = Deferred()
    records = [(10, "hangs.example"), (20, "us.example"), (30, "c.example")]
    hosts = {"hangs.example": hangs, "us.example": "192.0.2.99", "c.example": ()}
    way = way_to(tmp_path, records, hosts)
    way.own = frozenset({"192.0.2.99"})
    found = way.result(way.dialer.targets(HOP, way.snapshot))
    way.reactor.advance(10 * PATIENCE)
    assert not found
    hangs.callback("192.0.2.1")
    assert names_of(found[0]) == ["hangs.example 192.0.2.1"]


@pytest.mark.parametrize("ours", ["192.0.2.99", "0.0.0.0", "::ffff:192.0.2.99"])
def test_a_host_that_comes_after_ourselves_is_none_to_begin_with(tmp_path: Path, ours: str) -> None:
    """We are a backup: the host that mail is to go to is waited for, as if the other backup were not there."""
    hangs: Deferred[object] = Deferred()
    records = [(10, "hangs.example"), (20, "us.example"), (30, "c.example")]
    way = way_to(tmp_path, records, {"hangs.example": hangs, "us.example": ours, "c.example": "192.0.2.3"})
    way.own = frozenset({"192.0.2.99"})
    found = way.result(way.dialer.targets(HOP, way.snapshot))
    way.reactor.advance(10 * PATIENCE)
    assert not found
    hangs.callback("192.0.2.1")
    assert names_of(found[0]) == ["hangs.example 192.0.2.1"]


def test_no_host_is_looked_up_beside_another_while_too_much_is_under_way(tmp_path: Path) -> None:
    records = [(10, "hangs.example"), (20, "b.example")]
    way = way_to(tmp_path, records, {"hangs.example": Deferred(), "b.example": "192.0.2.2"})
    way.names.under_way = MOST_QUESTIONS
    assert not way.result(way.dialer.targets(HOP, way.snapshot))
    assert way.names.asked == ["there.example", "hangs.example"]


PINNED: Files = {"tlshosts/a.example.pem": GOOD.pem}
TWO = [(10, "a.example"), (20, "b.example")]


def test_only_pinned_hosts_where_one_is_pinned(tmp_path: Path) -> None:
    way = way_to(tmp_path, TWO, {"a.example": "192.0.2.1", "b.example": "192.0.2.2"}, PINNED)
    assert names_of(way.targets()) == ["a.example 192.0.2.1"]
    way.names.hosts["a.example"] = ()
    assert "pinned" in failed(way.targets(), Fate.DEFERRED, "4.4.4")
    way.names.hosts["a.example"] = TROUBLE
    failed(way.targets(), Fate.DEFERRED, "4.4.3")


def test_a_pin_for_the_domain_holds_for_all_hosts(tmp_path: Path) -> None:
    files = {**PINNED, "there.example.pem": GOOD.pem}
    way = way_to(tmp_path, TWO, {"a.example": "192.0.2.1", "b.example": "192.0.2.2"}, files)
    assert len(names_of(way.targets())) == 2


def test_a_relay(tmp_path: Path) -> None:
    way = WayOut(tmp_path)
    way.names.hosts["relay.example"] = ("192.0.2.7", "192.0.2.8")
    hop = NextHop("there.example", "relay.example", 2525)
    found = way.targets(hop)
    assert names_of(found) == ["relay.example 192.0.2.7", "relay.example 192.0.2.8"]
    assert isinstance(found, list) and found[0].port == 2525
    assert "there.example" not in way.names.asked
    assert names_of(way.targets(NextHop("there.example", "192.0.2.9", 26))) == ["192.0.2.9 192.0.2.9"]
    failed(way.targets(NextHop("there.example", "gone.example")), Fate.DEFERRED, "4.4.4")
    way.names.hosts["sick.example"] = TROUBLE
    failed(way.targets(NextHop("there.example", "sick.example")), Fate.DEFERRED, "4.4.3")


def test_an_address_literal(tmp_path: Path) -> None:
    way = WayOut(tmp_path)
    assert way.targets(NextHop("[192.0.2.1]")) == [Target("", "192.0.2.1", 25)]
    assert way.targets(NextHop("[IPv6:2001:db8::1]")) == [Target("", "2001:db8::1", 25)]
    assert not way.names.asked


def test_how_a_target_reads() -> None:
    assert str(TARGET) == f"{MX} ({ADDRESS})"
    assert str(Target("", "192.0.2.1", 25)) == "192.0.2.1"
    assert str(Target("a.example", "192.0.2.1", 26)) == "a.example (192.0.2.1:26)"
    assert HOP.domain == "there.example"


def test_ipv6(tmp_path: Path) -> None:
    way = WayOut(tmp_path)
    way.host(Host(), "2001:db8::1")
    assert isinstance(way.dial(Target(MX, "2001:db8::1", 25))[0], Channel)


def leaf_named(*names: str) -> Leaf:
    return authority().leaf(names=names)


def test_a_route_may_demand_for_itself(tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_bytes(authority().pem)
    way = WayOut(tmp_path / "control", {"tlspolicy": f"[relay.example]:2525 secure tafile={anchors}\n"})
    hop = NextHop("there.example", "relay.example", 2525)
    target = Target("relay.example", ADDRESS, 2525)
    way.host(Host(leaf_named("relay.example")), port=2525)
    assert isinstance(way.dial(target, hop)[0], Channel)
    way.host(Host(leaf_named("there.example")), port=2525)
    assert isinstance(way.dial(target, hop)[0], HostFailed)


@pytest.mark.parametrize("segment", range(1, 25))
@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_a_reply_injected_behind_starttls_in_any_segments(tmp_path: Path, level: str, segment: int) -> None:
    """Nothing that came in plaintext is ever taken for the first word inside TLS."""
    way = WayOut(tmp_path, {"tlspolicy": f"there.example {level}\n"})
    way.reactor.segment = segment
    host = way.host(Host(GOOD, inject=b"250-mx\r\n250 INJECTED\r\n"))
    found = way.dial()
    way.reactor.pass_time(5)
    (result,) = found
    if level == "encrypt":
        assert isinstance(result, HostFailed) and result.tls
        assert len(host.visits) == 1
    else:
        assert isinstance(result, Channel)
        assert "INJECTED" not in result.session.extensions
        assert [visit.tls for visit in host.visits] == [False, False]
