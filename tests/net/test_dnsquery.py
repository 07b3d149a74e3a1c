"""Answers as octets: one bad TLSA record costs that record, anything else the answer."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.rdata
import dns.rdataclass
import dns.rrset
import pytest
from dns.name import from_text
from dns.rdatatype import MX, TLSA
from hypothesis import given
from hypothesis import strategies as st

from qmtls.net.dnsquery import read_answer

OWNER = from_text("_25._tcp.mx.test")
GOOD, SHORT = b"\x03\x01\x01" + b"k" * 32, b"\x03\x01\x01short"


def wire(*records: bytes) -> bytes:
    answer = dns.message.make_response(dns.message.make_query(OWNER, "TLSA"))
    found = dns.rrset.RRset(OWNER, dns.rdataclass.IN, TLSA)
    for record in records:
        found.add(dns.rdata.GenericRdata(found.rdclass, found.rdtype, record), 300)
    answer.answer.append(found)
    return answer.to_wire()


@pytest.mark.parametrize(
    ("records", "good", "bad"),
    [
        ((GOOD,), 1, 0),
        ((GOOD, SHORT), 1, 1),
        ((SHORT, b""), 0, 2),
        ((b"\x03", GOOD, b"\x03\x01\x02" + b"k" * 32), 1, 2),
    ],
)
def test_records_that_cannot_be_read_are_counted(records: tuple[bytes, ...], good: int, bad: int) -> None:
    answer = read_answer(wire(*records), TLSA)
    assert (sum(map(len, answer.answer)), len(answer.errors)) == (good, bad)


def test_other_questions_get_no_such_patience() -> None:
    with pytest.raises(dns.exception.FormError):
        read_answer(wire(GOOD, SHORT), MX)


def test_an_answer_that_is_cut_or_too_long_is_none() -> None:
    whole = wire(GOOD, SHORT)
    for end in range(len(whole)):
        with pytest.raises(dns.exception.DNSException):
            read_answer(whole[:end], TLSA)
    with pytest.raises(dns.exception.DNSException):
        read_answer(whole + b"\0", TLSA)


@given(st.binary(max_size=60), st.integers(0, 90))
def test_any_octets_are_an_answer_or_a_dns_exception(junk: bytes, at: int) -> None:
    whole = wire(GOOD, SHORT)
    for data in (junk, whole[:at] + junk + whole[at + len(junk) :], whole[:12] + junk):
        try:
            read_answer(data, TLSA)
        except (dns.exception.DNSException, ValueError):
            pass
