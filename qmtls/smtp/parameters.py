"""The ESMTP parameters of MAIL and RCPT: which of them work in which state, and what they must look like.

    SIZE (RFC 1870), BODY (6152), SMTPUTF8 (6531), REQUIRETLS (8689), RET ENVID NOTIFY ORCPT (3461, 6533), AUTH (4954)

A parameter that is not offered in a state is not known in it: 555. One that is known and malformed is refused with
501, or as its RFC says; a value is never mended, because it may be relayed to somebody who reads it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

from qmtls.smtp import xtext
from qmtls.smtp.errors import CommandError
from qmtls.smtp.reply import Reply, reply

MAX_ENVID = 100  # characters as they are written; RFC 3461 section 4.4
MAX_ORCPT = 500  # section 4.2
MAX_AUTH = 500  # RFC 4954 section 3


class Parameter(NamedTuple):
    """A parameter: what is true of a good value ("" = it has none), and the reply to any other."""

    takes: Callable[[str], object]
    otherwise: Reply


Known = Mapping[str, Parameter]


def _bad(why: str, code: int = 501) -> Reply:
    return reply(code, "5.5.4", why)


def _is_empty(value: str) -> bool:
    return not value


def _decodes(decode: Callable[[str], object], value: str, limit: int) -> bool:
    try:
        decode(value)
    except ValueError:
        return False
    return len(value) <= limit


def _is_envelope_id(value: str) -> bool:
    return _decodes(xtext.decode_xtext, value, MAX_ENVID)


def _is_auth(value: str) -> bool:
    return value == "<>" or _decodes(xtext.decode_xtext, value, MAX_AUTH)


def _is_original_recipient(value: str) -> bool:
    return _decodes(xtext.decode_address, value, MAX_ORCPT)


def _is_utf8_original_recipient(value: str) -> bool:
    return _decodes(partial(xtext.decode_address, smtputf8=True), value, MAX_ORCPT)


_CONDITION = "(?:SUCCESS|FAILURE|DELAY)"
_NOTIFY = re.compile(rf"NEVER|(?!.*({_CONDITION}).*\1){_CONDITION}(?:,{_CONDITION}){{0,2}}", re.IGNORECASE)

# What works without EHLO too: old programs send it, and it does no harm.
_PLAIN: Known = {
    "SIZE": Parameter(re.compile(r"[0-9]{1,20}").fullmatch, _bad("SIZE wants a number of octets")),
    "BODY": Parameter(
        re.compile(r"7BIT|8BITMIME", re.IGNORECASE).fullmatch, _bad("BODY is 7BIT or 8BITMIME", code=555)
    ),
}
_EXTENDED: Known = {
    "SMTPUTF8": Parameter(_is_empty, _bad("SMTPUTF8 has no value")),
    "RET": Parameter(re.compile(r"FULL|HDRS", re.IGNORECASE).fullmatch, _bad("RET is FULL or HDRS")),
    "ENVID": Parameter(_is_envelope_id, _bad(f"ENVID wants xtext, {MAX_ENVID} characters at most")),
}
_AUTH: Known = {"AUTH": Parameter(_is_auth, _bad("AUTH wants an address in xtext, or <>"))}
# Offered under TLS only (RFC 8689 section 2), and a demand that is not understood must not be lost: it is named.
_REQUIRETLS: Known = {"REQUIRETLS": Parameter(_is_empty, _bad("REQUIRETLS has no value"))}
_NO_REQUIRETLS: Known = {"REQUIRETLS": Parameter(lambda value: False, _bad("REQUIRETLS needs TLS and EHLO", code=555))}

_NOTIFY_PARAMETER = Parameter(_NOTIFY.fullmatch, _bad("NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY"))
_ORCPT_WANTS = _bad(f"ORCPT wants a type and an address in xtext, {MAX_ORCPT} characters at most")
_RCPT: Known = {"NOTIFY": _NOTIFY_PARAMETER, "ORCPT": Parameter(_is_original_recipient, _ORCPT_WANTS)}
_RCPT_UTF8: Known = {"NOTIFY": _NOTIFY_PARAMETER, "ORCPT": Parameter(_is_utf8_original_recipient, _ORCPT_WANTS)}

_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_KEYWORD_UTF8 = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\U0010ffff]+))?")  # RFC 6531 section 3.3
_BLANKS = re.compile(r"[ \t]+")


@lru_cache(maxsize=16)
def of_mail(esmtp: bool, tls: bool = False, auth: bool = False) -> Known:
    """What MAIL takes: after EHLO or HELO, under TLS or not, and whether clients can authenticate here."""
    if not esmtp:
        return {**_PLAIN, **_NO_REQUIRETLS}
    return {**_PLAIN, **_EXTENDED, **(_REQUIRETLS if tls else _NO_REQUIRETLS), **(_AUTH if auth else {})}


def of_rcpt(esmtp: bool, smtputf8: bool = False) -> Known:
    """What RCPT takes; `smtputf8` as its transaction has it."""
    if not esmtp:
        return {}
    return _RCPT_UTF8 if smtputf8 else _RCPT


def parse(octets: bytes, known: Known, *, smtputf8: bool = False) -> dict[str, str]:
    """Values by upper-case keyword; "" where a keyword has none (RFC 5321 section 4.1.2). CommandError."""
    values: dict[str, str] = {}
    syntax = _KEYWORD_UTF8 if smtputf8 else _KEYWORD
    for word in _BLANKS.split(_text(octets, smtputf8)):
        match = syntax.fullmatch(word)
        if match is None:
            raise CommandError(_bad("malformed parameter"))
        keyword, value = match[1].upper(), match[2] or ""
        parameter = known.get(keyword)
        if parameter is None:
            raise CommandError(_bad(f"parameter {keyword[:40]} is not known here", code=555))
        if keyword in values:
            raise CommandError(_bad(f"parameter {keyword} given twice"))
        if not parameter.takes(value):
            raise CommandError(parameter.otherwise)
        values[keyword] = value
    return values


def _text(octets: bytes, smtputf8: bool) -> str:
    if not smtputf8:
        return octets.decode("ascii", "replace")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(_bad("malformed UTF-8")) from None
