from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.access import AccessRules, Peer, Permit, Refuse, decide_recipient, decide_sender
from qmtls.smtp.address import Address
from qmtls.smtp.events import Transaction
from qmtls.tls.clients import ClientMatch, ClientRule
from qmtls.tls.policy import Origin

RULES = AccessRules(
    locals=frozenset({"here.example", "local.example"}),
    rcpt_hosts=frozenset({"here.example", "backup.example", ".parent.example"}),
    networks=tuple(map(ip_network, ("192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32", "2001:db8::/32"))),
    bad_mail_from=frozenset({"spam@bad.example", "@worse.example"}),
    local_ip_host="here.example",
    postmaster_host="here.example",
)
RULE = ClientRule("email", "alice@example.org", Origin("control/tlsclients", 1), "Alice@Example.org")
STRANGER = Peer("203.0.113.9", False, None, local_address="203.0.113.1")
NOW = 1_800_000_000.0
SENDER = Address("a", "client.example")
BASE = "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts"


def address(text: str) -> Address:
    local_part, _, domain = text.rpartition("@")
    return Address(local_part, domain) if local_part else Address(domain, "")


class Desk:
    """The world outside: users `user` and `postmaster` in local domains, a rate that `waits` says."""

    def __init__(self, rules: AccessRules = RULES, waits: float = 0.0) -> None:
        self.rules = rules
        self.waits = waits
        self.asked: list[ClientRule] = []

    def resolve(self, address: Address) -> tuple[Address, ...] | None:
        if address.host and address.host not in self.rules.locals:
            return (address,)
        return (address,) if address.host and address.local_part in ("user", "postmaster") else None

    def wait(self, rule: ClientRule) -> float:
        self.asked.append(rule)
        return self.waits

    def now(self) -> float:
        return NOW


def decide(to: str, peer: Peer = STRANGER, sender: Address | None = SENDER, rules: AccessRules = RULES) -> str:
    """The decision in short: the reply of a refusal, or "ok" with what opened the relay and the address stored."""
    decision = decide_recipient(rules, peer, Transaction(sender), address(to), Desk(rules))
    if isinstance(decision, Refuse):
        return str(decision.reply)
    stored = f"as {' '.join(map(str, decision.forward_paths))}" if decision.forward_paths else ""
    return " ".join(word for word in ("ok", decision.by, stored) if word)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("user@here.example", "ok"),
        ("user@HERE.Example.", "ok"),
        ("nobody@here.example", "550 5.1.1 sorry, no mailbox here by that name"),
        ("nobody@backup.example", "ok"),
        ("x@a.parent.example", "ok"),
        ("x@a.b.parent.example", "ok"),
        ("x@parent.example", BASE),
        ("x@else.example", BASE),
        ("x@notbackup.example", BASE),
        ("x@sub.backup.example", BASE),
        ("user@local.example", BASE),  # local, but rcpthosts does not list it
        ("postmaster", "ok as postmaster@here.example"),
        ("PostMaster", "ok as postmaster@here.example"),
        ("user@[203.0.113.1]", "ok as user@here.example"),
        ("nobody@[203.0.113.1]", "550 5.1.1 sorry, no mailbox here by that name"),
        ("user@[203.0.113.2]", BASE),
        ("user@[nonsense]", BASE),
        ("user@[", BASE),
    ],
)
def test_who_may_send_where_from_anywhere(to: str, expected: str) -> None:
    assert decide(to) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (Peer("192.0.2.1", False, None), "ok 192.0.2.0/24"),
        (Peer("192.0.2.200", False, None), "ok 192.0.2.128/25"),
        (Peer("::ffff:192.0.2.1", False, None), "ok 192.0.2.0/24"),
        (Peer("198.51.100.7", False, None), "ok 198.51.100.7/32"),
        (Peer("198.51.100.8", False, None), BASE),
        (Peer("2001:db8:1::1", False, None), "ok 2001:db8::/32"),
        (Peer("2001:db9::1", False, None), BASE),
        (Peer("127.0.0.1", False, None), BASE),
        (Peer("", False, None), BASE),
        (Peer("unix socket", False, None), BASE),
        (Peer("203.0.113.9", True, ClientMatch()), f"{BASE}; no valid cert for gatewaying"),
        (Peer("203.0.113.9", True, None), f"{BASE}; no valid cert for gatewaying"),
        (Peer("203.0.113.9", True, ClientMatch(reason="revoked")), f"{BASE}; no valid cert for gatewaying: revoked"),
        (
            Peer("203.0.113.9", True, ClientMatch(reason="email address not in my list of tlsclients")),
            f"{BASE}; no valid cert for gatewaying: email address not in my list of tlsclients",
        ),
        (Peer("203.0.113.9", True, ClientMatch((RULE,))), "ok Alice@Example.org"),
        (Peer("192.0.2.1", True, ClientMatch(reason="expired")), "ok 192.0.2.0/24"),
    ],
)
def test_what_opens_the_relay(peer: Peer, expected: str) -> None:
    assert decide("x@else.example", peer) == expected


def test_a_certificate_opens_every_domain_but_makes_no_mailbox() -> None:
    peer = Peer("203.0.113.9", True, ClientMatch((RULE,)))
    assert decide("user@local.example", peer) == "ok Alice@Example.org"
    assert decide("nobody@here.example", peer).startswith("550 5.1.1")
    # Our own domains need no certificate, so none is named as what opened the way.
    assert decide("user@here.example", peer) == "ok"


@pytest.mark.parametrize(
    ("sender", "refused"),
    [
        ("spam@bad.example", True),
        ("SPAM@Bad.Example.", True),
        ("ham@bad.example", False),
        ("any@worse.example", True),
        ("any@sub.worse.example", False),
    ],
)
def test_badmailfrom_is_told_at_each_rcpt(sender: str, refused: bool) -> None:
    peer = Peer("192.0.2.1", True, ClientMatch((RULE,)))
    assert decide_sender(RULES, peer, address(sender)) is None
    for to in ("user@here.example", "x@else.example"):
        told = decide(to, peer, address(sender))
        assert (told == "553 5.7.1 sorry, your envelope sender is in my badmailfrom list") is refused


def test_the_null_sender_is_never_bad() -> None:
    assert decide("user@here.example", sender=None) == "ok"


def test_an_empty_rule_set_takes_nothing() -> None:
    rules = AccessRules(frozenset(), frozenset())
    assert decide("x@a.example", rules=rules) == BASE
    assert decide("postmaster", rules=rules).startswith("550 5.1.1")


def test_a_whole_network_opens_to_its_own_family_only() -> None:
    rules = AccessRules(frozenset(), frozenset(), networks=(ip_network("0.0.0.0/0"),))
    assert decide("x@a.example", Peer("203.0.113.9", False, None), rules=rules) == "ok 0.0.0.0/0"
    assert decide("x@a.example", Peer("2001:db8::1", False, None), rules=rules) == BASE


@given(st.text(), st.text(), st.text())
def test_any_address_gets_a_decision_and_a_clean_reply(local_part: str, domain: str, reason: str) -> None:
    peer = Peer("203.0.113.9", True, ClientMatch(reason=reason), local_address="203.0.113.1")
    decision = decide_recipient(RULES, peer, Transaction(SENDER), Address(local_part, domain), Desk())
    if isinstance(decision, Refuse):
        assert decision.reply.encode().count(b"\r\n") == 1
        assert "\n" not in decision.reply.text
    else:
        assert isinstance(decision, Permit) and decision.by == ""
