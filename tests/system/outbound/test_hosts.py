"""Which host gets the mail: MX records from a DNS server of the test, hosts on port 25 of loopback addresses.

The addresses are drawn from 127.0.0.0/8, so that several runs on one machine don't meet.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.dns import NameServer
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.pki import Authority

REFUSING = {"connect": Do(b"554 5.7.1 no service for you\r\n", then="close")}


def may_bind_port_25() -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((fresh_address(), 25))
        except OSError:
            return False
    return True


def fresh_address() -> str:
    return f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


pytestmark = pytest.mark.skipif(not may_bind_port_25(), reason="port 25 of loopback addresses cannot be bound here")


@pytest.fixture
def dns() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@pytest.fixture
def world(house: House, dns: NameServer) -> House:
    """A house that asks this DNS server; not started."""
    open_to_all(house).control("dnsserver", f"{dns.address}\n")
    house.control("timeoutconnect", "5\n")
    return house


def mx_host(dns: NameServer, name: str, **options: object) -> FakeMx:
    """A host with a name and an address of its own."""
    address = fresh_address()
    dns.host(name, address)
    return FakeMx(host=address, port=25, **options)  # type: ignore[arg-type]


def test_the_next_host_after_each_kind_of_failure(
    world: House, dns: NameServer, authority: Authority, tmp_path: Path
) -> None:
    dns.host("closed.test", fresh_address())  # nobody listens there
    dns.mx("dest.test", "closed.test", "nowhere.test", "refusing.test", "silent.test", "later.test", "good.test")
    dns.mx("other.test", "20 good.test", "10 closed.test")
    with (
        mx_host(dns, "refusing.test", script=REFUSING) as refusing,
        mx_host(dns, "silent.test", script={"EHLO": Do(then="close")}) as silent,
        mx_host(dns, "later.test", script={"RCPT": Do(b"450 4.2.0 later\r\n")}) as later,
        mx_host(dns, "good.test") as good,
    ):
        world.start()
        hand_in(world, "bob@dest.test")
        hand_in(world, "bob@other.test")
        messages = good.wait_for_messages(2)
    assert {message.recipients for message in messages} == {("bob@dest.test",), ("bob@other.test",)}
    assert [len(host.sessions) for host in (refusing, silent, later)] == [1, 1, 1]
    assert "RCPT TO:<bob@dest.test>" in later.commands
    world.wait_for_empty_queue()
    assert ("dest.test", "MX") in dns.asked


def test_when_no_host_is_left_mail_waits_and_every_host_is_named(world: House, dns: NameServer) -> None:
    dns.host("closed.test", fresh_address())
    dns.mx("dest.test", "closed.test", "refusing.test")
    with mx_host(dns, "refusing.test", script=REFUSING):
        world.start()
        hand_in(world, "bob@dest.test")
        reason = wait_for_reasons(world)["bob@dest.test"]["reason"]
    assert "closed.test" in reason
    assert "connection refused" in reason
    assert "refusing.test" in reason
    assert "554 5.7.1 no service for you" in reason


def test_clear_answers_return_mail_at_once_and_doubt_keeps_it(world: House, dns: NameServer) -> None:
    dns.records["null.test", "MX"] = ["0 ."]
    dns.mx("loop.test", "ourselves.test")
    dns.host("ourselves.test", "127.0.0.1")  # where this house listens
    dns.records["nothing.test", "TXT"] = ['"neither MX nor address"']
    dns.mx("later.test", "unknown-host.test")
    world.start()
    domains = {"null.test": "5.1.10", "loop.test": "5.4.6", "absent.test": "5.1.2", "nothing.test": "5.4.4"}
    for domain in domains:
        hand_in(world, f"bob@{domain}", sender="postmaster@mx.test")
    reports = world.wait_for_mail(len(domains))
    for domain, status in domains.items():
        (report,) = [r for r in reports if f"Final-Recipient: rfc822; bob@{domain}".encode() in r]
        assert f"Status: {status}\n".encode() in report
    hand_in(world, "bob@later.test")
    row = wait_for_reasons(world)["bob@later.test"]
    assert "no mail exchanger of later.test has an address (unknown-host.test)" in row["reason"]


@pytest.mark.parametrize("trouble", ["failing", "silent"])
def test_mail_waits_for_the_dns(world: House, dns: NameServer, trouble: str) -> None:
    dns.mx("dest.test", "good.test")
    setattr(dns, trouble, True)
    with mx_host(dns, "good.test") as good:
        world.start()
        (id,) = hand_in(world, "bob@dest.test")
        world.wait_for_log(f"deferred id={id} .*status=4.4.3 .*cannot be looked up now")
        setattr(dns, trouble, False)
        world.qmtls("queue", "retry", id)
        good.wait_for_messages()
    world.wait_for_empty_queue()


def test_a_pinned_host_is_the_only_one_that_counts(
    world: House, dns: NameServer, authority: Authority, tmp_path: Path
) -> None:
    server, other = authority.server("mx2.test"), authority.server("mx1.test")
    dns.mx("dest.test", "mx1.test", "mx2.test")
    with (
        mx_host(dns, "mx1.test", tls=other.server_context(tmp_path / "mx1.pem")) as first,
        mx_host(dns, "mx2.test", tls=server.server_context(tmp_path / "mx2.pem")) as second,
    ):
        world.control("mx2.test.pem", server.pem)
        world.start()
        hand_in(world, "bob@dest.test")
        (message,) = second.wait_for_messages()
        assert message.session.tls
        assert message.session.sni == "mx2.test"
        assert not first.sessions

        # Its key changes: mail waits, although an unpinned host would take it.
        before = len(world.log())
        world.control("mx2.test.pem", authority.server("mx2.test").pem)
        world.wait_for_log("reloaded ", after=before)
        hand_in(world, "bob@dest.test")
        reason = wait_for_reasons(world)["bob@dest.test"]["reason"]
        assert "mx2.test" in reason
        assert "pin file control/mx2.test.pem does not pin" in reason
        assert not first.sessions


def test_a_failed_tls_demand_goes_to_the_next_host(
    world: House, dns: NameServer, authority: Authority, tmp_path: Path
) -> None:
    """A pin for the domain holds for every host of it: the one that meets it gets the mail."""
    server, other = authority.server("mx2.test"), authority.server("mx1.test")
    dns.mx("dest.test", "mx0.test", "mx1.test", "mx2.test")
    with (
        mx_host(dns, "mx0.test") as plain,
        mx_host(dns, "mx1.test", tls=other.server_context(tmp_path / "mx1.pem")) as wrong,
        mx_host(dns, "mx2.test", tls=server.server_context(tmp_path / "mx2.pem")) as right,
    ):
        world.control("dest.test.pem", server.pem)
        world.start()
        hand_in(world, "bob@dest.test")
        right.wait_for_messages()
    assert not [command for host in (plain, wrong) for command in host.commands if "MAIL" in command]
    world.wait_for_empty_queue()


def test_the_address_of_a_domain_without_mx_and_an_address_literal(world: House, dns: NameServer) -> None:
    with mx_host(dns, "implicit.test") as host:
        address = dns.records["implicit.test", "A"][0]
        world.start()
        hand_in(world, "bob@implicit.test", f"bob@[{address}]")
        messages = host.wait_for_messages(2)
    assert {m.recipients[0] for m in messages} == {"bob@implicit.test", f"bob@[{address}]"}


def test_another_dns_server_is_asked_after_a_reload(world: House, dns: NameServer) -> None:
    dns.mx("dest.test", "old.test")
    with NameServer() as other, mx_host(dns, "old.test") as old, mx_host(other, "new.test") as new:
        other.mx("dest.test", "new.test")
        world.start()
        hand_in(world, "bob@dest.test")
        old.wait_for_messages()
        world.control("dnsserver", f"{other.address}\n")
        world.reload()
        hand_in(world, "bob@dest.test")
        new.wait_for_messages()
