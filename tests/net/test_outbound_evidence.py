"""DANE and MTA-STS against real handshakes: what decides, when it is asked, and what the sentences say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL
from twisted.internet.defer import Deferred

from qmtls.delivery.plan import NextHop
from qmtls.net.channel import HANDSHAKE_SECONDS, Channel
from qmtls.net.outbound import HostFailed
from qmtls.net.resolver import DnsTrouble
from qmtls.net.targets import Target
from qmtls.tls.dane import Tlsa
from qmtls.tls.pin import certificate_digest, key_digest
from qmtls.tls.sts import StsMode, StsPolicy
from tests.net import certs
from tests.net.certs import authority
from tests.net.hosts import CLOSE, HANG, Host
from tests.net.house import Files
from tests.net.wayout import ADDRESS, HOP, WayOut

DOMAIN, MX = HOP.domain, "mx.there.example"
OWNER = f"_25._tcp.{MX}"
GOOD = authority().leaf("mx", names=[MX], use=certs.SERVER)
OTHER = authority("another").leaf("mx", names=[MX])
KEY, OTHER_KEY = Tlsa(3, 1, 1, key_digest(GOOD.cert)), Tlsa(3, 1, 1, key_digest(OTHER.cert))
CA = Tlsa(2, 0, 1, certificate_digest(authority().cert))
UNUSABLE = Tlsa(1, 1, 1, bytes(32))
ENFORCE, TESTING = StsPolicy(StsMode.ENFORCE, 86400, (MX,)), StsPolicy(StsMode.TESTING, 86400, (MX,))


def way_to(path: Path, *records: Tlsa, files: Files | None = None, signed: bool = True) -> WayOut:
    """A domain with one host, in a signed zone."""
    way = WayOut(path / "control", files)
    way.names.mail[DOMAIN] = [(10, MX)]
    way.names.hosts[MX] = ADDRESS
    if signed:
        way.names.secure |= {DOMAIN, MX, OWNER}
    if records:
        way.names.tlsa[OWNER] = records
    return way


def dial(way: WayOut, hop: NextHop = HOP) -> Channel | HostFailed:
    targets = way.targets(hop)
    assert isinstance(targets, list)
    (result,) = way.dial(targets[0], hop)
    return result


def opened(way: WayOut, hop: NextHop = HOP) -> str:
    result = dial(way, hop)
    assert isinstance(result, Channel), result
    return result.tls.split(" ", 3)[-1] if result.tls.startswith("TLS") else result.tls


def refused(way: WayOut, hop: NextHop = HOP) -> str:
    result = dial(way, hop)
    assert isinstance(result, HostFailed) and result.tls, result
    assert result.status in ("4.7.4", "4.7.5")
    return str(result)


def trusting(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """The system's authorities are ours."""
    (path / "system.pem").write_bytes(authority().pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(path / "system.pem"))


# ---------------------------------------------------------------- DANE


@pytest.mark.parametrize("record", [KEY, Tlsa(3, 0, 1, certificate_digest(GOOD.cert)), CA])
def test_a_host_that_matches(tmp_path: Path, record: Tlsa) -> None:
    leaf = replace(GOOD, chain=(authority().cert,))
    way = way_to(tmp_path, record)
    host = way.host(Host(leaf))
    assert opened(way) == "dane"
    assert host.visits[0].server_name == MX


@pytest.mark.parametrize(
    "host", [Host(OTHER), Host(), Host(GOOD, replies={"STARTTLS": "454 no"}), Host(GOOD, handshake=CLOSE)]
)
def test_a_host_that_does_not_match_gets_nothing(tmp_path: Path, host: Host) -> None:
    host = replace(host, visits=[], mail=[])
    way = way_to(tmp_path, KEY)
    way.host(host)
    words = refused(way)
    assert OWNER in words and MX in words and "no rule (the default, dane)" in words
    assert len(host.visits) == 1, "no plaintext, not even on another connection"


STALLS = {"handshake": lambda: Host(GOOD, handshake=HANG), "STARTTLS": lambda: Host(GOOD, replies={"STARTTLS": HANG})}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("policy", [None, TESTING, ENFORCE])
@pytest.mark.parametrize("record", [None, UNUSABLE, KEY])
@pytest.mark.parametrize("level", ["", "dane", "dane-only", "sts"])
def test_a_stall_is_a_failed_handshake(
    tmp_path: Path, level: str, record: Tlsa | None, policy: StsPolicy | None, stall: str
) -> None:
    """The cells of the table whose wait the whole program is spared."""
    files: Files = {"tlspolicy": f"{DOMAIN} {level}\n"} if level else {}
    way = way_to(tmp_path, *((record,) if record else ()), files=files)
    if policy is not None:
        way.policies.known[DOMAIN] = policy
    host = way.host(STALLS[stall]())
    (target,) = way.targets()  # type: ignore[misc]
    assert isinstance(target, Target)
    found = way.dial(target)
    way.reactor.pass_time(HANDSHAKE_SECONDS * 3, 5)
    (result,) = found
    if level in ("", "dane") and record is None and policy is not ENFORCE:
        assert isinstance(result, Channel) and result.tls == "plain"
        assert len(host.visits) == 2, "on a new connection"
    else:
        assert isinstance(result, HostFailed) and result.tls, result
        assert len(host.visits) == 1 and not host.mail


def test_records_that_are_not_secure_or_not_there_demand_nothing(tmp_path: Path) -> None:
    way = way_to(tmp_path / "a", OTHER_KEY, signed=False)
    way.host(Host(GOOD))
    assert opened(way) == "may (unverified)"
    assert OWNER not in way.names.asked, "of a host without a signed address nobody asks"
    way = way_to(tmp_path / "b")
    way.host(Host(GOOD))
    assert opened(way) == "may (unverified)"
    way = way_to(tmp_path / "c")
    way.host(Host())
    assert opened(way) == "plain"


def test_records_that_cannot_be_used_demand_tls(tmp_path: Path) -> None:
    way = way_to(tmp_path, Tlsa(1, 1, 1, bytes(32)))
    way.host(Host(OTHER))
    assert opened(way) == "encrypt (unverified)"
    way.host(Host())
    assert "none can be used" in refused(way)


def test_records_that_cannot_be_used_leave_the_word_to_mta_sts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, tmp_path)
    for policy, other in ((TESTING, "encrypt (unverified)"), (ENFORCE, "")):
        way = way_to(tmp_path / policy.mode.value, UNUSABLE)
        way.policies.known[DOMAIN] = policy
        way.host(Host(GOOD))
        assert opened(way) == ("sts" if policy is ENFORCE else other)
        way.host(Host(OTHER))
        assert opened(way) == other if other else "MTA-STS policy" in refused(way)
        way.host(Host())
        assert "demands TLS" in refused(way)


def test_a_look_up_that_fails_makes_the_host_wait(tmp_path: Path) -> None:
    way = way_to(tmp_path)
    way.names.tlsa[OWNER] = DnsTrouble("DNS: the TLSA records cannot be looked up now (SERVFAIL)", True)
    host = way.host(Host(GOOD))
    assert "SERVFAIL" in refused(way)
    assert "STARTTLS" not in host.said() and "MAIL" not in host.said()


def test_dane_only_wants_signed_mx_records_and_dane_does_not(tmp_path: Path) -> None:
    for level, signed in (("dane-only", True), ("dane-only", False), ("dane", False)):
        way = way_to(tmp_path / f"{level}{signed}", KEY, files={"tlspolicy": f"{DOMAIN} {level}\n"})
        way.host(Host(GOOD))
        if not signed:
            way.names.secure.discard(DOMAIN)
        if (level, signed) == ("dane-only", False):
            assert "MX record that names it is not signed" in refused(way)
        else:
            assert opened(way) == level


def test_dane_only_without_records_waits(tmp_path: Path) -> None:
    way = way_to(tmp_path, files={"tlspolicy": f"{DOMAIN} dane-only\n"})
    way.host(Host(GOOD))
    words = refused(way)
    assert "no TLSA record" in words and "control/tlspolicy:1" in words


def test_the_name_asked_for_is_that_of_the_records(tmp_path: Path) -> None:
    way = way_to(tmp_path)
    way.names.aliases[MX] = "real.there.example"
    way.names.tlsa["_25._tcp.real.there.example"] = (KEY,)
    way.names.secure.add("_25._tcp.real.there.example")
    host = way.host(Host(GOOD))
    assert opened(way) == "dane"
    assert host.visits[0].server_name == "real.there.example"


def test_a_relay_of_ours_is_asked_for_records_too(tmp_path: Path) -> None:
    way = way_to(tmp_path)
    hop = NextHop("any.example", "relay.example", 587)
    way.names.hosts["relay.example"] = ADDRESS
    way.names.secure |= {"relay.example", "_587._tcp.relay.example"}
    way.names.tlsa["_587._tcp.relay.example"] = (OTHER_KEY,)
    way.host(Host(GOOD), port=587)
    assert "_587._tcp.relay.example" in refused(way, hop)
    way.policies.known["any.example"] = StsPolicy(StsMode.ENFORCE, 86400, ("mx.elsewhere.example",))
    way.names.tlsa["_587._tcp.relay.example"] = (KEY,)
    assert opened(way, hop) == "dane"
    del way.names.tlsa["_587._tcp.relay.example"]
    assert opened(way, hop) == "may (unverified)", "the domain's policy is about its own hosts"
    assert not way.policies.asked


def test_a_relay_by_its_address_has_nothing_to_ask_for(tmp_path: Path) -> None:
    way = way_to(tmp_path, files={"tlspolicy": "only.example dane-only\n"})
    way.host(Host(GOOD))
    assert opened(way, NextHop("any.example", ADDRESS)) == "may (unverified)"
    words = refused(way, NextHop("only.example", ADDRESS))
    assert f"{ADDRESS} must be verified by DANE, says control/tlspolicy:1" in words
    assert not way.policies.asked and not way.names.asked


def test_a_local_rule_goes_before_and_asks_nobody(tmp_path: Path) -> None:
    for files in ({"tlspolicy": f"{DOMAIN} may\n"}, {f"notlshosts/{MX}": ""}, {f"{MX}.pem": GOOD.pem}):
        way = way_to(tmp_path / str(len(str(files))), OTHER_KEY, files=dict(files))
        way.policies.known[DOMAIN] = replace(ENFORCE, mx=("mx.elsewhere.example",))
        way.host(Host(GOOD))
        opened(way)
        assert OWNER not in way.names.asked and not way.policies.asked


def test_records_are_asked_for_while_the_connection_is_made(tmp_path: Path) -> None:
    """One more round of DNS, beside connection and greeting."""
    way = way_to(tmp_path)
    answer: Deferred[tuple[Tlsa, ...]] = Deferred()
    way.names.tlsa[OWNER] = answer
    host = way.host(Host(GOOD))
    (target,) = way.targets()  # type: ignore[misc]
    assert isinstance(target, Target)
    found = way.dial(target)
    assert host.said() == ["EHLO"] and OWNER in way.names.asked and not found
    answer.callback((KEY,))
    way.reactor.run()
    assert isinstance(found[0], Channel)


# ---------------------------------------------------------------- MTA-STS


def test_an_enforced_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, tmp_path)
    way = way_to(tmp_path, signed=False)
    way.policies.known[DOMAIN] = ENFORCE
    way.host(Host(GOOD))
    assert opened(way) == "sts"
    way.host(Host(OTHER))
    words = refused(way)
    assert f"MTA-STS policy of {DOMAIN}, id id1" in words and "unknown issuer" in words
    assert way.policies.asked[-1] == f"{DOMAIN} again", "there may be a new policy"
    way.host(Host(authority().leaf(names=["mx.else.example"])))
    assert "mx.else.example" in refused(way)
    way.host(Host())
    assert "STARTTLS is not offered" in refused(way)


def test_a_host_that_the_policy_does_not_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, tmp_path)
    way = way_to(tmp_path, signed=False)
    way.policies.known[DOMAIN] = replace(ENFORCE, mx=("*.elsewhere.example",))
    way.host(Host(GOOD))
    words = refused(way)
    assert f"{MX} is passed over" in words and "*.elsewhere.example" in words
    way.policies.newer[DOMAIN] = ENFORCE
    assert opened(way) == "sts", "it was the policy that was old"


def test_a_policy_in_testing_lets_mail_through_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, tmp_path)
    way = way_to(tmp_path, signed=False)
    way.policies.known[DOMAIN] = TESTING
    way.host(Host(GOOD))
    assert opened(way) == "may (unverified)" and not way.log
    way.host(Host(OTHER))
    assert opened(way) == "may (unverified)"
    assert any("tls testing" in line and "unknown issuer" in line for line in way.log)
    way.host(Host())
    assert opened(way) == "plain"


def test_dane_goes_before_and_nobody_asks_for_a_policy(tmp_path: Path) -> None:
    way = way_to(tmp_path, KEY)
    way.policies.known[DOMAIN] = replace(ENFORCE, mx=("mx.elsewhere.example",))
    way.host(Host(GOOD))
    assert opened(way) == "dane" and not way.policies.asked


def test_the_level_sts_waits_without_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, tmp_path)
    way = way_to(tmp_path, OTHER_KEY, files={"tlspolicy": f"{DOMAIN} sts\n"})
    way.host(Host(GOOD))
    assert "there is no MTA-STS record" in refused(way)
    way.policies.known[DOMAIN] = TESTING
    assert opened(way) == "sts"
    assert OWNER not in way.names.asked


# ---------------------------------------------------------------- what a message says


def test_requiretls_is_satisfied_by_dane_or_sts_and_by_nothing_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting(monkeypatch, tmp_path)
    hop = replace(HOP, requiretls=True)
    way = way_to(tmp_path / "dane", KEY)
    way.host(Host(GOOD))
    assert opened(way, hop) == "dane"
    elsewhere = "mx.else.example"
    leaf = authority().leaf(names=[elsewhere])
    way = way_to(tmp_path / "sts", signed=False)
    way.names.mail[DOMAIN], way.names.hosts[elsewhere] = [(10, elsewhere)], ADDRESS
    way.host(Host(leaf))
    assert "REQUIRETLS" in refused(way, hop), "its name is not the domain's"
    way.policies.known[DOMAIN] = replace(TESTING, mx=(elsewhere,))
    assert opened(way, hop) == "sts"
    way = way_to(tmp_path / "signed")
    way.names.mail[DOMAIN], way.names.hosts[elsewhere] = [(10, elsewhere)], ADDRESS
    way.host(Host(leaf))
    assert opened(way, hop) == "secure", "a signed MX record vouches for the host's name"


def test_tls_required_no_gives_up_dane_and_sts_but_no_rule(tmp_path: Path) -> None:
    hop = replace(HOP, tls_optional=True)
    way = way_to(tmp_path / "a", OTHER_KEY)
    way.policies.known[DOMAIN] = replace(ENFORCE, mx=("mx.elsewhere.example",))
    host = way.host(Host(GOOD))
    assert opened(way, hop) == "may (unverified)" and host.visits[0].tls
    way.host(Host())
    assert opened(way, hop) == "plain"
    assert OWNER not in way.names.asked and not way.policies.asked
    for line in ("dane", "dane-only", "encrypt"):
        way = way_to(tmp_path / line, KEY, files={"tlspolicy": f"{DOMAIN} {line}\n"})
        way.host(Host())
        assert "control/tlspolicy:1" in refused(way, hop)


# ---------------------------------------------------------------- what helps


@pytest.mark.parametrize(
    ("attributes", "good"),
    [("encrypt", True), ("encrypt pq=require", True), ("encrypt pq=require groups=X25519:X25519MLKEM768", True)],
)
def test_the_default_is_a_hybrid_group(tmp_path: Path, attributes: str, good: bool) -> None:
    way = way_to(tmp_path, files={"tlspolicy": f"{DOMAIN} {attributes}\n"})
    way.host(Host(GOOD))
    assert isinstance(dial(way), Channel) is good


def test_pq_require_defers_a_host_without(tmp_path: Path) -> None:
    way = way_to(tmp_path, files={"tlspolicy": f"{DOMAIN} encrypt pq=require\n"})
    way.host(Host(GOOD, context=certs.context(GOOD, newest=SSL.TLS1_2_VERSION)))
    words = refused(way)
    assert "pq=require" in words and "no hybrid post-quantum one" in words


def test_a_host_that_hangs_up_after_our_hello_is_named(tmp_path: Path) -> None:
    way = way_to(tmp_path, files={"tlspolicy": f"{DOMAIN} encrypt\n"})
    way.host(Host(GOOD, handshake=CLOSE))
    words = refused(way)
    assert "hung up after our hello" in words and "groups=X25519:P-256" in words and f"`{DOMAIN} LEVEL" in words
    way.host(Host(GOOD, handshake="no handshake\r\n"))
    assert "hung up" not in refused(way)


def test_a_host_that_leaves_when_it_saw_our_certificate(tmp_path: Path) -> None:
    ours = authority().leaf("us")
    context = certs.context(GOOD)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: False)
    files: Files = {"tlspolicy": f"{DOMAIN} encrypt\n", "clientcert.pem": ours.bundle}
    way = way_to(tmp_path, files=files)
    way.host(Host(GOOD, context=context))
    assert f"control/clientcerts/{DOMAIN}.pem" in refused(way)
    way.load({**files, f"clientcerts/{MX}.pem": "none\n"})
    assert "clientcerts" not in refused(way)


def test_an_attribute_names_the_server_to_ask_for(tmp_path: Path) -> None:
    way = way_to(tmp_path, files={"tlspolicy": f"{DOMAIN} encrypt servername=other.example\n"})
    host = way.host(Host(GOOD))
    opened(way)
    assert host.visits[0].server_name == "other.example"


def test_an_exception_whose_day_is_over_ends_by_itself(tmp_path: Path) -> None:
    way = way_to(
        tmp_path, KEY, files={"tlspolicy": f"{DOMAIN} none until=2020-01-01\nb.example none until=2999-01-01\n"}
    )
    way.host(Host(GOOD))
    assert opened(way) == "dane"
    way.names.mail["b.example"] = [(10, MX)]
    assert opened(way, NextHop("b.example")) == "plain"
