"""Which host, and which connection, where TLS demands decide: evidence per host, and messages that differ in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qmtls.net.resolver import DnsTrouble
from qmtls.tls.dane import Tlsa
from qmtls.tls.pin import key_digest
from qmtls.tls.sts import StsMode, StsPolicy
from tests.net import certs
from tests.net.certs import Leaf
from tests.net.hosts import Host
from tests.service.office import Office, taken

ONE, TWO = certs.server("mx1.a.example"), certs.server("mx2.a.example")
RELAY = certs.server("relay.example")


def signed(office: Office, host: str, record: Tlsa | Exception, port: int = 25) -> None:
    owner = f"_{port}._tcp.{host}"
    office.names.secure |= {"a.example", host, owner}
    office.names.tlsa[owner] = record if isinstance(record, Exception) else (record,)


def ee(leaf: Leaf) -> Tlsa:
    return Tlsa(3, 1, 1, key_digest(leaf.cert))


def test_a_host_whose_records_cannot_be_had_leaves_the_mail_to_the_next(office: Office) -> None:
    first = office.host("mx1.a.example", Host(ONE))
    second = office.host("mx2.a.example", Host(TWO))
    signed(office, "mx1.a.example", DnsTrouble("DNS: SERVFAIL"))
    signed(office, "mx2.a.example", ee(TWO))
    office.post("x@a.example")
    office.run()
    assert not first.mail and [mail.tls for mail in second.mail] == [True]
    assert "dane" in office.said("delivered")[0]


def test_where_no_host_does_mail_waits_with_the_sentence_of_each(office: Office) -> None:
    office.host("mx1.a.example", Host(ONE))
    office.host("mx2.a.example", Host(TWO))
    signed(office, "mx1.a.example", DnsTrouble("DNS: SERVFAIL"))
    signed(office, "mx2.a.example", ee(ONE))
    id = office.post("x@a.example")
    office.run()
    (entry,) = office.history(id)
    reason = dict(entry.reasons)[0]
    assert "SERVFAIL" in reason and "matches no TLSA record at _25._tcp.mx2.a.example" in reason
    assert "status=4.7.5" in office.said("deferred")[0]


def test_hosts_that_the_domains_policy_does_not_name_are_passed_over(office: Office) -> None:
    office.policies.known["a.example"] = StsPolicy(StsMode.ENFORCE, 86400, ("mx3.a.example",))
    first = office.host("mx1.a.example", Host(ONE))
    id = office.post("x@a.example")
    office.run()
    assert not first.mail
    assert "mx1.a.example is passed over" in dict(office.history(id)[0].reasons)[0]


def test_connection_reuse_no_is_one_message_for_each_connection(tmp_path: Path) -> None:
    office = Office(tmp_path, {"tlspolicy": "a.example encrypt connection_reuse=no\n"})
    host = office.host("mx1.a.example", Host(ONE))
    for n in range(3):
        office.post(f"{n}@a.example")
        office.run()
    assert len(host.mail) == len(host.visits) == 3


def test_a_message_that_gives_up_evidence_opens_no_way_for_others(office: Office) -> None:
    """The same host, the same minute: only the message that said so goes without DANE."""
    host = office.host("mx1.a.example")
    signed(office, "mx1.a.example", ee(ONE))
    office.post("loose@a.example", tls_optional=True)
    office.run()
    waits = office.post("strict@a.example")
    office.run()
    assert taken(host) == ["loose@a.example"]
    assert not host.mail[0].tls
    assert "demands TLS" in dict(office.history(waits)[0].reasons)[0]


def test_nor_does_it_wait_for_what_others_demand(tmp_path: Path) -> None:
    office = Office(tmp_path, {"concurrencyremote": "1\n"})
    host = office.host("mx1.a.example")
    signed(office, "mx1.a.example", ee(ONE))
    for n in range(3):
        office.post(f"strict{n}@a.example")
        office.post(f"loose{n}@a.example", tls_optional=True)
    office.run()
    assert taken(host) == [f"loose{n}@a.example" for n in range(3)]
    assert len(office.said("deferred")) == 3


def test_at_a_relay_too(tmp_path: Path) -> None:
    office = Office(tmp_path, {"smtproutes": ":relay.example\n"})
    office.names.hosts["relay.example"] = "192.0.2.99"
    host = Host()
    office.reactor.hosts["192.0.2.99", 25] = host.accept
    signed(office, "relay.example", ee(RELAY))
    office.post("loose@b.example", tls_optional=True)
    office.run()
    office.post("strict@c.example")
    office.post("more@b.example", tls_optional=True)
    office.run()
    assert taken(host) == ["loose@b.example", "more@b.example"]


def test_domains_with_certificates_of_their_own_share_no_connection(tmp_path: Path) -> None:
    ours = certs.authority().leaf("ours").bundle
    office = Office(tmp_path, {"smtproutes": ":relay.example\n", "clientcerts/b.example.pem": ours})
    office.names.hosts["relay.example"] = "192.0.2.99"
    host = Host(RELAY)
    office.reactor.hosts["192.0.2.99", 25] = host.accept
    for domain in ("a.example", "b.example", "c.example", "b.example"):
        office.post(f"x@{domain}")
        office.run()
    assert [len(visit.host.mail) for visit in host.visits][:1] == [4]
    assert len(host.visits) == 2


def test_a_stall_is_not_remembered(tmp_path: Path) -> None:
    """The next message asks for TLS again."""
    office = Office(tmp_path)
    host = office.host("mx1.a.example", Host(ONE, handshake="close"))
    office.post("x@a.example")
    office.run()
    assert [mail.tls for mail in host.mail] == [False]
    office.pass_time(10)
    office.names.hosts["mx1.a.example"], healed = "192.0.2.77", replace(host, handshake="", visits=[], mail=[])
    office.reactor.hosts["192.0.2.77", 25] = healed.accept
    office.post("y@a.example")
    office.run()
    assert [mail.tls for mail in healed.mail] == [True]


def test_at_a_relay_each_domain_has_its_own_mta_sts_policy(tmp_path: Path) -> None:
    """One line for both, one relay for both: the channel of the one must not carry the mail of the other."""
    line = ".parent.example sts tafile=ca.crt\n"
    routes = ".parent.example:mx.relay.example\n"
    office = Office(tmp_path, {"ca.crt": certs.authority().pem, "tlspolicy": line, "smtproutes": routes})
    relay = office.host("mx.relay.example", Host(certs.server("mx.relay.example")))
    office.policies.known["a.parent.example"] = StsPolicy(StsMode.ENFORCE, 86400, ("mx.relay.example",))
    office.post("x@a.parent.example")
    office.run()
    assert taken(relay) == ["x@a.parent.example"]
    office.post("y@b.parent.example")
    office.run()
    assert taken(relay) == ["x@a.parent.example"]
    assert "there is no MTA-STS record at _mta-sts.b.parent.example" in office.said("deferred")[0]
