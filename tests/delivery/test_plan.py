"""Recipients into jobs by next hop, and the search for a route."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.plan import MAX_RECIPIENTS_PER_JOB, Job, NextHop, jobs, literal_address, next_hop
from qmtls.delivery.routes import Route, Routing
from qmtls.recipients import VirtualDomains
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.tls.policy import Origin

HERE = Origin("control/smtproutes", 1)


def envelope(*domains: str) -> Envelope:
    recipients = tuple(Recipient(Address(f"u{n}", domain)) for n, domain in enumerate(domains))
    return Envelope(Address("a", "client.example"), recipients, Arrival(0.0))


ROUTES = Routing(
    locals=frozenset({"here.example"}),
    routes={
        "a.example": Route("relay.example", 2525, HERE),
        ".example": Route("parent.example", 25, HERE),
        ".b.example": Route("below.example", 25, HERE),
        "direct.example": Route("", 25, HERE),
        "here.example": Route("never.example", 25, HERE),
    },
)


@pytest.mark.parametrize(
    ("domain", "hop"),
    [
        ("a.example", NextHop("a.example", "relay.example", 2525)),
        ("x.a.example", NextHop("x.a.example", "parent.example")),
        ("b.example", NextHop("b.example", "parent.example")),
        ("x.b.example", NextHop("x.b.example", "below.example")),
        ("y.x.b.example", NextHop("y.x.b.example", "below.example")),
        ("direct.example", NextHop("direct.example")),
        ("example", NextHop("example")),
        ("else.test", NextHop("else.test")),
        ("[192.0.2.1]", NextHop("[192.0.2.1]")),
    ],
)
def test_next_hop(domain: str, hop: NextHop) -> None:
    assert next_hop(domain, ROUTES) == hop


def test_the_route_for_all_the_rest_comes_last() -> None:
    rest = Route("smart.example", 587, HERE)
    everything = Routing(routes={"": rest, ".a.example": Route("", 25, HERE)})
    assert everything.route_for("b.example") is rest
    assert next_hop("[192.0.2.1]", everything) == NextHop("[192.0.2.1]", "smart.example", 587)
    assert next_hop("x.a.example", everything) == NextHop("x.a.example")
    assert Routing().route_for("b.example") is None


def test_recipients_of_one_domain_share_a_job_in_their_order() -> None:
    made = jobs(envelope("B.example", "a.test", "b.example.", "here.example", "a.test"), range(5), ROUTES)
    assert made == (
        Job(NextHop("b.example", "parent.example"), (0, 2)),
        Job(NextHop("a.test"), (1, 4)),
        Job(NextHop("here.example", local=True), (3,)),
    )


def test_what_is_delivered_here() -> None:
    virtual = VirtualDomains({"v.example": "v", "out@v.example": "", ".a.example": "a"})
    routing = Routing(frozenset({"here.example"}), ROUTES.routes, virtual)
    words = ("u@Here.example.", "u@v.example", "out@v.example", "u@x.a.example", "U@V.example", "u@a.example", "u@")
    paths = [Address(*word.split("@")) for word in words]
    assert [routing.is_local(path) for path in paths] == [True, True, False, True, True, False, True]
    message = Envelope(None, tuple(Recipient(path) for path in paths), Arrival(0.0))
    assert jobs(message, range(len(paths)), routing) == (
        Job(NextHop("here.example", local=True), (0,)),
        Job(NextHop("v.example", local=True), (1, 4)),
        Job(NextHop("v.example", "parent.example"), (2,)),
        Job(NextHop("x.a.example", local=True), (3,)),
        Job(NextHop("a.example", "relay.example", 2525), (5,)),
        Job(NextHop("", local=True), (6,)),
    )


def test_many_recipients_of_one_domain_are_cut_into_jobs() -> None:
    made = jobs(envelope(*["a.test"] * 250), range(250), Routing())
    assert [job.recipients for job in made] == [tuple(range(100)), tuple(range(100, 200)), tuple(range(200, 250))]


def test_only_the_pending_are_tried() -> None:
    assert jobs(envelope("a.test", "b.test", "a.test"), (2,), Routing()) == (Job(NextHop("a.test"), (2,)),)
    assert jobs(envelope("a.test"), (), Routing()) == ()


def test_domains_behind_one_relay_stay_apart_because_pins_go_by_domain() -> None:
    smart = Routing(routes={"": Route("smart.example", 25, HERE)})
    assert [job.next_hop.domain for job in jobs(envelope("a.test", "b.test"), (0, 1), smart)] == ["a.test", "b.test"]


def test_guarded_mail_has_next_hops_of_its_own() -> None:
    """REQUIRETLS is a demand, and connections are shared under one demand only. Our own mailboxes meet it."""
    message = replace(envelope("a.test", "a.example", "here.example"), requiretls=True)
    assert [job.next_hop for job in jobs(message, range(3), ROUTES)] == [
        NextHop("a.test", requiretls=True),
        NextHop("a.example", "relay.example", 2525, requiretls=True),
        NextHop("here.example", local=True),
    ]


def test_tls_required_no_is_told_to_the_next_hop_unless_the_message_demands_tls() -> None:
    message = replace(envelope("a.test", "a.example", "here.example"), tls_optional=True)
    assert [job.next_hop for job in jobs(message, range(3), ROUTES)] == [
        NextHop("a.test", tls_optional=True),
        NextHop("a.example", "relay.example", 2525, tls_optional=True),
        NextHop("here.example", local=True),
    ]
    both = replace(message, requiretls=True)
    assert jobs(both, [0], ROUTES)[0].next_hop == NextHop("a.test", requiretls=True)


@given(st.lists(st.sampled_from(["a.test", "b.test", "here.example", "c.a.example"]), max_size=350))
def test_every_recipient_is_in_exactly_one_job(domains: list[str]) -> None:
    message = envelope(*domains)
    made = jobs(message, range(len(domains)), ROUTES)
    assert sorted(index for job in made for index in job.recipients) == list(range(len(domains)))
    for job in made:
        assert 0 < len(job.recipients) <= MAX_RECIPIENTS_PER_JOB
        assert {domains[index] for index in job.recipients} == {job.next_hop.domain}
        assert list(job.recipients) == sorted(job.recipients)


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[ipv6:2001:db8:0:0::1]", "2001:db8::1"),
        ("[IPv6:::1]", "::1"),
        ("[2001:db8::1]", ""),
        ("[ipv6:192.0.2.1]", ""),
        ("[ipv6:fe80::1%eth0]", ""),
        ("[192.0.2.256]", ""),
        ("[192.0.2.01]", ""),
        ("[host.example]", ""),
        ("[]", ""),
        ("192.0.2.1", ""),
        ("a.example", ""),
    ],
)
def test_literal_address(domain: str, address: str) -> None:
    assert literal_address(domain) == address
