"""TLS reports that others send us (RFC 8460): read from a mail, gzip or JSON, bounded, and checked against the schema.

Whoever mails us may claim to be a reporter, so nothing is believed: sizes are bounded before anything is unpacked,
types are checked, and what is missing or wrong is BadReport with a sentence. What real reporters leave out or write
otherwise than the RFC (a single mx-host, no failure details, no policy strings) is taken.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.message import Message
from typing import Any, TypeVar

from qmtls.wording import counted

MAX_FILE = 32 << 20  # octets of a mail or a compressed report
MAX_JSON = 64 << 20  # octets of a report; beyond it is a bomb
MAX_POLICIES = 10_000

_GZIP = b"\x1f\x8b"
_TYPES = ("application/tlsrpt+gzip", "application/tlsrpt+json", "application/gzip", "application/json")

T = TypeVar("T")


class BadReport(ValueError):
    """It is no TLS report, or none that can be understood; str() is a sentence."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One kind of failure; texts are "" where the report has none."""

    result: str
    sessions: int
    sending_ip: str = ""
    mx: str = ""
    mx_helo: str = ""
    receiving_ip: str = ""
    reason: str = ""
    information: str = ""


@dataclass(frozen=True, slots=True)
class ReportedPolicy:
    """One policy of a domain, and how sessions under it went."""

    domain: str
    type: str
    strings: tuple[str, ...]
    mx_hosts: tuple[str, ...]
    good: int
    failed: int
    details: tuple[Detail, ...]


@dataclass(frozen=True, slots=True)
class ReceivedReport:
    """`begin` and `end` are times as the report has them (RFC 3339)."""

    organization: str
    contact: str
    id: str
    begin: str
    end: str
    policies: tuple[ReportedPolicy, ...]


def read_report(data: bytes) -> ReceivedReport:
    """From what a file holds: JSON, gzip of it, or a whole mail with it. Raises BadReport."""
    if len(data) > MAX_FILE:
        raise BadReport(f"it is longer than {MAX_FILE >> 20} MiB")
    if not data.strip():
        raise BadReport("it is empty")
    if data.startswith(_GZIP):
        return _parse(_unpacked(data))
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _parse(data)
    return _parse(_unpacked(_attached(data)))


def _attached(mail: bytes) -> bytes:
    """The report in a mail. One of another media type counts if its name ends as reports do."""
    try:
        message = message_from_bytes(mail)
        found = [part for part in message.walk() if _is_report(part)]
        if not message.keys():
            raise BadReport("it is neither JSON nor gzip nor a mail")
        if len(found) != 1:
            raise BadReport(f"the mail has {counted(len(found), 'TLS report')} in it")
        content = found[0].get_payload(decode=True)
    except BadReport:
        raise
    except Exception as problem:  # the parser's errors are many
        raise BadReport(f"the mail cannot be taken apart ({type(problem).__name__})") from problem
    if not isinstance(content, bytes):
        raise BadReport("the mail's report is in several parts")
    return content


def _is_report(part: Message) -> bool:
    if part.is_multipart():
        return False
    kind, name = part.get_content_type(), (part.get_filename() or "").lower()
    return kind in _TYPES[:2] or (kind in _TYPES[2:] and "!" in name) or name.endswith((".json.gz", ".json"))


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacking = zlib.decompressobj(wbits=31)
    try:
        text = unpacking.decompress(data, MAX_JSON + 1)
    except zlib.error as problem:
        raise BadReport("its compressed data is damaged") from problem
    if len(text) > MAX_JSON:
        raise BadReport(f"it unpacks to more than {MAX_JSON >> 20} MiB")
    if not unpacking.eof:
        raise BadReport("its compressed data is cut short")
    return text


def _parse(text: bytes) -> ReceivedReport:
    try:
        found = json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        raise BadReport("it is no UTF-8 text") from problem
    except (ValueError, RecursionError) as problem:
        raise BadReport(f"it is no JSON ({problem})") from problem
    return _Object(found, "the report").report()


class _Object:
    """One JSON object, its members asked for by name and type. `where` is its place, for sentences."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BadReport(f"{where} is no object")
        self._value: Mapping[str, Any] = value
        self._where = where

    def report(self) -> ReceivedReport:
        dates = self._object("date-range")
        policies = self._list("policies", needed=True)
        if len(policies) > MAX_POLICIES:
            raise BadReport(f"it has more than {MAX_POLICIES} policies")
        return ReceivedReport(
            self.text("organization-name", needed=False),
            self.text("contact-info", needed=False),
            self.text("report-id"),
            dates.time("start-datetime"),
            dates.time("end-datetime"),
            tuple(self._each(policies, "policies", _Object._reported)),
        )

    def _reported(self) -> ReportedPolicy:
        policy, summary = self._object("policy"), self._object("summary")
        details = self._list("failure-details")
        return ReportedPolicy(
            policy.text("policy-domain"),
            policy.text("policy-type"),
            policy.texts("policy-string"),
            policy.texts("mx-host"),
            summary.count("total-successful-session-count"),
            summary.count("total-failure-session-count"),
            tuple(self._each(details, "failure-details", _Object._detail)),
        )

    def _detail(self) -> Detail:
        return Detail(
            self.text("result-type"),
            self.count("failed-session-count"),
            *(
                self.text(name, needed=False)
                for name in (
                    "sending-mta-ip",
                    "receiving-mx-hostname",
                    "receiving-mx-helo",
                    "receiving-ip",
                    "failure-reason-code",
                    "additional-information",
                )
            ),
        )

    def text(self, name: str, *, needed: bool = True) -> str:
        value = self._value.get(name)
        if value is None and not needed:
            return ""
        if not isinstance(value, str):
            raise BadReport(f"{self._where}: {self._what(name)} text")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._value.get(name)
        value = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise BadReport(f"{self._where}: {self._what(name)} list of texts")
        return tuple(value)

    def count(self, name: str) -> int:
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise BadReport(f"{self._where}: {self._what(name)} number of sessions")
        return value

    def time(self, name: str) -> str:
        text = self.text(name)
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise BadReport(f"{self._where}: {self._what(name)} time") from None
        return text

    def _object(self, name: str) -> _Object:
        return _Object(self._value.get(name), f"{self._where}: {name}")

    def _list(self, name: str, *, needed: bool = False) -> list[object]:
        value = self._value.get(name)
        if value is None and not needed:
            return []
        if not isinstance(value, list):
            raise BadReport(f"{self._where}: {self._what(name)} list")
        return value

    def _each(self, values: list[object], name: str, read: Callable[[_Object], T]) -> Iterator[T]:
        return (read(_Object(value, f"{name}[{number}]")) for number, value in enumerate(values))

    def _what(self, name: str) -> str:
        return f"{name} is missing, and should be a" if name not in self._value else f"{name} is no"
