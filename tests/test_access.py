from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.access import AccessRules, Peer, Permit, Refuse, SenderRule, decide_recipient, decide_sender
from qmtls.smtp.address import Address
from qmtls.smtp.events import Transaction
from qmtls.tls.clients import ClientMatch, ClientRule, ClientRules
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Patterns, Rate, Scope

RULES = AccessRules(
    locals=frozenset({"here.example", "local.example"}),
    rcpt_hosts=frozenset({"here.example", "backup.example", ".parent.example"}),
    networks=tuple(map(ip_network, ("192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32", "2001:db8::/32"))),
    bad_mail_from=frozenset({"spam@bad.example", "kim@bad.example", "@worse.example"}),
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


def decide(
    to: str,
    peer: Peer = STRANGER,
    sender: Address | None = SENDER,
    rules: AccessRules = RULES,
    *,
    size: int | None = None,
    desk: Desk | None = None,
    charged: tuple[ClientRule, ...] = (),
) -> str:
    """The decision in short: the reply of a refusal, or "ok" with what opened the relay and the address stored."""
    decision = decide_recipient(
        rules, peer, Transaction(sender, size=size), address(to), desk or Desk(rules), charged=charged
    )
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
        ("Kim@bad.example", True),
        ("\u212aim@bad.example", False),
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


def patterns(text: str) -> Patterns:
    return Patterns(frozenset(text.split(",")), text)


def scoped(**scope: object) -> ClientRule:
    return replace(RULE, scope=Scope(**scope))  # type: ignore[arg-type]


def shows(*rules: ClientRule, **more: object) -> Peer:
    """A client in TLS whose certificate meets these rules."""
    identities = frozenset(rule.identity for rule in rules)
    return Peer("203.0.113.9", True, ClientMatch(rules, identities=identities), **more)  # type: ignore[arg-type]


NARROW = scoped(senders=patterns("@client.example"), recipients=patterns(".to.example"), label="narrow")
DAY = 86400.0
OUTSIDE = f"{BASE}; no valid cert for gatewaying: outside its scope"


@pytest.mark.parametrize(
    ("peer", "sender", "to", "expected"),
    [
        (shows(NARROW), "a@client.example", "x@a.to.example", "ok narrow"),
        (shows(NARROW), "a@other.example", "x@a.to.example", f"{OUTSIDE} from=@client.example"),
        (shows(NARROW), "a@client.example", "x@to.example", f"{OUTSIDE} to=.to.example"),
        # Our own domains are for everyone, whatever the scope.
        (shows(NARROW), "a@other.example", "user@here.example", "ok"),
        (shows(NARROW, RULE), "a@other.example", "x@a.to.example", "ok Alice@Example.org"),
        (shows(RULE, NARROW), "a@client.example", "x@a.to.example", "ok Alice@Example.org"),
        (shows(NARROW, NARROW), "a@other.example", "x@y.example", f"{OUTSIDE} from=@client.example, and 1 more rule"),
        (shows(scoped(until=NOW + 1)), "a@client.example", "x@y.example", "ok Alice@Example.org"),
        (shows(scoped(until=NOW)), "a@client.example", "x@y.example", f"{OUTSIDE} until=2027-01-15 has passed"),
        (shows(scoped(until=NOW), RULE), "a@client.example", "x@y.example", "ok Alice@Example.org"),
        # A network is asked first, and has no scope.
        (replace(shows(NARROW), address="192.0.2.1"), "a@other.example", "x@y.example", "ok 192.0.2.0/24"),
    ],
)
def test_the_first_rule_that_permits(peer: Peer, sender: str, to: str, expected: str) -> None:
    assert decide(to, peer, address(sender)) == expected


def test_the_null_sender_and_scopes() -> None:
    assert decide("x@y.example", shows(RULE), None) == "ok Alice@Example.org"
    assert decide("x@y.example", shows(scoped(senders=patterns("<>"))), None) == "ok Alice@Example.org"
    assert decide("x@a.to.example", shows(NARROW), None).startswith(OUTSIDE)
    assert decide("user@here.example", shows(NARROW), None) == "ok"


def test_senders_beyond_ascii_are_compared_as_a_labels() -> None:
    bound = shows(scoped(senders=patterns("@xn--mnchen-3ya.example")))
    assert decide("x@y.example", bound, Address("a", "München.example")) == "ok Alice@Example.org"
    rules = replace(RULES, bad_mail_from=frozenset({"@xn--mnchen-3ya.example"}))
    assert decide("user@here.example", sender=Address("a", "MÜNCHEN.example"), rules=rules).startswith("553")


LIMITED = scoped(size=1000, rate=Rate(2, 3600.0, "2/h"))


@pytest.mark.parametrize(
    ("size", "waits", "expected"),
    [
        (None, 0.0, "ok Alice@Example.org"),
        (1000, 0.0, "ok Alice@Example.org"),
        (1001, 0.0, "552 5.3.4 sorry, messages of Alice@Example.org may have 1000 bytes"),
        (
            *(10, 12.1),
            "450 4.7.1 too many messages, Alice@Example.org may send 2/h; try again in 13 seconds",
        ),
    ],
)
def test_what_a_rule_bounds(size: int | None, waits: float, expected: str) -> None:
    assert decide("x@y.example", shows(LIMITED), size=size, desk=Desk(waits=waits)) == expected


def test_a_message_is_charged_once_and_last() -> None:
    desk = Desk()
    assert decide("x@y.example", shows(LIMITED), desk=desk) == "ok Alice@Example.org"
    assert desk.asked == [LIMITED]
    decide("x@y.example", shows(LIMITED), desk=desk, charged=(LIMITED,))
    decide("user@here.example", shows(LIMITED), desk=desk)
    decide("nobody@here.example", shows(LIMITED), desk=desk)
    decide("x@y.example", shows(LIMITED), desk=desk, size=1001)
    decide("x@y.example", shows(RULE), desk=desk)
    assert desk.asked == [LIMITED]
    # On a submission listener local recipients are under the rule too, but only those that there are.
    decide("nobody@here.example", shows(LIMITED, submission=True), desk=desk)
    assert desk.asked == [LIMITED]
    decide("user@here.example", shows(LIMITED, submission=True), desk=desk)
    assert desk.asked == [LIMITED, LIMITED]


def test_the_permit_names_its_rule() -> None:
    decision = decide_recipient(RULES, shows(LIMITED), Transaction(SENDER), address("x@y.example"), Desk())
    assert isinstance(decision, Permit) and decision.rule is LIMITED


class Spread(Desk):
    """Everything is stored at two addresses."""

    def resolve(self, address: Address) -> tuple[Address, ...] | None:
        return (Address("one", "here.example"), Address("two", "there.example"))


def test_a_recipient_may_be_stored_as_others() -> None:
    assert decide("list@here.example", desk=Spread()) == "ok as one@here.example two@there.example"
    # What the recipient stands for opens nothing by itself.
    assert decide("list@else.example", desk=Spread()) == BASE
    bound = shows(scoped(recipients=patterns("@else.example")))
    assert decide("list@else.example", bound, desk=Spread()).endswith("as one@here.example two@there.example")


@pytest.mark.parametrize(
    ("peer", "sender", "expected"),
    [
        (Peer("192.0.2.1", False, None), SENDER, "530 5.7.0 nothing is accepted here without an identity"),
        (Peer("192.0.2.1", True, ClientMatch()), None, "530 5.7.0 nothing is accepted here without an identity"),
        (
            *(Peer("192.0.2.1", True, ClientMatch(reason="expired")), SENDER),
            "530 5.7.0 nothing is accepted here without an identity: expired",
        ),
        (shows(RULE), SENDER, ""),
        (shows(RULE), None, ""),
        (shows(NARROW), SENDER, ""),
        (shows(NARROW), None, "553 5.7.1 sorry, this sender is outside your scope: from=@client.example"),
        (shows(NARROW), Address("a", "b.example"), "553 5.7.1 sorry, this sender is outside your scope:"),
        (shows(NARROW, RULE), None, ""),
    ],
)
def test_submission_wants_an_identity_for_everything(peer: Peer, sender: Address | None, expected: str) -> None:
    refusal = decide_sender(RULES, replace(peer, submission=True), sender)
    assert (str(refusal.reply).startswith(expected) and expected) if refusal else not expected
    # On other listeners these are no reasons.
    assert decide_sender(RULES, peer, sender) is None


def test_on_submission_neither_networks_nor_our_domains_are_an_identity() -> None:
    for to in ("user@here.example", "x@else.example"):
        assert decide(to, Peer("192.0.2.1", True, ClientMatch(), submission=True)).startswith("553 5.7.1")
        assert decide(to, shows(RULE, submission=True)) == "ok Alice@Example.org"
    assert decide("nobody@here.example", shows(RULE, submission=True)).startswith("550 5.1.1")
    assert decide("user@here.example", shows(NARROW, submission=True)) == f"{OUTSIDE} to=.to.example"


BOUND = replace(
    RULES,
    senders={
        "tls.example": SenderRule("tls.example", frozenset(), Origin("control/tlssenders", 1)),
        ".tls.example": SenderRule(".tls.example", frozenset({RULE.identity}), Origin("control/tlssenders", 2)),
        ".sub.tls.example": SenderRule(".sub.tls.example", frozenset(), Origin("control/tlssenders", 3)),
    },
)
IN_TLS = Peer("203.0.113.9", True, ClientMatch(reason="expired"))
NO_TLS = "530 5.7.0 mail of this sender must come over TLS, issue STARTTLS first"
NO_CERT = "550 5.7.1 mail of this sender must come with a certificate of its domain"


@pytest.mark.parametrize(
    ("peer", "sender", "expected"),
    [
        (STRANGER, "a@tls.example", NO_TLS),
        (STRANGER, "a@TLS.Example.", NO_TLS),
        (STRANGER, "a@x.tls.example", NO_TLS),
        (STRANGER, "a@nottls.example", ""),
        (STRANGER, "a@example", ""),
        (IN_TLS, "a@tls.example", ""),
        (IN_TLS, "a@x.tls.example", f"{NO_CERT}: expired"),
        (replace(IN_TLS, match=ClientMatch()), "a@x.tls.example", NO_CERT),
        (replace(IN_TLS, match=None), "a@x.tls.example", NO_CERT),
        (IN_TLS, "a@x.sub.tls.example", ""),  # the nearest parent's line
        (shows(RULE), "a@x.tls.example", ""),
        # The identity counts, whether tlsclients lists it or not; another one does not.
        (replace(IN_TLS, match=ClientMatch(identities=frozenset({RULE.identity}))), "a@x.tls.example", ""),
        (shows(replace(RULE, value="bob@example.org")), "a@x.tls.example", NO_CERT),
    ],
)
def test_senders_bound_to_tls(peer: Peer, sender: str, expected: str) -> None:
    refusal = decide_sender(BOUND, peer, address(sender))
    assert (str(refusal.reply) if refusal else "") == expected
    assert decide_sender(BOUND, peer, None) is None


def test_a_key_in_either_file_asks_for_certificates() -> None:
    assert not BOUND.any_by_key
    assert replace(RULES, clients=ClientRules((replace(RULE, kind="spki"),))).any_by_key
    senders = {"a.example": SenderRule("a.example", frozenset({("sha256", "00")}), Origin("x"))}
    assert replace(RULES, senders=senders).any_by_key


@given(st.text(), st.text())
def test_every_refusal_is_one_line_that_a_reply_may_have(text: str, label: str) -> None:
    rule = scoped(senders=Patterns(frozenset(), text), label=label, size=1, rate=Rate(1, 1.0, "1/s"))
    for peer in (shows(*[rule] * 20), shows(replace(rule, scope=replace(rule.scope, senders=None)))):
        for desk in (Desk(), Desk(waits=1e9)):
            for size in (None, 2):
                told = decide_recipient(RULES, peer, Transaction(SENDER, size=size), address("x@y.example"), desk)
                wire = told.reply.encode() if isinstance(told, Refuse) else b""
                assert len(wire) <= 512 and wire.count(b"\r\n") <= 1 and wire.isascii()
