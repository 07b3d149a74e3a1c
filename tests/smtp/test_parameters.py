"""Parameters by state, and each of them well formed and not."""

from __future__ import annotations

import pytest

from qmtls.smtp import parameters
from qmtls.smtp.errors import CommandError

EVERYTHING = parameters.of_mail(esmtp=True, tls=True, auth=True)
RCPT = parameters.of_rcpt(esmtp=True)
RCPT_UTF8 = parameters.of_rcpt(esmtp=True, smtputf8=True)


def code(text: str, known: parameters.Known) -> int:
    try:
        parameters.parse(text.encode(), known, smtputf8=known is RCPT_UTF8)
    except CommandError as error:
        assert error.reply.status == "5.5.4"
        return error.reply.code
    return 0


@pytest.mark.parametrize(
    ("esmtp", "tls", "auth", "taken"),
    [
        (False, False, False, "SIZE BODY"),
        (False, True, True, "SIZE BODY"),
        (True, False, False, "SIZE BODY SMTPUTF8 RET ENVID"),
        (True, True, False, "SIZE BODY SMTPUTF8 RET ENVID REQUIRETLS"),
        (True, True, True, "SIZE BODY SMTPUTF8 RET ENVID REQUIRETLS AUTH"),
    ],
)
def test_what_mail_takes(esmtp: bool, tls: bool, auth: bool, taken: str) -> None:
    known = parameters.of_mail(esmtp, tls, auth)
    examples = ("SIZE=1", "BODY=8BITMIME", "SMTPUTF8", "REQUIRETLS", "RET=FULL", "ENVID=x", "AUTH=<>")
    for example in examples:
        assert code(example, known) == (0 if example.partition("=")[0] in taken.split() else 555), example


def test_what_rcpt_takes() -> None:
    for example in ("NOTIFY=NEVER", "ORCPT=rfc822;a@b"):
        assert code(example, RCPT) == 0
        assert code(example, parameters.of_rcpt(esmtp=False)) == 555
        assert code(example, EVERYTHING) == 555


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("RET=full", 0),
        ("RET=HDRS", 0),
        ("RET", 501),
        ("RET=FULL,HDRS", 501),
        ("RET=FULL RET=FULL", 501),
        ("ENVID=QQ314159", 0),
        ("ENVID=a+20b", 0),
        ("ENVID=" + "x" * 100, 0),
        ("ENVID=" + "x" * 101, 501),
        ("ENVID=a+0Ab", 501),
        ("ENVID=a=b", 501),
        ("ENVID=", 501),
        ("ENVID", 501),
        ("SMTPUTF8=1", 501),
        ("REQUIRETLS=1", 501),
        ("requiretls smtputf8", 0),
        ("AUTH=<>", 0),
        ("AUTH=e+3Dmc2@example.com", 0),
        ("AUTH=a+b", 501),
        ("AUTH=<a@b>+", 501),
        ("AUTH=" + "x" * 501, 501),
    ],
)
def test_values_of_mail(text: str, wanted: int) -> None:
    assert code(text, EVERYTHING) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("NOTIFY=NEVER", 0),
        ("NOTIFY=success,Failure,DELAY", 0),
        ("NOTIFY=DELAY", 0),
        ("NOTIFY", 501),
        ("NOTIFY=", 501),
        ("NOTIFY=NEVER,SUCCESS", 501),
        ("NOTIFY=SUCCESS,NEVER", 501),
        ("NOTIFY=SUCCESS,SUCCESS", 501),
        ("NOTIFY=SUCCESS,DELAY,SUCCESS", 501),
        ("NOTIFY=SUCCESS,", 501),
        ("NOTIFY=,DELAY", 501),
        ("NOTIFY=SUCCESS;DELAY", 501),
        ("ORCPT=rfc822;a+2Bb@c", 0),
        ("ORCPT=rfc822;a+2bb@c", 501),
        ("ORCPT=rfc822;" + "x" * 493, 0),
        ("ORCPT=rfc822;" + "x" * 494, 501),
        ("ORCPT=a@b", 501),
        (r"ORCPT=utf-8;\x{FC}@b", 0),
        ("NOTIFY=NEVER ORCPT=rfc822;a@b", 0),
        ("NOTIFY=NEVER NOTIFY=NEVER", 501),
    ],
)
def test_values_of_rcpt(text: str, wanted: int) -> None:
    assert code(text, RCPT) == code(text, RCPT_UTF8) == wanted


def test_utf8_in_values_only_with_smtputf8() -> None:
    assert code("ORCPT=utf-8;ü@b", RCPT_UTF8) == 0
    assert code("ORCPT=utf-8;ü@b", RCPT) == 501
    assert code("ORCPT=rfc822;ü@b", RCPT_UTF8) == 501
    assert code("NOTIFY=ü", RCPT_UTF8) == 501
    assert code("ORCPT=utf-8;\u00a0@b", RCPT_UTF8) == 501
    with pytest.raises(CommandError):
        parameters.parse(b"ORCPT=utf-8;\xff@b", RCPT_UTF8, smtputf8=True)


def test_a_missed_demand_is_named() -> None:
    with pytest.raises(CommandError) as error:
        parameters.parse(b"REQUIRETLS", parameters.of_mail(esmtp=True))
    assert "REQUIRETLS needs TLS" in error.value.reply.text
