# Invariant: any octets are a record, a policy, a cached policy, or StsError with one printable sentence; what is read
# is within its bounds, and a cached policy that was read is written so that it reads the same.
"""Fuzz target: the texts of MTA-STS (qmtls/tls/sts.py). The first octet says which."""

from __future__ import annotations

from fuzz.harness import main
from qmtls.tls.sts import (
    MAX_AGE,
    CachedPolicy,
    StsError,
    StsMode,
    StsPolicy,
    cached_from_json,
    read_policy,
    read_record,
)

POLICY = StsPolicy(StsMode.ENFORCE, 86_400, ("mx.example", "*.example"))
SEEDS = (
    b"\x00v=STSv1; id=20160831085700Z;",
    b"\x00v=STSv1;id=1;x=y\x00v=spf1",
    b"\x01version: STSv1\r\nmode: enforce\r\nmx: mx.example\r\nmx: *.example\r\nmax_age: 86400\r\n",
    b"\x01version: STSv1\nmode: none\nmax_age: 0\n",
    b"\x02" + CachedPolicy("example", "id1", POLICY, 1.0, 2.0, 3.0).to_json().encode(),
)


def target(data: bytes) -> None:
    which, text = data[:1], data[1:]
    try:
        if which == b"\x00":
            id = read_record(text.split(b"\0"))
            assert id == "" or (id.isascii() and id.isalnum() and len(id) <= 32)
        elif which == b"\x01":
            policy = read_policy(text)
            assert 0 <= policy.max_age <= MAX_AGE
            assert policy.mx or policy.mode is StsMode.NONE
            assert not policy.covers("")
        else:
            cached = cached_from_json(text)
            assert cached_from_json(cached.to_json()) == cached
    except StsError as problem:
        assert str(problem).isprintable() and str(problem)


if __name__ == "__main__":
    main(target, SEEDS)
