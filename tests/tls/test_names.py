from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from qmtls.tls.names import canonical, is_host_name, is_ip, name_matches, shown_dn, shown_names
from tests.tls.pki import certificate, host, san_entries

NO_SAN = certificate("mx.example.org")
IP_AS_DNS = certificate("x", san_der=san_entries(0x82, b"192.0.2.1"))
IP = certificate("x", sans=[x509.IPAddress(ip_address("192.0.2.1")), x509.IPAddress(ip_address("2001:db8::1"))])


@pytest.mark.parametrize(
    ("cert", "name", "expected"),
    [
        (host("mx.example.org"), "mx.example.org", True),
        (host("MX.Example.ORG"), "mx.example.org", True),
        (host("other.example", "mx.example.org"), "mx.example.org", True),
        (host("other.example"), "mx.example.org", False),
        (host("*.example.org"), "mx.example.org", True),
        (host("*.example.org"), "a.mx.example.org", False),
        (host("*.example.org"), "example.org", False),
        (host("m*.example.org"), "mx.example.org", False),
        (host("*.*.org"), "mx.example.org", False),
        (NO_SAN, "mx.example.org", False),  # the commonName says it, and does not count
        (certificate("x", san_der=b"\x30\x03\x82\x05a"), "a", False),
        (certificate("x", san_der=san_entries(0x82, b"mx.example.org\x00.evil.example")), "mx.example.org", False),
        (certificate("x", san_der=san_entries(0x82, b"mx.example.org", b"a\x00b")), "mx.example.org", False),
        (IP_AS_DNS, "192.0.2.1", False),
        (IP, "192.0.2.1", True),
        (IP, "2001:db8:0::1", True),
        (IP, "192.0.2.2", False),
        (host("192.example.org"), "", False),
        (host("a.example.org"), ".example.org", True),
        (host("a.b.example.org"), ".example.org", True),
        (host("*.example.org"), ".example.org", True),
        (host("example.org"), ".example.org", False),
        (host("badexample.org"), ".example.org", False),
        (host("a.example.org"), ".", False),
        (host("a.example.org"), "..org", False),
        (NO_SAN, ".example.org", False),
        (certificate("x", san_der=san_entries(0x82, b".example.org")), ".example.org", False),
    ],
)
def test_a_certificate_carries_a_name_or_not(cert: x509.Certificate, name: str, expected: bool) -> None:
    assert name_matches(cert, (name,)) is expected


def test_any_of_several_names_will_do_and_none_of_none() -> None:
    assert name_matches(host("a.example"), ("b.example", "a.example"))
    assert not name_matches(host("a.example"), ())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MX.Example.Org.", "mx.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("Bücher.Example.", "xn--bcher-kva.example"),
        ("", ""),
    ],
)
def test_one_form_for_looking_up(name: str, expected: str) -> None:
    assert canonical(name) == expected


@given(st.text())
def test_no_text_breaks_the_form(name: str) -> None:
    canonical(name)
    is_ip(name)
    is_host_name(name)
    name_matches(NO_SAN, (name,))


@pytest.mark.parametrize("name", ["", ".", "a..b", ".a", "a.", "a/b", "a\0b", "a b", "-a", "a" * 64, "a\n", "../x"])
def test_no_host_name(name: str) -> None:
    assert not is_host_name(name)


@pytest.mark.parametrize("name", ["a", "mx-1.example.org", "_dmarc.example.org", "xn--bcher-kva.example", "1.example"])
def test_host_name(name: str) -> None:
    assert is_host_name(name)


def test_names_are_shown_few_and_plain() -> None:
    assert shown_names(host("a.example", "b.example", "c.example", "d.example")) == (
        "a.example, b.example, c.example and 1 more"
    )
    assert shown_names(NO_SAN) == "no usable name"
    assert shown_names(certificate("x", san_der=san_entries(0x82, b"a\n\x1b[2J"))) == "no usable name"
    assert shown_names(IP) == "192.0.2.1, 2001:db8::1"


def test_a_distinguished_name_for_people() -> None:
    def name(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs])

    assert shown_dn(name((NameOID.COMMON_NAME, "Joe"), (NameOID.EMAIL_ADDRESS, "joe@a.test"))) == (
        "emailAddress=joe@a.test,CN=Joe"
    )
    assert shown_dn(name((NameOID.COMMON_NAME, "a\x1b[2Jb\nc"))) == "CN=a?[2Jb?c"
    assert shown_dn(name()) == "(no name)"
