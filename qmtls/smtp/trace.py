"""The Received field that every message gets on its way in (RFC 5321 section 4.4).

Whatever the peer had a hand in passes a filter that leaves a small set of characters, as in qmail, so that no name
or certificate can write a header field of its own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from qmtls.smtp.envelope import Arrival

# qmail's set (received.c) and "_", which names of hosts, ciphers and mailboxes have.
_UNSAFE = re.compile(r"[^A-Za-z0-9.@%+/=:\[\]_-]")
_UNSAFE_WORDS = re.compile(r"[^A-Za-z0-9.@%+/=:\[\]_ -]")
_MAX_PART = 255  # octets of one part; three of them and their words stay below the 998 of RFC 5322 section 2.1.1

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def received_field(
    arrival: Arrival, *, by: str, id: str, recipients: int, recipient: str = "", cert: str = ""
) -> bytes:
    """The field with its final CRLF, ready to stand before the content.

    `recipient` is shown only when it is the single one (several would tell each other's names) and ASCII. `cert` is
    what opened the relay, if a certificate did: its address, or the label of its rule.
    """
    lines = []
    if arrival.client:
        lines.append(f"from {_safe(arrival.helo) or 'unknown'} ({address_literal(arrival.client)})")
    tls = f" ({_UNSAFE_WORDS.sub('?', arrival.tls[:_MAX_PART])})" if arrival.tls else ""
    lines.append(f"by {_safe(by)} with {_safe(arrival.protocol)}{tls}")
    if cert:
        lines.append(f"(cert {_safe(cert)})")
    sole = f" for <{_safe(recipient)}>" if recipients == 1 and recipient and recipient.isascii() else ""
    lines.append(f"id {_safe(id)}{sole}; {date(int(arrival.time))}")
    return ("Received: " + "\r\n  ".join(lines) + "\r\n").encode("ascii")


def protocol(esmtp: bool, tls: bool, *, authenticated: bool = False, smtputf8: bool = False) -> str:
    """The keyword behind "with": IANA's mail transmission types (RFC 3848, RFC 6531 section 4.3).

    HELO has one keyword whatever is below it. The client's certificate does not make an "A", AUTH does.
    """
    if not esmtp:
        return "SMTP"
    return f"{'UTF8SMTP' if smtputf8 else 'ESMTP'}{'S' if tls else ''}{'A' if authenticated else ''}"


def address_literal(ip: str) -> str:
    """An IP address as RFC 5321 section 4.1.3 writes it. A scope is left out, a mapped IPv4 address shown as such."""
    host = ip.partition("%")[0]
    if host.lower().startswith("::ffff:") and "." in host:
        host = host[7:]
    return f"[IPv6:{_safe(host)}]" if ":" in host else f"[{_safe(host)}]"


def _safe(text: str) -> str:
    return _UNSAFE.sub("?", text[:_MAX_PART])


@lru_cache(maxsize=4)
def date(seconds: int) -> str:
    """RFC 5322 section 3.3, in UTC; by hand, because strftime's names follow the locale. One value serves a second."""
    t = datetime.fromtimestamp(seconds, UTC)
    day = f"{_DAYS[t.weekday()]}, {t.day} {_MONTHS[t.month - 1]} {t.year:04}"
    return f"{day} {t.hour:02}:{t.minute:02}:{t.second:02} +0000"
