"""TLS reports that we make: by the RFC's schema, as a mail that Python's parser takes apart, and who wants them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.tlsreading import read_report
from qmtls.delivery.tlsreport import (
    MAX_DETAILS,
    Occasion,
    Reporting,
    Wanted,
    compressed,
    file_name,
    read_record,
    report_json,
    report_mail,
)
from qmtls.ledger.tlsresults import SessionCount, day_number
from qmtls.smtp.address import Address
from qmtls.tls.results import TlsSession
from qmtls.tls.resulttypes import PolicyType, TlsResult
from tests.delivery.rfc8460 import check_report

BY = Reporting(Address("tlsrpt", "here.example"), 'Gr\xfc\xdfe & "Co"', "post@here.example")
OCCASION = Occasion("a.example", day_number("2026-11-21"), "mx.here.example", "0a1b2c", 1_795_000_000.0)
TO = Address("reports", "there.example")
STS = ("version: STSv1", "mode: enforce", "mx: *.a.example", "max_age: 86400")
GOOD = TlsSession("a.example", PolicyType.STS, STS, "", "", "", TlsResult.SUCCESS, ("*.a.example",))
BAD = replace(
    GOOD,
    result=TlsResult.CERTIFICATE_EXPIRED,
    mx="mx.a.example",
    sending_ip="2001:db8::1",
    receiving_ip="192.0.2.2",
    reason='expired "\r\nX: y',
    helo="inner.a.example",
)
PLAIN = TlsSession("a.example", PolicyType.NONE, (), "mx", "", "", TlsResult.STARTTLS_NOT_SUPPORTED)
COUNTS = [SessionCount(GOOD, 7), SessionCount(BAD, 2), SessionCount(replace(BAD, mx="mx2.a.example"), 3)]


def test_a_report() -> None:
    report = report_json(BY, OCCASION, [*COUNTS, SessionCount(PLAIN, 1)])
    check_report(report)
    assert report["report-id"] == "0a1b2c@mx.here.example"
    assert report["date-range"] == {"start-datetime": "2026-11-21T00:00:00Z", "end-datetime": "2026-11-21T23:59:59Z"}
    sts, none = report["policies"]  # type: ignore[misc]
    assert sts["policy"] == {  # type: ignore[has-type]
        "policy-type": "sts",
        "policy-string": list(STS),
        "policy-domain": "a.example",
        "mx-host": ["*.a.example"],
    }
    assert sts["summary"] == {"total-successful-session-count": 7, "total-failure-session-count": 5}  # type: ignore[has-type]
    assert [d["receiving-mx-hostname"] for d in sts["failure-details"]] == ["mx2.a.example", "mx.a.example"]  # type: ignore[has-type]
    assert sts["failure-details"][0] == {  # type: ignore[has-type]
        "result-type": "certificate-expired",
        "sending-mta-ip": "2001:db8::1",
        "receiving-mx-hostname": "mx2.a.example",
        "receiving-mx-helo": "inner.a.example",
        "receiving-ip": "192.0.2.2",
        "failure-reason-code": 'expired "\r\nX: y',
        "failed-session-count": 3,
    }
    assert none["policy"]["policy-type"] == "no-policy-found"  # type: ignore[has-type]


TEXT = st.text(max_size=20)
IP = st.sampled_from(["", "192.0.2.1", "2001:db8::1"])
SESSIONS = st.builds(
    TlsSession,
    domain=st.just("a.example"),
    policy_type=st.sampled_from([PolicyType.NONE, PolicyType.TLSA]),
    policy_strings=st.lists(st.sampled_from(["3 1 1 aa", "2 0 1 bb"]), max_size=2).map(tuple),
    mx=TEXT,
    sending_ip=IP,
    receiving_ip=IP,
    result=st.sampled_from(TlsResult),
    reason=TEXT,
    helo=TEXT,
)


@given(st.lists(st.builds(SessionCount, SESSIONS, st.integers(1, 1 << 40)), min_size=1, max_size=8))
def test_any_report_meets_the_schema_and_is_read(counts: list[SessionCount]) -> None:
    gzipped = compressed(report_json(BY, OCCASION, counts))
    check_report(json.loads(gzip.decompress(gzipped)))
    found = read_report(report_mail(BY, OCCASION, TO, gzipped, "f00")[1])
    assert sum(p.good + p.failed for p in found.policies) == sum(count.sessions for count in counts)


def test_details_have_an_end() -> None:
    counts = [SessionCount(replace(BAD, mx=f"mx{n}"), n + 1) for n in range(MAX_DETAILS + 5)]
    report = report_json(BY, OCCASION, counts)
    check_report(report)
    (found,) = report["policies"]  # type: ignore[misc]
    assert len(found["failure-details"]) == MAX_DETAILS  # type: ignore[has-type]
    assert found["summary"]["total-failure-session-count"] == sum(c.sessions for c in counts)  # type: ignore[has-type]


def test_the_mail() -> None:
    gzipped = compressed(report_json(BY, OCCASION, COUNTS))
    envelope, content = report_mail(BY, OCCASION, TO, gzipped, "f00")
    assert envelope.reverse_path == BY.sender
    assert envelope.tls_optional and not envelope.requiretls
    assert content.isascii() and b"\n" not in content.replace(b"\r\n", b"")
    assert max(map(len, content.split(b"\r\n"))) <= 160
    mail = message_from_bytes(content, policy=policy.SMTP)
    assert not mail.defects
    assert mail["Subject"] == "Report Domain: a.example Submitter: mx.here.example Report-ID: <0a1b2c@mx.here.example>"
    assert (mail["TLS-Report-Domain"], mail["TLS-Report-Submitter"]) == ("a.example", "mx.here.example")
    assert mail["TLS-Required"] == "No"
    assert (mail["From"], mail["To"]) == ("tlsrpt@here.example", "reports@there.example")
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "tlsrpt"
    text, report = mail.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert report.get_content_type() == "application/tlsrpt+gzip"
    assert report.get_filename() == file_name(OCCASION)
    assert report.get_payload(decode=True) == gzipped


def test_the_name_of_the_file() -> None:
    assert file_name(OCCASION) == "mx.here.example!a.example!1795219200!1795305599!0a1b2c.json.gz"


# ------------------------------------------------------------ who wants it

ME = Address("tlsrpt", "a.example")


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([b"v=TLSRPTv1;rua=mailto:tlsrpt@a.example"], Wanted((ME,))),
        ([b"v=TLSRPTv1; rua = https://a.example/v1 ;x=y"], Wanted((), ("https://a.example/v1",))),
        (
            [b"v=TLSRPTv1; rua=mailto:tlsrpt@a.example,https://a.example/v1 , MAILTO:x%2By@a.example?subject=z"],
            Wanted((ME, Address("x+y", "a.example")), ("https://a.example/v1",)),
        ),
        ([b"v=spf1 -all", b"v=TLSRPTv1; rua=mailto:tlsrpt@a.example"], Wanted((ME,))),
        ([b"v=TLSRPTv1; rua=mailto:tlsrpt@a.example"] * 2, Wanted()),
        ([], Wanted()),
        ([b"v=TLSRPTv1"], Wanted()),
        ([b"v=TLSRPTv1; rua="], Wanted()),
        ([b"v=TLSRPTv10; rua=mailto:tlsrpt@a.example"], Wanted()),
        ([b"v=TLSRPTv1; rua=http://a.example, ftp://x, mailto:, mailto:a b@c, mailto:a%0D%0Ab@c"], Wanted()),
        ([b"v=TLSRPTv1; rua=mailto:%FF@a.example,\xff"], Wanted()),
        ([b"v=TLSRPTv1; rua=" + b"mailto:tlsrpt@a.example," * 1000], Wanted((ME,))),
    ],
)
def test_who_wants_reports(records: list[bytes], wanted: Wanted) -> None:
    assert read_record(records) == wanted


def test_many_addresses_have_an_end() -> None:
    uris = b",".join(b"mailto:a%d@a.example" % n for n in range(100))
    assert len(read_record([b"v=TLSRPTv1;rua=" + uris]).mail) == 10


@given(st.lists(st.binary(max_size=60).map(lambda b: b"v=TLSRPTv1;" + b), max_size=1))
def test_any_record(records: list[bytes]) -> None:
    read_record(records)
