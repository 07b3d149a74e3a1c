"""TLS reports as a sender of mail makes them (RFC 8460): the JSON, its file name, the mail around it, and who wants it.

Pure: counts in, octets out. Whatever a peer had a hand in stands in the JSON only, where it cannot be taken for
anything else; the names in header fields are those of domains that were looked up in the DNS.
"""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import unquote

from qmtls.ledger.tlsresults import SessionCount, date_of
from qmtls.smtp.address import Address, AddressError, parse_address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.tls.resulttypes import PolicyType, TlsResult

REPORT = "TLS report"  # what their envelopes have as identity; no login has a blank in it
MEDIA_TYPE = "application/tlsrpt+gzip"
MAX_URIS = 10  # of one record that count
MAX_DETAILS = 1000  # kinds of failures of one policy that are told; the rest is in the sums

_LINE = 76  # characters of base64 (RFC 2045 section 6.8)
_VERSION = "v=TLSRPTv1"
_RUA = re.compile(r"[ \t]*rua[ \t]*=[ \t]*(.*)\Z", re.DOTALL)
_URI = re.compile(r"[!-~]+\Z")


@dataclass(frozen=True, slots=True)
class Reporting:
    """`control/tlsrpt`: who reports."""

    sender: Address
    organization: str
    contact: str


@dataclass(frozen=True, slots=True)
class Occasion:
    """One report: of which domain and day, by which host (`me`), made when (Unix seconds); `id` is unique."""

    domain: str
    day: int
    me: str
    id: str
    now: float

    @property
    def report_id(self) -> str:
        return f"{self.id}@{self.me}"

    @property
    def begin(self) -> int:
        return self.day * 86_400

    @property
    def end(self) -> int:
        """Its last second."""
        return self.begin + 86_399


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a domain wants its reports: addresses, and https: addresses."""

    mail: tuple[Address, ...] = ()
    https: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.mail or self.https)


def read_record(records: Iterable[bytes]) -> Wanted:
    """The TXT records of _smtp._tls.DOMAIN, each with its strings joined (RFC 8460 section 3). Nothing wanted if there
    is not exactly one TLSRPT record. What cannot be understood in it is passed over."""
    found = [text for text in (record.decode("ascii", "replace") for record in records) if _is_record(text)]
    if len(found) != 1:
        return Wanted()
    mail: dict[Address, None] = {}
    https: dict[str, None] = {}
    values = [match[1] for match in map(_RUA.match, found[0].split(";")[1:]) if match]
    for uri in (part.strip() for part in ",".join(values[:1]).split(",")[:MAX_URIS]):
        scheme, _, rest = uri.partition(":")
        if not _URI.match(uri):
            continue
        if scheme.lower() == "https":
            https[uri] = None
        elif scheme.lower() == "mailto":
            address = _mailbox(rest.partition("?")[0])
            if address is not None:
                mail[address] = None
    return Wanted(tuple(mail), tuple(https))


def _is_record(text: str) -> bool:
    return text == _VERSION or (text.startswith(_VERSION) and text[len(_VERSION) :].lstrip(" \t").startswith(";"))


def _mailbox(text: str) -> Address | None:
    try:
        return parse_address(unquote(text, errors="strict"))
    except (AddressError, UnicodeDecodeError):
        return None


# ------------------------------------------------------------ the report


def report_json(by: Reporting, occasion: Occasion, counts: Sequence[SessionCount]) -> dict[str, object]:
    """RFC 8460 section 4.4."""
    day = date_of(occasion.day).isoformat()
    return {
        "organization-name": by.organization,
        "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
        "contact-info": by.contact,
        "report-id": occasion.report_id,
        "policies": [_policy(occasion.domain, group) for group in _by_policy(counts)],
    }


def _by_policy(counts: Sequence[SessionCount]) -> list[list[SessionCount]]:
    groups: dict[tuple[PolicyType, tuple[str, ...], tuple[str, ...]], list[SessionCount]] = {}
    for count in counts:
        session = count.session
        groups.setdefault((session.policy_type, session.policy_strings, session.mx_patterns), []).append(count)
    return list(groups.values())


def _policy(domain: str, group: Sequence[SessionCount]) -> dict[str, object]:
    first = group[0].session
    policy: dict[str, object] = {"policy-type": first.policy_type.value}
    if first.policy_strings:
        policy["policy-string"] = list(first.policy_strings)
    policy["policy-domain"] = domain
    if first.mx_patterns:
        policy["mx-host"] = list(first.mx_patterns)
    failed = [count for count in group if count.session.result is not TlsResult.SUCCESS]
    good = sum(count.sessions for count in group if count.session.result is TlsResult.SUCCESS)
    found: dict[str, object] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": good,
            "total-failure-session-count": sum(count.sessions for count in failed),
        },
    }
    if failed:
        most = sorted(failed, key=lambda count: -count.sessions)[:MAX_DETAILS]
        found["failure-details"] = [_detail(count) for count in most]
    return found


def _detail(count: SessionCount) -> dict[str, object]:
    session = count.session
    known = {
        "sending-mta-ip": session.sending_ip,
        "receiving-mx-hostname": session.mx,
        "receiving-mx-helo": session.helo,
        "receiving-ip": session.receiving_ip,
        "failure-reason-code": session.reason,
    }
    return {
        "result-type": session.result.value,
        **{name: value for name, value in known.items() if value},
        "failed-session-count": count.sessions,
    }


def compressed(report: dict[str, object]) -> bytes:
    return gzip.compress(json.dumps(report, ensure_ascii=False).encode("utf-8"), mtime=0)


def file_name(occasion: Occasion) -> str:
    """RFC 8460 section 5.1. Who reports, about whom, from when to when, and what makes it unique."""
    return f"{occasion.me}!{occasion.domain}!{occasion.begin}!{occasion.end}!{occasion.id}.json.gz"


# ------------------------------------------------------------ the mail


def report_mail(by: Reporting, occasion: Occasion, to: Address, gzipped: bytes, id: str) -> tuple[Envelope, bytes]:
    """Envelope and content (RFC 8460 section 5.3), to be signed on its way. `id` is that of the message.

    Whatever TLS the recipient's hosts have goes: a report about broken TLS must arrive (section 3, RFC 8689 section 5).
    Sessions for such mail are not counted, so there is no report of reports.
    """
    boundary = f"=_{occasion.id}"
    content = "".join(
        (
            f"Date: {formatdate(occasion.now)}\r\n",
            f"From: <{by.sender}>\r\n",
            f"To: <{to}>\r\n",
            f"Subject: Report Domain: {occasion.domain}\r\n Submitter: {occasion.me}\r\n",
            f" Report-ID: <{occasion.report_id}>\r\n",
            f"Message-ID: <{id}@{occasion.me}>\r\n",
            f"TLS-Report-Domain: {occasion.domain}\r\n",
            f"TLS-Report-Submitter: {occasion.me}\r\n",
            "TLS-Required: No\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "MIME-Version: 1.0\r\n",
            f'Content-Type: multipart/report; report-type="tlsrpt";\r\n\tboundary="{boundary}"\r\n\r\n',
            f"--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
            f"This is an aggregate TLS report (RFC 8460) from {occasion.me}\r\n",
            f"about {occasion.domain}, for {date_of(occasion.day)} (UTC).\r\n",
            f"\r\n--{boundary}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Transfer-Encoding: base64\r\n",
            f'Content-Disposition: attachment;\r\n\tfilename="{file_name(occasion)}"\r\n\r\n',
            _base64(gzipped),
            f"--{boundary}--\r\n",
        )
    ).encode("ascii")
    envelope = Envelope(
        by.sender,
        (Recipient(to),),
        Arrival(occasion.now, protocol="local", identity=REPORT),
        tls_optional=True,
    )
    return envelope, content


def _base64(data: bytes) -> str:
    text = b64encode(data).decode("ascii")
    return "".join(f"{text[at : at + _LINE]}\r\n" for at in range(0, len(text), _LINE))
