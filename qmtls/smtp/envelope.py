"""The envelope of one message: who sent it, who gets it, and how it came."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from qmtls.smtp.address import Address


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path. `parameters` holds its ESMTP parameters (RFC 3461's NOTIFY, ORCPT), keys upper case."""

    address: Address
    parameters: tuple[tuple[str, str], ...] = ()


_CONDITIONS = ("SUCCESS", "FAILURE", "DELAY")
_USUAL = ("FAILURE", "DELAY")  # what one who says nothing hears of (RFC 3461 section 4.1)


def joined(first: Recipient, second: Recipient) -> Recipient:
    """Two forward-paths that turn out to be one recipient: the first, with the reports that either of them wants."""
    one, two = dict(first.parameters), dict(second.parameters)
    if one.get("NOTIFY") == two.get("NOTIFY"):
        return first
    wanted = {word for path in (one, two) for word in path.get("NOTIFY", ",".join(_USUAL)).upper().split(",")}
    reports = tuple(word for word in _CONDITIONS if word in wanted)
    kept = tuple((keyword, value) for keyword, value in first.parameters if keyword != "NOTIFY")
    if reports == _USUAL:
        return replace(first, parameters=kept)
    return replace(first, parameters=(("NOTIFY", ",".join(reports) or "NEVER"), *kept))


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came to us, for the trace field, the listing and the failure report."""

    time: float  # Unix seconds
    client: str = ""  # IP address of the client; "" for mail made on this host
    helo: str = ""
    protocol: str = "SMTP"  # RFC 3848 keyword: SMTP, ESMTP, ESMTPS; "local" for mail made on this host
    tls: str = ""  # "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768", "" for plaintext
    identity: str = ""  # what opened the relay: an e-mail address, a rule's text or label, a network


@dataclass(frozen=True, slots=True)
class Envelope:
    """What SMTP says about a message, apart from its content. None as `reverse_path` is the null path <>."""

    reverse_path: Address | None
    recipients: tuple[Recipient, ...]
    arrival: Arrival
    body: str = "7BIT"  # or "8BITMIME" (RFC 6152)
    smtputf8: bool = False
    requiretls: bool = False
    tls_optional: bool = False  # "TLS-Required: no" in its header (RFC 8689 section 5): loosens DANE and MTA-STS only
    parameters: tuple[tuple[str, str], ...] = field(default=())  # RET, ENVID of RFC 3461, keys upper case
