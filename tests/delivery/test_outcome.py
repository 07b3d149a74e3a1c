"""What each answer means for a recipient: the fate, the status, and sentences that are true."""

from __future__ import annotations

import re

import pytest

from qmtls.delivery.outcome import MAX_REMOTE, Fate, judge_result, too_many_recipients
from qmtls.smtp.events import Result, Stage
from qmtls.smtp.reply import Reply, reply

HOST = "mx.example (192.0.2.1)"
DECISIVE = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.SENDING, Stage.CONTENT)


@pytest.mark.parametrize("stage", Stage)
def test_every_code_at_every_stage(stage: Stage) -> None:
    for code in range(1000):
        outcome = judge_result(Result(stage, reply(code, "", "text")), HOST, "plain")
        if stage is Stage.CONTENT and 200 <= code < 300:
            fate = Fate.DELIVERED
        elif stage in DECISIVE and 500 <= code < 600 and (stage, code) != (Stage.RCPT, 552):
            fate = Fate.FAILED
        else:
            fate = Fate.DEFERRED
        assert outcome.fate is fate, code
        kind = {Fate.DELIVERED: "2", Fate.DEFERRED: "4", Fate.FAILED: "5"}[fate]
        assert re.fullmatch(rf"{kind}\.\d{{1,3}}\.\d{{1,3}}", outcome.status)
        assert HOST in outcome.reason and f"{code} text" in outcome.reason
        assert (outcome.remote, outcome.host, outcome.tls) == (f"{code} text", HOST, "plain")


@pytest.mark.parametrize("stage", Stage)
def test_no_reply_is_temporary_at_every_stage(stage: Stage) -> None:
    outcome = judge_result(Result(stage, None, "connection lost"), HOST)
    assert outcome.fate is Fate.DEFERRED and outcome.status.startswith("4.") and outcome.remote == ""
    assert "connection lost" in outcome.reason and HOST in outcome.reason
    assert ("possible duplicate" in outcome.reason) is (stage is Stage.CONTENT)


def test_the_peers_own_status_wins_where_its_class_fits() -> None:
    assert judge_result(Result(Stage.RCPT, reply(550, "5.1.1", "no")), HOST).status == "5.1.1"
    assert judge_result(Result(Stage.CONTENT, reply(250, "2.6.0", "ok")), HOST).status == "2.6.0"
    assert judge_result(Result(Stage.EHLO, reply(550, "5.7.1", "no")), HOST).status == "4.4.2"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result(Stage.RCPT, reply(452, "", "too many")), True),
        (Result(Stage.RCPT, reply(452, "4.5.3", "too many")), True),
        (Result(Stage.RCPT, reply(552, "", "too many")), True),
        (Result(Stage.RCPT, reply(552, "5.5.3", "too many")), True),
        (Result(Stage.RCPT, reply(452, "4.2.2", "mailbox full")), False),
        (Result(Stage.RCPT, reply(552, "5.2.2", "mailbox full")), False),
        (Result(Stage.RCPT, reply(450, "4.5.3", "other")), False),
        (Result(Stage.DATA, reply(452, "", "no space")), False),
        (Result(Stage.RCPT, None, "connection lost"), False),
    ],
)
def test_too_many_recipients_is_temporary_and_told_from_a_full_mailbox(result: Result, expected: bool) -> None:
    assert too_many_recipients(result) is expected
    if expected:
        assert judge_result(result, HOST).fate is Fate.DEFERRED


def test_a_full_mailbox_is_the_peers_word() -> None:
    assert judge_result(Result(Stage.RCPT, reply(552, "5.2.2", "mailbox full")), HOST).fate is Fate.FAILED


def test_endless_replies_are_cut() -> None:
    outcome = judge_result(Result(Stage.RCPT, Reply(550, "", ("x" * 500,) * 50)), HOST)
    assert len(outcome.remote) == MAX_REMOTE and len(outcome.reason) < MAX_REMOTE + 100
