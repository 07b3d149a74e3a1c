"""The model of Postfix's look-ups, against what its manuals say."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.cli.foreign.demand import SYSTEM, Demand
from qmtls.cli.foreign.postfix_files import Main, keyed, read_main, read_table
from qmtls.cli.foreign.postfix_model import BadPolicy, Postfix, Server, allowed_versions, read_line, read_server


def postfix(tmp_path: Path, policies: str = "", transports: str = "", main: str | None = None) -> Postfix:
    for name, text in {"policies": policies, "transports": transports, "main.cf": main or ""}.items():
        (tmp_path / name).write_text(text)
    known = Main() if main is None else read_main(tmp_path / "main.cf")
    return Postfix(known, keyed(read_table(tmp_path / "policies")), keyed(read_table(tmp_path / "transports")))


TABLE = """\
example.org secure
.example.org encrypt
.sub.example.org verify
[relay.test]:587 fingerprint match=aa
[relay.test] none
"""


@pytest.mark.parametrize(
    ("nexthop", "key"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.org", "example.org"),
        ("a.example.org", ".example.org"),
        ("a.sub.example.org", ".sub.example.org"),
        ("sub.example.org", ".example.org"),
        ("notexample.org", None),
        ("[relay.test]:587", "[relay.test]:587"),
        ("[relay.test]", "[relay.test]"),
        ("[relay.test]:25", None),  # word for word
        ("[a.example.org]", None),  # no parents of what is in brackets
        ("a.example.org:26", None),
    ],
)
def test_which_line_holds(tmp_path: Path, nexthop: str, key: str | None) -> None:
    found = postfix(tmp_path, TABLE).policy_of(nexthop)
    assert (found.key if found else None) == key


@pytest.mark.parametrize(
    ("domain", "route"),
    [
        ("a.test", ("smtp", "[gw.test]:26")),
        ("x.a.test", ("relay", "x.a.test")),
        ("b.test", ("", "[b-gw.test]")),
        ("other.test", ("smtp", "[all.test]")),
    ],
)
def test_where_mail_goes(tmp_path: Path, domain: str, route: tuple[str, str]) -> None:
    transports = "a.test smtp:[gw.test]:26\n.a.test relay:\nb.test :[b-gw.test]\n"
    assert postfix(tmp_path, "", transports, "relayhost = [all.test]\n").route(domain) == route


def test_a_route_changes_which_policy_holds(tmp_path: Path) -> None:
    known = postfix(tmp_path, "a.test none\n[gw.test] encrypt\n", "a.test smtp:[gw.test]\n")
    assert known.decide("a.test", "mx.a.test").level == "encrypt"


@pytest.mark.parametrize(
    ("main", "level"),
    [
        ("x = y\n", "none"),  # Postfix without a word about TLS uses none
        ("smtp_use_tls = yes\n", "may"),
        ("smtp_enforce_tls = yes\n", "verify"),
        ("smtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no\n", "encrypt"),
        ("smtp_tls_security_level = encrypt\nsmtp_use_tls = yes\n", "encrypt"),
        ("smtp_tls_security_level = dane\n", "may"),  # no DNSSEC look-ups
        ("smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n", "dane"),
    ],
)
def test_the_default(tmp_path: Path, main: str, level: str) -> None:
    known = postfix(tmp_path, main=f"{main}smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\n")
    assert known.decide("any.test", "mx.any.test").level == level


def test_dane_only_without_dnssec_waits(tmp_path: Path) -> None:
    assert postfix(tmp_path, main="smtp_tls_security_level = dane-only\n").decide("a.test", "mx").waits


def test_names_that_are_demanded(tmp_path: Path) -> None:
    known = postfix(tmp_path, "a.test verify\nb.test secure\nc.test secure match=hostname:.x.test|Y.test\n")
    assert known.decide("a.test", "mx.a.test") == Demand("verify", frozenset({"mx.a.test"}), anchors=SYSTEM)
    assert known.decide("b.test", "mx.b.test").names == {"b.test", ".b.test"}
    assert known.decide("c.test", "mx.c.test").names == {"mx.c.test", ".x.test", "y.test"}


def test_parameters_stand_in_for_attributes(tmp_path: Path) -> None:
    main = (
        "smtp_tls_verify_cert_match = nexthop\nsmtp_tls_mandatory_protocols = >=TLSv1.3\n"
        "smtp_tls_fingerprint_cert_match = AA:BB | cc\nsmtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\n"
    )
    known = postfix(tmp_path, "a.test verify\nb.test fingerprint\nc.test may\n", main=main)
    assert known.decide("a.test", "mx") == Demand("verify", frozenset({"a.test"}), versions=frozenset({"TLSv1.3"}))
    assert known.decide("b.test", "mx").pins == {"aabb", "cc"}
    assert known.decide("c.test", "mx").versions == {"TLSv1.2", "TLSv1.3"}


def test_no_authority_means_that_nothing_verifies(tmp_path: Path) -> None:
    known = postfix(tmp_path, "a.test secure\n", main="x = y\n")
    assert "smtp_tls_CAfile is empty" in known.decide("a.test", "mx").waits


@pytest.mark.parametrize(
    "text", ["", "strict", "may match=a", "encrypt tafile=/x", "verify match", "secure match=", "verify colour=red"]
)
def test_lines_that_postfix_defers_mail_for(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadPolicy):
        read_line(text)
    assert postfix(tmp_path, f"a.test {text}\n").decide("a.test", "mx").waits


def test_attributes_mean_nothing_where_there_is_no_tls() -> None:
    assert read_line("none match=x colour=red").attributes == ()


@pytest.mark.parametrize(
    ("protocols", "allowed"),
    [
        ("", "TLSv1.2 TLSv1.3"),
        (">=TLSv1", "TLSv1.2 TLSv1.3"),
        (">=TLSv1.3", "TLSv1.3"),
        ("!SSLv2, !SSLv3, !TLSv1.3", "TLSv1.2"),
        ("TLSv1.2", "TLSv1.2"),
        ("<=TLSv1.2:>=TLSv1", "TLSv1.2"),
        ("TLSv1", ""),
    ],
)
def test_protocol_lists(protocols: str, allowed: str) -> None:
    assert allowed_versions(protocols) == set(allowed.split())


def test_servers_in_brackets() -> None:
    assert read_server("[MX.test]:submission") == Server("mx.test", 587)
    assert read_server("[ipv6:2001:db8::1]") == Server("2001:db8::1", 25)
    assert read_server("mx.test") is None
    assert read_server("[mx.test]:nosuchservice") is None
