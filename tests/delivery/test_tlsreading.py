"""TLS reports of others: the forms they come in, what real reporters write, and what is none."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery import tlsreading
from qmtls.delivery.tlsreading import BadReport, Detail, ReportedPolicy, read_report

# After appendix B of RFC 8460.
REPORT: dict[str, Any] = {
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"],
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:0012::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "validation-failure",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-ip": "203.0.113.58",
                    "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                    "receiving-mx-helo": "mx",
                    "failed-session-count": 3,
                    "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                    "additional-information": "https://reports.company-x.example/",
                },
            ],
        }
    ],
}
JSON = json.dumps(REPORT).encode()
HEAD = b'From: x@y\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=tlsrpt; boundary="b"\r\n\r\n'


def mail(type_: bytes, content: bytes, name: bytes = b"") -> bytes:
    import base64

    head = b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: " + type_
    name = b'\r\nContent-Disposition: attachment; filename="' + name + b'"' if name else b""
    encoding = b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return HEAD + head + name + encoding + base64.encodebytes(content) + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    "data",
    [
        JSON,
        b"\xef\xbb\xbf\r\n " + JSON,
        gzip.compress(JSON),
        mail(b"application/tlsrpt+gzip", gzip.compress(JSON)),
        mail(b"application/tlsrpt+json", JSON),
        mail(b"application/gzip", gzip.compress(JSON), b"x!y!1!2.json.gz"),
        mail(b"application/octet-stream", gzip.compress(JSON), b"x.JSON.GZ"),
        b"From MAILER Mon Jan  1\r\n" + mail(b"application/tlsrpt+gzip", gzip.compress(JSON)),
        b"Content-Type: application/tlsrpt+json\r\n\r\n" + JSON,
    ],
)
def test_forms(data: bytes) -> None:
    found = read_report(data)
    assert (found.organization, found.id, found.end) == ("Company-X", REPORT["report-id"], "2016-04-01T23:59:59Z")
    (policy,) = found.policies
    assert (policy.domain, policy.type, policy.good, policy.failed) == ("company-y.example", "sts", 5326, 303)
    assert policy.details[1] == Detail(
        "validation-failure",
        3,
        "198.51.100.62",
        "mx-backup.mail.company-y.example",
        "mx",
        "203.0.113.58",
        "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
        "https://reports.company-x.example/",
    )


def test_what_reporters_leave_out_or_write_otherwise() -> None:
    policy = {"policy-type": "sts", "policy-domain": "x", "mx-host": "*.x"}
    summary = {"total-successful-session-count": 1, "total-failure-session-count": 0}
    report = {**REPORT, "policies": [{"policy": policy, "summary": summary, "failure-details": None}]}
    del report["contact-info"]
    (found,) = read_report(json.dumps(report).encode()).policies
    assert found == ReportedPolicy("x", "sts", (), ("*.x",), 1, 0, ())


def changed(path: str, value: object) -> bytes:
    """REPORT with something else at a place, or nothing where `value` is ..."""
    report = json.loads(JSON)
    place: Any = report
    *way, last = [int(word) if word.isdigit() else word for word in path.split("/")]
    for word in way:
        place = place[word]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(report).encode()


P = "policies/0"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"nonsense", "neither JSON nor gzip nor a mail"),
        (b"\0\xff" * 50, "neither JSON nor gzip nor a mail"),
        (b"{", "it is no JSON"),
        (b'{"a":' * 100_000, "it is no JSON"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "it is no JSON"),
        (b"{\xff}", "it is no UTF-8 text"),
        (b"\x1f\x8bgarbage", "damaged"),
        (gzip.compress(JSON)[:-20], "cut short"),
        (gzip.compress(b"[]"), "the report is no object"),
        (HEAD + b"--b\r\n\r\nx\r\n--b--\r\n", "has no TLS report in it"),
        (mail(b"application/tlsrpt+gzip", b"\x1f\x8bno"), "damaged"),
        (b"Subject: x\r\n\r\nhello", "has no TLS report in it"),
        (changed("date-range", ...), "the report: date-range is no object"),
        (changed("date-range/start-datetime", "yesterday"), "date-range: start-datetime is no time"),
        (changed("report-id", 5), "report-id is no text"),
        (changed("report-id", ...), "report-id is missing"),
        (changed("policies", {}), "policies is no list"),
        (changed("policies", ...), "policies is missing"),
        (changed(P, []), "policies[0] is no object"),
        (changed(f"{P}/policy/policy-string", [1]), "policy: policy-string is no list of texts"),
        (changed(f"{P}/policy/policy-domain", None), "policy: policy-domain is no text"),
        (changed(f"{P}/summary/total-failure-session-count", "3"), "total-failure-session-count is no number"),
        (changed(f"{P}/summary/total-failure-session-count", -1), "is no number"),
        (changed(f"{P}/summary/total-failure-session-count", True), "is no number"),
        (changed(f"{P}/failure-details", "x"), "failure-details is no list"),
        (changed(f"{P}/failure-details/1/failed-session-count", 1.5), "failure-details[1]: failed-session-count"),
        (changed("policies", [REPORT["policies"][0]] * 10_001), "more than 10000 policies"),
    ],
)
def test_what_is_none(data: bytes, said: str) -> None:
    with pytest.raises(BadReport) as problem:
        read_report(data)
    assert said in str(problem.value)


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlsreading, "MAX_JSON", 1 << 20)
    with pytest.raises(BadReport, match="unpacks to more than 1 MiB"):
        read_report(zlib.compress(b" " * (2 << 20), wbits=31))
    monkeypatch.setattr(tlsreading, "MAX_FILE", 100)
    with pytest.raises(BadReport, match="longer than"):
        read_report(JSON)


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_octets(data: bytes, form: int) -> None:
    forms = (data, gzip.compress(data), mail(b"application/tlsrpt+gzip", data), b"{" + data)
    try:
        read_report(forms[form])
    except BadReport:
        pass
