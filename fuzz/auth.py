# Invariant: whatever a client answers, an exchange ends in a claim without NUL, a challenge, or a CommandError with a
# 5xx reply; a claim has names within the limit, and a password exactly where the mechanism has one.
"""Fuzz target: SASL exchanges (qmtls/smtp/auth.py)."""

from __future__ import annotations

from fuzz.harness import main
from qmtls.smtp.auth import MAX_CREDENTIAL, MECHANISMS, Exchange
from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import Authenticate
from qmtls.smtp.reply import Reply

SEEDS = (
    b"PLAIN AGFsaWNlAHNlY3JldA==",
    b"PLAIN \nAGFsaWNlAHNlY3JldA==",
    b"LOGIN \nYWxpY2U=\nc2VjcmV0",
    b"LOGIN YWxpY2U=\n*",
    b"EXTERNAL =",
    b"EXTERNAL \nw7w=",
)


def play(first: bytes, lines: list[bytes]) -> Reply | Authenticate:
    mechanism, _, initial = first.partition(b" ")
    exchange = Exchange(mechanism.decode("ascii", "replace"), tuple(MECHANISMS))
    step = exchange.start(initial)
    for line in lines:
        if isinstance(step, Authenticate):
            break
        step = exchange.step(line)
    return step


def target(data: bytes) -> None:
    first, *lines = data.split(b"\n")
    try:
        step = play(first, lines)
    except CommandError as error:
        assert 500 <= error.reply.code <= 504 and error.reply.encode().endswith(b"\r\n")
        return
    if isinstance(step, Reply):
        assert step.code == 334
        return
    parts = (step.identity, step.user, step.password)
    assert all("\0" not in part and len(part.encode()) <= MAX_CREDENTIAL for part in parts)
    assert bool(step.user) == bool(step.password) == (step.mechanism != "EXTERNAL")


if __name__ == "__main__":
    main(target, SEEDS)
