"""What a server offers in its reply to EHLO, and the limits that it announces (RFC 5321 section 4.1.1.1, RFC 9422)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
# RFC 9422 section 3: the values of the limits known here are numbers from 1, of six digits at most.
_LIMIT = re.compile(r"([A-Za-z0-9_-]+)=([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may ask of the server; 0 = it announced none."""

    recipients: int = 0  # RCPTMAX: RCPT commands in one transaction
    messages: int = 0  # MAILMAX: transactions in one session
    domains: int = 0  # RCPTDOMAINMAX: different domains of recipients in one session


NO_LIMITS = Limits()


def read_offers(lines: Iterable[str]) -> dict[str, str]:
    """Upper-case keyword to its parameters. Lines that are none (the old "AUTH=LOGIN") are passed over."""
    offers: dict[str, str] = {}
    for line in lines:
        keyword, _, parameters = line.partition(" ")
        if _KEYWORD.fullmatch(keyword):
            offers.setdefault(keyword.upper(), parameters.strip())
    return offers


def read_limits(offers: Mapping[str, str]) -> Limits:
    """What LIMITS says; unknown names and bad values are passed over (RFC 9422 section 4)."""
    if "LIMITS" not in offers:
        return NO_LIMITS
    found = (_LIMIT.fullmatch(word) for word in offers["LIMITS"].split())
    values = {match[1].upper(): int(match[2]) for match in found if match is not None}
    return Limits(values.get("RCPTMAX", 0), values.get("MAILMAX", 0), values.get("RCPTDOMAINMAX", 0))
