"""What is asked for a rule, and what is evidence although nobody answered."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from qmtls.net.resolver import DnsTrouble, HostAddresses
from qmtls.net.witness import UNKNOWN, Vouched, Witness, asks_nobody
from qmtls.tls.dane import Tlsa
from qmtls.tls.demand import Level, Origin, Policy
from qmtls.tls.evidence import Evidence
from qmtls.tls.sts import StsMode, StsPolicy
from tests.net.doubles import Names, Policies

DOMAIN, MX, OWNER = "d.example", "mx.d.example", "_25._tcp.mx.d.example"
RULE = Policy(Level.DANE, Origin("f"), discovers=True)
HOST = HostAddresses(MX, ("192.0.2.1",), True, MX)
BY_MX = Vouched(HOST, DOMAIN, mx=True, mx_secure=True, canonical_domain=DOMAIN)
POLICY = StsPolicy(StsMode.ENFORCE, 86400, (MX,))


def now_of(coroutine: Coroutine[Deferred[Any], Any, Any]) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    return found[0]


class Case:
    def __init__(self, *records: Tlsa, policies: bool = True) -> None:
        self.names, self.policies = Names(), Policies()
        if records:
            self.names.tlsa[OWNER] = records
            self.names.secure.add(OWNER)
        resolver: Any = self.names
        self.witness = Witness(resolver, self.policies if policies else None, lambda: 1000.0)

    def about(self, policy: Policy = RULE, vouched: Vouched = BY_MX) -> Evidence:
        found = now_of(self.witness.about(policy, vouched, DOMAIN, 25))
        assert isinstance(found, Evidence), found
        return found


KEY = Tlsa(3, 1, 1, bytes(32))


def test_records_with_the_names_that_go_with_them() -> None:
    dane = Case(KEY).about().dane
    assert dane is not None and dane.tlsas is not None
    assert (dane.tlsas.usable, dane.names, dane.mx_secure, dane.asked) == ((KEY,), (MX, DOMAIN), True, 1000.0)
    dane = Case(KEY).about(vouched=Vouched(HOST, DOMAIN, mx=True, canonical_domain=DOMAIN)).dane
    assert dane is not None and (dane.names, dane.mx_secure) == ((MX,), False)
    dane = Case(KEY).about(vouched=Vouched(HOST, MX, routed=True)).dane
    assert dane is not None and (dane.names, dane.mx_secure) == ((MX,), True)


def test_records_that_cannot_be_used_leave_the_word_to_a_policy() -> None:
    for record, asked in ((KEY, []), (Tlsa(1, 1, 1, bytes(32)), [DOMAIN])):
        case = Case(record)
        case.policies.known[DOMAIN] = POLICY
        evidence, policy = now_of(case.witness.decide(RULE, BY_MX, MX, DOMAIN, 25))
        assert case.policies.asked == asked and (evidence.sts is not None) == bool(asked)
        assert policy.level is (Level.STS if asked else Level.DANE)
    relay = case.about(vouched=Vouched(HOST, MX, routed=True))
    assert relay.dane is not None and relay.sts is None, "it says nothing of relays"


def test_a_look_up_that_fails_is_evidence() -> None:
    case = Case()
    case.names.tlsa[OWNER] = DnsTrouble("SERVFAIL")
    evidence = case.about()
    assert evidence.dane is not None and evidence.dane.trouble == "SERVFAIL"
    assert evidence.sts is None and not case.policies.asked


def test_of_an_address_nobody_is_asked() -> None:
    case = Case(KEY)
    evidence = case.about(vouched=UNKNOWN)
    assert evidence.dane is not None and evidence.dane.tlsas is None and not case.names.asked


def test_only_what_can_decide_is_asked_for() -> None:
    case = Case(KEY)
    case.policies.known[DOMAIN] = POLICY
    for level in (Level.NONE, Level.MAY, Level.ENCRYPT, Level.VERIFY, Level.SECURE, Level.PIN):
        assert case.about(Policy(level, Origin("f"))) == Evidence()
    assert not case.names.asked and not case.policies.asked
    assert case.about(Policy(Level.DANE_ONLY, Origin("f"))).sts is None
    evidence = case.about(Policy(Level.STS, Origin("f")))
    assert evidence.dane is None and evidence.sts is not None and evidence.sts.policy is not None


def test_a_policy_with_its_id_and_why_there_is_none() -> None:
    case = Case()
    sts = case.about().sts
    assert sts is not None and sts.policy is None and not sts.note, "nobody will read it"
    sts = case.about(Policy(Level.STS, Origin("f"))).sts
    assert sts is not None and "no MTA-STS record" in sts.note
    case.policies.known[DOMAIN] = POLICY
    sts = case.about().sts
    assert sts is not None and sts.policy is not None and (sts.policy.id, sts.policy.policy) == ("id1", POLICY)


def test_what_was_found_counts_whatever_the_cache_shows() -> None:
    case = Case()
    case.policies.known[DOMAIN] = POLICY
    asked = case.policies.evidence

    async def older(domain: str) -> Any:
        return await asked("other.example")

    case.policies.evidence = older  # type: ignore[method-assign]
    sts = case.about().sts
    assert sts is not None and sts.policy is not None and sts.policy.policy == POLICY


def test_without_a_cache_there_is_no_sts() -> None:
    sts = Case(policies=False).about().sts
    assert sts is not None and sts.policy is None and sts.note


def test_a_domains_policy_says_nothing_of_our_own_relays() -> None:
    case, relay = Case(), Vouched(HOST, MX, routed=True)
    case.policies.known[DOMAIN] = POLICY
    assert case.about(vouched=relay).sts is None and not case.policies.asked
    sts = case.about(Policy(Level.STS, Origin("f")), relay).sts
    assert sts is not None and sts.policy is not None, "a rule may want it all the same"


def test_where_there_is_nothing_to_ask() -> None:
    address = Vouched(routed=True)
    assert asks_nobody(RULE, address) and not asks_nobody(RULE, BY_MX)
    assert not asks_nobody(RULE, Vouched(HOST, MX, routed=True))
    assert asks_nobody(Policy(Level.DANE_ONLY, Origin("f")), address)
    assert asks_nobody(Policy(Level.ENCRYPT, Origin("f")), BY_MX)
    assert not asks_nobody(Policy(Level.STS, Origin("f")), address)


def test_a_host_that_an_old_policy_does_not_name_may_be_in_a_new_one() -> None:
    case = Case()
    case.policies.known[DOMAIN] = StsPolicy(StsMode.ENFORCE, 86400, ("old.d.example",))
    case.policies.newer[DOMAIN] = POLICY
    evidence, policy = now_of(case.witness.decide(RULE, BY_MX, MX, DOMAIN, 25))
    assert (policy.level, policy.skip, policy.names) == (Level.STS, "", (MX,))
    assert evidence.sts is not None and evidence.sts.policy is not None and evidence.sts.policy.policy == POLICY
    assert case.policies.asked[-1] == f"{DOMAIN} again"


def test_nobody_looks_again_where_the_policy_names_the_host() -> None:
    case = Case()
    case.policies.known[DOMAIN] = POLICY
    evidence, policy = now_of(case.witness.decide(RULE, BY_MX, MX, DOMAIN, 25))
    assert evidence == case.about() and policy.level is Level.STS
    assert case.policies.asked == [DOMAIN, DOMAIN]
