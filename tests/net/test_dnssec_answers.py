"""What is secure and what is not: the AD bit, whose word it is, names behind names, TLSA records."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from qmtls.net import dnsservers
from qmtls.net.resolver import Resolver
from tests.net.lookups import Zone, look_up, look_up_timed

DIGEST = "ab" * 32
KEY = f"3 1 1 {DIGEST}"
SHOWN = f"3 1 1 {DIGEST[:16]}..."


def zone(**changes: Any) -> Zone:
    return Zone(
        records={
            ("mail.test", "MX"): ["10 mx.test."],
            ("unsigned.test", "MX"): ["10 mx.test."],
            ("alias.test", "CNAME"): ["mail.test."],
            ("mx.test", "A"): ["192.0.2.1"],
            ("mx.test", "AAAA"): ["2001:db8::1"],
            ("_25._tcp.mx.test", "TLSA"): [KEY, "1 0 1 " + DIGEST],
            ("bare.test", "A"): ["192.0.2.2"],
            ("plain.test", "A"): ["192.0.2.3"],
            ("_25._tcp.plain.test", "TLSA"): [KEY],
            # A name in a signed zone that leads to another one there, or out of it.
            ("in.test", "CNAME"): ["mx.test."],
            ("out.test", "CNAME"): ["plain.test."],
            ("_25._tcp.out.test", "TLSA"): [KEY],
            ("own.test", "CNAME"): ["bare.test."],
            ("_25._tcp.own.test", "TLSA"): [KEY],
            ("lost.test", "CNAME"): ["plain.test."],
            ("_25._tcp.lost.test", "TLSA"): [KEY],
            ("odd.test", "A"): ["192.0.2.4"],
            ("_25._tcp.odd.test", "TLSA"): [b"\x03\x01", b"\x03\x01\x01short", b"\x03\x01\x01" + b"\xab" * 32],
            ("garbage.test", "A"): ["192.0.2.4"],
            ("_25._tcp.garbage.test", "TLSA"): [b"", b"\x03\x01\x01" + b"\xab" * 33],
            ("bogus.test", "A"): ["192.0.2.5"],
            ("half.test", "A"): ["192.0.2.6"],
            ("both.test", "A"): ["192.0.2.7"],
            ("_mta-sts.mail.test", "TXT"): ['"v=STSv1; " "id=1"'],
        },
        secure={
            *("mail.test", "mx.test", "_25._tcp.mx.test", "bare.test", "_25._tcp.bare.test", "nowhere.test"),
            *("alias.test", "in.test", "out.test", "_25._tcp.out.test", "own.test", "_25._tcp.own.test", "half.test"),
            *(
                "_25._tcp.lost.test",
                "odd.test",
                "_25._tcp.odd.test",
                "garbage.test",
                "_25._tcp.garbage.test",
                "bogus.test",
            ),
        },
        failing={("_25._tcp.bogus.test", "TLSA"), ("half.test", "AAAA"), ("both.test", "A"), ("both.test", "AAAA")},
        **changes,
    )


UNUSABLE = f"1 0 1 {DIGEST[:16]}...: usage 1 is not for SMTP (RFC 7672 section 3.1.3)"
NO = {"secure": False, "demand": "nothing", "usable": [], "unusable": []}
YES = {"secure": True, "demand": "match", "usable": [SHOWN], "unusable": []}
EXPECTED: list[tuple[tuple[str, ...], Any]] = [
    (("exchangers", "mail.test"), {"records": [[10, "mx.test"]], "secure": True, "canonical": "mail.test"}),
    (("exchangers", "unsigned.test"), {"records": [[10, "mx.test"]], "secure": False, "canonical": "unsigned.test"}),
    (("exchangers", "Alias.test."), {"records": [[10, "mx.test"]], "secure": True, "canonical": "mail.test"}),
    (("exchangers", "nowhere.test"), ["NoSuchName", "DNS: the name nowhere.test does not exist", None]),
    (
        ("host", "MX.test"),
        {"name": "mx.test", "addresses": ["192.0.2.1", "2001:db8::1"], "secure": True, "canonical": "mx.test"},
    ),
    (
        ("host", "plain.test"),
        {"name": "plain.test", "addresses": ["192.0.2.3"], "secure": False, "canonical": "plain.test"},
    ),
    (
        ("host", "out.test"),
        {"name": "out.test", "addresses": ["192.0.2.3"], "secure": False, "canonical": "plain.test"},
    ),
    # The family that answers is as secure as it is; the other is not there now.
    (
        ("host", "half.test"),
        {"name": "half.test", "addresses": ["192.0.2.6"], "secure": True, "canonical": "half.test"},
    ),
    (
        ("host", "nowhere.test"),
        {"name": "nowhere.test", "addresses": [], "secure": True, "canonical": "nowhere.test"},
    ),
    (
        ("host", "localhost"),
        {"name": "localhost", "addresses": ["127.0.0.1", "::1"], "secure": False, "canonical": "localhost"},
    ),
    (
        ("host", "both.test"),
        [
            "DnsTrouble",
            "DNS: the A records of both.test cannot be looked up now (NoNameservers: SERVFAIL)",
            True,
        ],
    ),
    (("txt", "_mta-sts.mail.test"), [b"v=STSv1; id=1".hex()]),
    (("txt", "mail.test"), []),
    (("txt", "_mta-sts.nowhere.test"), []),
    (("tlsas", "mx.test"), YES | {"base": "mx.test", "unusable": [UNUSABLE]}),
    (("tlsas", "bare.test"), NO | {"secure": True, "base": "bare.test"}),
    (("tlsas", "plain.test"), NO | {"base": "plain.test"}),
    (("tlsas", "in.test"), YES | {"base": "mx.test", "unusable": [UNUSABLE]}),
    (("tlsas", "out.test"), YES | {"base": "out.test"}),
    (("tlsas", "own.test"), YES | {"base": "own.test"}),
    (("tlsas", "lost.test"), NO | {"base": "lost.test"}),
    (("tlsas", "odd.test"), YES | {"base": "odd.test", "unusable": ["a record that cannot be read"] * 2}),
    (
        ("tlsas", "garbage.test"),
        {
            "base": "garbage.test",
            "secure": True,
            "demand": "encrypt",
            "usable": [],
            "unusable": ["a record that cannot be read"] * 2,
        },
    ),
    (
        ("tlsas", "bogus.test"),
        [
            "DnsTrouble",
            "DNS: the TLSA records of _25._tcp.bogus.test cannot be looked up now (NoNameservers: SERVFAIL)",
            True,
        ],
    ),
]


@pytest.fixture(scope="module")
def answers() -> tuple[list[Any], list[tuple[str, str]]]:
    with zone() as server:
        return look_up([server.server], *(question for question, _ in EXPECTED)), server.asked


Answers = tuple[list[Any], list[tuple[str, str]]]


@pytest.mark.parametrize("number", range(len(EXPECTED)), ids=[" ".join(question) for question, _ in EXPECTED])
def test_answers(answers: Answers, number: int) -> None:
    assert answers[0][number] == EXPECTED[number][1]


def test_hosts_of_unsigned_zones_are_not_asked_for_tlsa_records(answers: Answers) -> None:
    assert ("_25._tcp.plain.test", "TLSA") not in answers[1]
    assert ("_25._tcp.lost.test", "TLSA") not in answers[1]  # its CNAME is not secure
    assert ("_25._tcp.bare.test", "TLSA") in answers[1]


def test_nothing_is_asked_twice(answers: Answers) -> None:
    asked = [question for question in answers[1] if question[1] != "TLSA" or "bogus" not in question[0]]
    troubled = {("both.test", "A"), ("both.test", "AAAA"), ("half.test", "AAAA")}
    assert len(set(asked) - troubled) == len([question for question in asked if question not in troubled])


def test_the_word_of_a_resolver_elsewhere_counts_only_if_it_is_trusted() -> None:
    questions = [("host", "mx.test"), ("tlsas", "mx.test"), ("check", "mx.test", "bogus.test")]
    own = _own_address()
    with zone(address=own) as server:
        host, tlsas, check = look_up([server.server], *questions)
        assert host["secure"] is False and tlsas["demand"] == "nothing"
        assert check[0] == "off" and own in check[1]
        assert not any(server.with_edns)
        host, tlsas, _ = look_up([server.server], *questions, trusted=[own])
        assert host["secure"] is True and tlsas["demand"] == "match"


def _own_address() -> str:
    """An address of this machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback ones")
        address: str = probe.getsockname()[0]
    return address


def test_a_server_without_edns_is_asked_without() -> None:
    with zone(plain=True) as server:
        (host,) = look_up([server.server], ("host", "mx.test"))
        assert host["addresses"] == ["192.0.2.1", "2001:db8::1"]


def test_answers_that_live_for_no_time_are_not_kept() -> None:
    with zone(ttl=0) as server:
        look_up([server.server], ("exchangers", "mail.test"), ("exchangers", "mail.test"))
        assert server.asked == [("mail.test", "MX")] * 2


def test_who_asks_what_is_being_asked_waits_for_that() -> None:
    with zone(ttl=0) as server:
        found = look_up_timed([server.server], *[("exchangers", "mail.test")] * 50, together=True)
        assert len(found) == 50 and all(answer["secure"] for answer, _ in found)
        assert server.asked == [("mail.test", "MX")]


def test_a_thousand_names_that_hang_hold_up_nobody_else() -> None:
    hanging = [("exchangers", f"{n}.hang.test") for n in range(1000)]
    with zone(silent={"hang.test"}) as server:
        found = look_up_timed([server.server], *hanging, ("tlsas", "mx.test"), lifetime=4.0, together=True)
    assert {answer[0] for answer, _ in found[:-1]} == {"DnsTrouble"}
    answer, seconds = found[-1]
    assert answer["demand"] == "match"
    assert seconds < min(seconds for _, seconds in found[:-1]) / 2


def signed_and_broken(**changes: Any) -> tuple[str, str]:
    with zone(**changes) as server:
        server.failing |= {("broken.test", "A")}
        server.records["answered.test", "A"] = ["192.0.2.9"]
        ((state, sentence),) = look_up([server.server], ("check", "Mx.test.", "broken.test"))
    return state, sentence


def test_a_resolver_that_checks() -> None:
    assert signed_and_broken() == ("works", "DNSSEC is checked: mx.test is secure, broken.test is refused")


def test_resolvers_that_do_not_check() -> None:
    with zone() as server:
        server.failing |= {("broken.test", "A")}
        off, taken, dead, dumb = look_up(
            [server.server],
            ("check", "plain.test", "broken.test"),
            ("check", "mx.test", "plain.test"),
            ("check", "both.test", "broken.test"),
            ("check", "mx.test", "a..test"),
        )
    assert off[0] == "off" and "plain.test, which should be signed" in off[1]
    assert taken[0] == "off" and "answers for plain.test" in taken[1]
    assert dead[0] == "unknown" and dumb[0] == "unknown"


@pytest.mark.parametrize(
    ("servers", "trusted", "untrusted"),
    [
        ([("127.0.0.1", 53), ("127.8.0.1", 53), ("::1", 53)], (), ()),
        ([("192.0.2.1", 53), ("127.0.0.1", 53)], (), ("192.0.2.1",)),
        ([("192.0.2.1", 53), ("2001:db8::1", 53)], ("192.0.2.1", "2001:DB8:0::1"), ()),
        ([("192.0.2.1", 53)], ("192.0.2.2", "nonsense"), ("192.0.2.1",)),
    ],
)
def test_whose_word_counts(
    servers: list[tuple[str, int]], trusted: tuple[str, ...], untrusted: tuple[str, ...]
) -> None:
    assert Resolver(None, servers, frozenset(trusted)).untrusted == untrusted


@pytest.mark.parametrize(
    ("text", "trusts"),
    [
        ("nameserver 192.0.2.53\noptions edns0 trust-ad\n", True),
        ("options trust-ad\nnameserver 192.0.2.53\n", True),
        ("nameserver 192.0.2.53\n# options trust-ad\n", False),
        ("nameserver 192.0.2.53\noptions edns0\n\n", False),
        (None, False),
    ],
)
def test_the_system_may_say_that_its_resolver_is_trusted(
    text: str | None, trusts: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(dnsservers, "SYSTEM_CONFIGURATION", path)
    assert dnsservers._system_trusts() is trusts


def test_other_trust_is_other_servers() -> None:
    resolver = Resolver(None, [("192.0.2.1", 53)])
    resolver.use([("192.0.2.1", 53)], frozenset({"192.0.2.1"}))
    assert resolver.untrusted == ()
    resolver.use([("192.0.2.1", 53)])
    assert resolver.untrusted == (), "what is trusted stays"
