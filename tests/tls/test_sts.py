"""MTA-STS texts: what is understood, what is not, and that nothing else ever happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.tls.sts import (
    MAX_AGE,
    MAX_POLICY,
    CachedPolicy,
    StsError,
    StsMode,
    StsPolicy,
    cached_from_json,
    read_policy,
    read_record,
)

GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.example.net\r\nmax_age: 604800\r\n"
POLICY = StsPolicy(StsMode.ENFORCE, 604_800, ("mx.example.org", "*.example.net"))


@pytest.mark.parametrize(
    ("texts", "id"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1; \t id=1 \t; "], "1"),
        ([b"v=STSv1; new=x-1.y_z/!; id=a1; more=2"], "a1"),
        ([b"v=STSv1; id=1; id=2"], "1"),
        ([b"some other text", b"v=STSv1; id=7", b"v=STSv10; id=8"], "7"),
        ([], ""),
        ([b"v=spf1 -all", b"V=STSv1; id=1", b" v=STSv1; id=1", b"v=STSv1 ; id=1"], ""),
    ],
)
def test_records(texts: list[bytes], id: str) -> None:
    assert read_record(texts) == id


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([b"v=STSv1; id=1", b"v=STSv1; id=1"], "2 records"),
        ([b"v=STSv1;"], "name=value"),
        ([b"v=STSv1; x=1"], "no id"),
        ([b"v=STSv1; ID=1"], "no id"),
        ([b"v=STSv1; id="], "name=value"),
        ([b"v=STSv1; id=" + b"a" * 33], "1 to 32"),
        ([b"v=STSv1; id=2026-01-01"], "1 to 32"),
        ([b"v=STSv1; id=1; ; x=1"], "name=value"),
        ([b"v=STSv1; id=1\n"], "name=value"),
        ([b"v=STSv1; id=1; b\xc3\xa4d=1"], "name=value"),
    ],
)
def test_records_that_count_as_none(texts: list[bytes], words: str) -> None:
    with pytest.raises(StsError, match=words):
        read_record(texts)


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        GOOD.replace(b"\r\n", b"\n"),
        GOOD.removesuffix(b"\r\n"),
        GOOD.replace(b": ", b":"),
        GOOD.replace(b"\r\n", b" \t\r\n"),
        GOOD + b"mode: none\r\nmax_age: 1\r\nversion: STSv2\r\n",
        GOOD + "later: gr\u00fc\u00dfe: 1\r\nx-y_z.1:\r\n\r\n".encode(),
        GOOD + b"mx: MX.Example.ORG.\n",
    ],
)
def test_policies(body: bytes) -> None:
    assert read_policy(body) == POLICY


def test_a_policy_of_mode_none_needs_no_mx_and_ages_have_an_end() -> None:
    assert read_policy(b"version: STSv1\nmode: none\nmax_age: 0\n") == StsPolicy(StsMode.NONE, 0)
    assert read_policy(GOOD.replace(b"604800", b"9999999999")).max_age == MAX_AGE
    assert read_policy(GOOD.replace(b"enforce", b"testing")).mode is StsMode.TESTING


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "version"),
        (GOOD.replace(b"STSv1", b"STSv2"), "version"),
        (GOOD.replace(b"mode: enforce\r\n", b""), "no mode"),
        (GOOD.replace(b"max_age: 604800\r\n", b""), "no max_age"),
        (GOOD.replace(b"enforce", b"Enforce"), "none of enforce"),
        (GOOD.replace(b"604800", b"-1"), "number of seconds"),
        (GOOD.replace(b"604800", b"1e9"), "number of seconds"),
        (GOOD.replace(b"604800", "\u0661".encode()), "number of seconds"),
        (GOOD.replace(b"604800", b"10000000000"), "number of seconds"),
        (b"version: STSv1\nmode: enforce\nmax_age: 1\n", "no mx"),
        (b"version: STSv1\nmode: enforce\nmx:\nmax_age: 1\n", "no host name"),
        (GOOD + b"mx: a.*.example.org\n", "no host name"),
        (GOOD + b"mx: *\n", "no host name"),
        (GOOD + b"mx: ../../etc/passwd\n", "no host name"),
        (GOOD + b"<html>\n", "key: value"),
        (GOOD + b"mx : a.example\n", "key: value"),
        (GOOD + b"x: \xff\n", "UTF-8"),
        (GOOD + b"x: " + b"y" * MAX_POLICY, "longer than 65536"),
        (GOOD + b"mx: a.example\n" * 1000, "more than 1000"),
        (GOOD.replace(b"\r\n", b"\r"), "version"),
    ],
)
def test_policies_that_cannot_be_used(body: bytes, words: str) -> None:
    with pytest.raises(StsError, match=words):
        read_policy(body)


def test_long_lines_of_blanks_cost_nothing() -> None:
    assert read_policy(GOOD + b"x: " + b" \t" * 30_000 + b"y \n") == POLICY


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("mx.example.org", True),
        ("MX.EXAMPLE.ORG.", True),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        (".example.net", False),
        ("a.mx.example.org", False),
        ("*.example.net", True),  # no host has such a name
        ("", False),
        ("net", False),
    ],
)
def test_which_hosts_a_policy_covers(host: str, covered: bool) -> None:
    assert POLICY.covers(host) is covered


def cached(**changes: Any) -> CachedPolicy:
    values: dict[str, Any] = {"fetched": 1000.0, "checked": 2000.0, "used": 3000.0}
    return CachedPolicy("example.org", "id1", POLICY, **(values | changes))


def test_how_long_a_policy_holds() -> None:
    policy = cached()
    assert policy.expires == 1000 + 604_800
    assert policy.is_fresh(policy.expires - 0.1) and not policy.is_fresh(policy.expires)
    assert policy.is_fresh(0.0)
    assert policy.refresh_at == 1000 + 86_400
    short = CachedPolicy("example.org", "id1", StsPolicy(StsMode.NONE, 100), 1000.0, 1000.0, 1000.0)
    assert short.refresh_at == 1050


def test_a_cached_policy_survives_a_file() -> None:
    text = cached().to_json()
    assert "\n" not in text
    assert cached_from_json(text) == cached_from_json(text.encode()) == cached()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"domain": "../x"},
        {"domain": 7},
        {"domain": ""},
        {"id": "a b"},
        {"id": "\ud800"},
        {"mode": "off"},
        {"mode": None},
        {"max_age": 1.5},
        {"max_age": True},
        {"max_age": MAX_AGE + 1},
        {"max_age": -1},
        {"mx": "mx.example.org"},
        {"mx": [1]},
        {"mx": []},
        {"mx": ["\ud800"]},
        {"fetched": float("nan")},
        {"fetched": 10**400},
        {"checked": float("inf")},
        {"used": "1"},
        {"used": True},
    ],
)
def test_files_that_cannot_be_used(change: dict[str, Any]) -> None:
    with pytest.raises(StsError):
        cached_from_json(json.dumps(json.loads(cached().to_json()) | change))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode))
def test_any_file_is_a_policy_or_an_sts_error(data: bytes) -> None:
    with pytest.raises(StsError):
        cached_from_json(data)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(cached().to_json()))), JSON))
def test_any_change_of_a_file_is_a_policy_or_an_sts_error(changes: dict[str, Any]) -> None:
    try:
        found = cached_from_json(json.dumps(json.loads(cached().to_json()) | changes))
    except StsError:
        return
    assert cached_from_json(found.to_json()) == found


LINE = st.sampled_from([b"version: STSv1", b"mode: enforce", b"mode: none", b"mx: a.b", b"max_age: 1", b":", b"\r"])


@given(st.lists(LINE | st.binary(max_size=20)).map(b"\n".join))
def test_any_body_is_a_policy_or_an_sts_error(body: bytes) -> None:
    try:
        policy = read_policy(body)
    except StsError as problem:
        assert str(problem).isprintable()
    else:
        assert 0 <= policy.max_age <= MAX_AGE
        assert policy.mode is StsMode.NONE or policy.mx


@given(st.lists(st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: b"v=STSv1;" + tail), max_size=3))
def test_any_records_are_an_id_or_an_sts_error(texts: list[bytes]) -> None:
    try:
        id = read_record(texts)
    except StsError:
        return
    assert id == "" or (id.isalnum() and id.isascii())


@given(st.text())
def test_any_host_is_covered_or_not(host: str) -> None:
    assert POLICY.covers(host) in (True, False)
