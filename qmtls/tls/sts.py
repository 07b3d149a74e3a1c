"""MTA-STS for senders (RFC 8461): the TXT record, the policy text, its mx patterns, and how long a policy holds.

Pure: texts in, values out, time is an argument (Unix seconds). What cannot be understood is StsError with a sentence
fragment, never another exception: the texts come from anybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from qmtls.tls.names import canonical, is_host_name

MAX_POLICY = 64 * 1024  # octets; RFC 8461 section 3.3 suggests this
MAX_AGE = 31_557_600  # seconds, a year: section 3.2. More is taken for this
MAX_PATTERNS = 1000  # of one policy; the longest mx pattern has 255 octets
MAX_JSON = 4 * MAX_POLICY

_RECORD = b"v=STSv1;"
# Section 3.1: an id, and fields of later versions, which are passed over. WSP is a blank or a tab.
_RECORD_FIELD = re.compile(rb"[ \t]*([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([!-:<>-~]+)[ \t]*\Z")
_RECORD_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")
# Section 3.2: "key: value", keys as in section 3.1.
_POLICY_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):")
_DIGITS = re.compile(r"[0-9]{1,10}\Z")


class StsError(ValueError):
    """A record or policy that cannot be used; str() is a fragment: "it has no max_age"."""


class StsMode(Enum):
    """What a policy asks for (RFC 8461 section 5)."""

    ENFORCE = "enforce"  # no delivery to hosts that fail
    TESTING = "testing"  # delivery all the same, and a report
    NONE = "none"  # the domain has no policy (any more)


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy as published. `mx` are lower-case patterns: "mx.example.org", "*.example.org"."""

    mode: StsMode
    max_age: int  # seconds
    mx: tuple[str, ...] = ()

    def covers(self, host: str) -> bool:
        """True if a pattern matches this MX host. "*" is exactly one whole label (RFC 8461 section 4.1)."""
        host = canonical(host)
        label, _, parent = host.partition(".")
        return host in self.mx or (bool(label and parent) and f"*.{parent}" in self.mx)


@dataclass(frozen=True, slots=True)
class CachedPolicy:
    """A policy of `domain` with when (Unix seconds) and under which record id it was fetched.

    `checked` is when the record's id was last seen to be this one, `used` when mail last asked for the policy.
    """

    domain: str
    id: str
    policy: StsPolicy
    fetched: float
    checked: float
    used: float

    @property
    def expires(self) -> float:
        """When it must not be used any more."""
        return self.fetched + self.policy.max_age

    def is_fresh(self, now: float) -> bool:
        """False once max_age has passed. A policy from the future (a clock was put back) is not older than now."""
        return now < self.expires

    @property
    def refresh_at(self) -> float:
        """When to fetch it anew: after half of its life, and a day at the latest (RFC 8461 section 5.1: daily)."""
        return self.fetched + min(self.policy.max_age / 2, 86_400)

    def to_json(self) -> str:
        """One line. The other way: `cached_from_json`."""
        return json.dumps(
            {
                "version": 1,
                "domain": self.domain,
                "id": self.id,
                "mode": self.policy.mode.value,
                "max_age": self.policy.max_age,
                "mx": self.policy.mx,
                "fetched": self.fetched,
                "checked": self.checked,
                "used": self.used,
            }
        )


def read_record(strings: Iterable[bytes]) -> str:
    """The id in the TXT records of _mta-sts.DOMAIN, each one as its strings joined; "" if there is no STS record.

    Raises StsError for several and for one that is malformed: the domain then counts as having none (section 3.1).
    """
    found = [text for text in strings if text.startswith(_RECORD)]
    if not found:
        return ""
    if len(found) > 1:
        raise StsError(f"there are {len(found)} records that begin with v=STSv1")
    fields = found[0][len(_RECORD) :].split(b";")
    if len(fields) > 1 and not fields[-1].strip(b" \t"):
        fields.pop()  # the last semicolon need not be followed by anything
    ids = []
    for text in fields:
        field = _RECORD_FIELD.match(text)
        if field is None:
            raise StsError("its record has a field that is not name=value")
        if field[1] == b"id":
            ids.append(field[2].decode("ascii"))
    if not ids:
        raise StsError("its record has no id")
    # Of a repeated field the first counts (section 3.2).
    if not _RECORD_ID.match(ids[0]):
        raise StsError("the id in its record is not 1 to 32 letters and digits")
    return ids[0]


def read_policy(body: bytes) -> StsPolicy:
    """The policy text that the policy host serves (section 3.2). Raises StsError."""
    if len(body) > MAX_POLICY:
        raise StsError(f"its policy is longer than {MAX_POLICY} octets")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise StsError("its policy is not UTF-8") from problem
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if not line.strip(" \t"):
            continue
        field = _POLICY_KEY.match(line)
        if field is None:
            raise StsError("its policy has a line that is not 'key: value'")
        key, value = field[1], line[field.end() :].strip(" \t")
        if key == "mx":
            patterns.append(value)
        else:
            fields.setdefault(key, value)  # of a repeated field the first counts
    if fields.get("version") != "STSv1":
        raise StsError("its policy does not say version: STSv1")
    return _policy(fields.get("mode"), fields.get("max_age"), patterns)


def _policy(mode: str | None, max_age: str | None, patterns: list[str]) -> StsPolicy:
    if mode is None or max_age is None:
        raise StsError(f"its policy has no {'mode' if mode is None else 'max_age'}")
    try:
        known = StsMode(mode)
    except ValueError as problem:
        raise StsError("the mode in its policy is none of enforce, testing, none") from problem
    if not _DIGITS.match(max_age):
        raise StsError("the max_age in its policy is not a number of seconds")
    if len(patterns) > MAX_PATTERNS:
        raise StsError(f"its policy has more than {MAX_PATTERNS} mx lines")
    mx = tuple(dict.fromkeys(_pattern(pattern) for pattern in patterns))
    if not mx and known is not StsMode.NONE:
        raise StsError("its policy has no mx")
    return StsPolicy(known, min(int(max_age), MAX_AGE), mx)


def _pattern(text: str) -> str:
    name = canonical(text.removeprefix("*."))
    if not is_host_name(name):
        raise StsError("its policy has an mx that is no host name")
    return f"*.{name}" if text.startswith("*.") else name


def cached_from_json(text: str | bytes) -> CachedPolicy:
    """What `CachedPolicy.to_json` wrote. Raises StsError for anything else, whatever it is."""
    if len(text) > MAX_JSON:
        raise StsError("it is too long")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise StsError("it is not JSON") from problem
    if not isinstance(data, dict) or data.get("version") != 1:
        raise StsError("it is no cached policy of version 1")
    mx, age = data.get("mx"), data.get("max_age")
    if not isinstance(mx, list) or type(age) is not int or not 0 <= age <= MAX_AGE:
        raise StsError("its mx or max_age is not as it should be")
    domain, id = _text(data, "domain"), _text(data, "id")
    if not is_host_name(domain) or not _RECORD_ID.match(id) or not all(isinstance(pattern, str) for pattern in mx):
        raise StsError("its domain, id or mx is not as it should be")
    policy = _policy(_text(data, "mode"), str(age), mx)
    times = [_time(data, key) for key in ("fetched", "checked", "used")]
    return CachedPolicy(domain, id, policy, *times)


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise StsError(f"its {key} is no text")
    return value


def _time(data: dict[str, Any], key: str) -> float:
    value = data.get(key)
    # Also not NaN and not infinite, which Python's JSON knows.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise StsError(f"its {key} is no time")
    return float(value)
