"""The schema of RFC 8460 section 4.4 as checks, written from its text and apart from what they check."""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_address
from typing import Any

RESULT_TYPES = {
    # 4.3.1
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    # 4.3.2.1
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    # 4.3.2.2
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
}


def check_report(report: Any) -> None:
    keys(report, {"organization-name", "date-range", "contact-info", "report-id", "policies"})
    for name in ("organization-name", "contact-info", "report-id"):
        text(report[name])
    keys(report["date-range"], {"start-datetime", "end-datetime"})
    begin, end = (datetime.fromisoformat(report["date-range"][f"{name}-datetime"]) for name in ("start", "end"))
    assert begin.utcoffset() is not None and begin < end
    assert isinstance(report["policies"], list)
    for policy in report["policies"]:
        check_policy(policy)


def check_policy(entry: Any) -> None:
    keys(entry, {"policy", "summary"}, {"failure-details"})
    policy = entry["policy"]
    keys(policy, {"policy-type", "policy-domain"}, {"policy-string", "mx-host"})
    assert policy["policy-type"] in ("tlsa", "sts", "no-policy-found")
    text(policy["policy-domain"])
    for name in ("policy-string", "mx-host"):
        for one in policy.get(name, []):
            text(one)
    assert "mx-host" not in policy or policy["policy-type"] == "sts"
    keys(entry["summary"], {"total-successful-session-count", "total-failure-session-count"})
    for value in entry["summary"].values():
        number(value)
    details = entry.get("failure-details", [])
    for detail in details:
        check_detail(detail)
    assert sum(d["failed-session-count"] for d in details) <= entry["summary"]["total-failure-session-count"]


def check_detail(detail: Any) -> None:
    optional = {"sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo", "receiving-ip"}
    keys(detail, {"result-type", "failed-session-count"}, optional | {"additional-information", "failure-reason-code"})
    assert detail["result-type"] in RESULT_TYPES
    number(detail["failed-session-count"])
    for name in ("sending-mta-ip", "receiving-ip"):
        if name in detail:
            ip_address(detail[name])


def keys(value: Any, needed: set[str], optional: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert isinstance(value, dict)
    assert needed <= set(value) <= needed | optional, set(value)


def text(value: Any) -> None:
    assert isinstance(value, str) and value


def number(value: Any) -> None:
    assert isinstance(value, int) and not isinstance(value, bool) and value >= 0
