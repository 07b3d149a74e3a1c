"""DANE for SMTP (RFC 7671, RFC 7672): which TLSA records count, what they demand, and whether a handshake meets them.

Usages 2 (a trust anchor in the peer's chain) and 3 (the peer's own key or certificate) count; 0 and 1 do not for SMTP
(RFC 7672 section 3.1.3). A record that cannot be used is set aside with the reason: if no other is left the host must
still speak TLS, and nobody asks with which key. Records from an insecure answer demand nothing.

Pure: time is an argument. Whatever cannot be read, checked or decided is no match.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256, sha512

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from qmtls.tls.danepath import Anchors, find_path
from qmtls.tls.facts import TlsFacts
from qmtls.tls.names import canonical, name_matches, shown_names
from qmtls.tls.pin import element, subject_public_key_info

MAX_RECORDS = 100  # of one name that are looked at; a key being replaced needs four
MAX_SHOWN = 3  # records that a sentence quotes
SHOWN_DIGITS = 16  # of a record's data, in hexadecimal

TRUST_ANCHOR, OWN_KEY = 2, 3  # certificate usages (RFC 7218)
CERTIFICATE, PUBLIC_KEY = 0, 1  # selectors
FULL = 0  # matching type: the data itself
_DIGESTS = {1: (32, sha256), 2: (64, sha512)}  # matching type to octets and function
_SEQUENCE = 0x30


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record's data (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        """As `dig` prints it, cut."""
        digits = self.data.hex()
        more = "..." if len(digits) > SHOWN_DIGITS else ""
        return f"{self.usage} {self.selector} {self.matching} {digits[:SHOWN_DIGITS]}{more}"


class Demand(Enum):
    """What a host's TLSA records ask of a connection to it (RFC 7672 section 2.2)."""

    NOTHING = "nothing"  # no records, or not secure: DANE does not apply
    ENCRYPT = "encrypt"  # secure records, none of them usable: TLS, with any certificate
    MATCH = "match"  # the certificate must match one of `usable`


@dataclass(frozen=True, slots=True)
class Tlsas:
    """The TLSA records of one port of one base domain; sorted by `tlsas_of`.

    `base` is the TLSA base domain: it is also the name to send as SNI. `unusable` are sentence fragments.
    """

    base: str
    port: int
    secure: bool
    usable: tuple[Tlsa, ...] = ()
    unusable: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """Where the records stand: "_25._tcp.mx.example.org"."""
        return tlsa_owner(self.base, self.port)

    @property
    def demand(self) -> Demand:
        """What follows from the records."""
        if not self.secure or not (self.usable or self.unusable):
            return Demand.NOTHING
        return Demand.MATCH if self.usable else Demand.ENCRYPT


def tlsa_owner(host: str, port: int) -> str:
    """The name that a host's TLSA records for this TCP port stand under (RFC 6698 section 3), without a final dot."""
    return f"_{port}._tcp.{canonical(host)}"


def tlsas_of(base: str, port: int, records: Iterable[Tlsa], *, secure: bool, malformed: int = 0) -> Tlsas:
    """Sorts the records of one answer. `malformed` is the number of those that could not even be taken apart."""
    usable, unusable = [], ["a record that cannot be read"] * malformed
    for number, record in enumerate(records):
        problem = f"there are more than {MAX_RECORDS}" if number >= MAX_RECORDS else unusable_because(record)
        if problem:
            unusable.append(f"{record}: {problem}")
        else:
            usable.append(record)
        if number >= MAX_RECORDS:
            break
    return Tlsas(canonical(base), port, secure, tuple(usable), tuple(unusable))


def unusable_because(record: Tlsa) -> str:
    """Why the record does not count; "" if it does."""
    if record.usage in (0, 1):
        return f"usage {record.usage} is not for SMTP (RFC 7672 section 3.1.3)"
    if record.usage not in (TRUST_ANCHOR, OWN_KEY):
        return f"usage {record.usage} is unknown"
    if record.selector not in (CERTIFICATE, PUBLIC_KEY):
        return f"selector {record.selector} is unknown"
    if record.matching == FULL:
        what = "certificate" if record.selector == CERTIFICATE else "public key"
        return "" if _is_der_sequence(record.data) else f"its data is no {what}"
    if record.matching not in _DIGESTS:
        return f"matching type {record.matching} is unknown"
    size = _DIGESTS[record.matching][0]
    return "" if len(record.data) == size else f"its digest has {len(record.data)} octets instead of {size}"


def _is_der_sequence(data: bytes) -> bool:
    try:
        tag, _, end = element(data, 0)
    except IndexError:
        return False
    return tag == _SEQUENCE and end == len(data)


def reference_names(
    tlsas: Tlsas, domain: str, *, mx: bool, mx_secure: bool = False, canonical_domain: str = ""
) -> tuple[str, ...]:
    """The names of which a usage 2 certificate must carry one (RFC 7672 section 3.2.2).

    `domain` is the next hop; `mx` says that its MX records named the host, `mx_secure` that they were secure, and
    `canonical_domain` what a secure CNAME of the domain led to. An insecure MX gives the host's name alone.
    """
    names = [tlsas.base]
    if not mx or mx_secure:
        names += [canonical(domain), canonical(canonical_domain)]
    return tuple(dict.fromkeys(name for name in names if name))


def judge_dane(tlsas: Tlsas, facts: TlsFacts, names: tuple[str, ...], now: datetime) -> tuple[bool, str]:
    """Does the handshake meet the usable records? One suffices. `names` are those of `reference_names`.

    The words are the middle of a sentence: after "HOST: TLSv1.3, " if it does ("the key of TLSA record ..."), after
    "HOST " if it does not ("showed a certificate that ...").
    """
    if not tlsas.secure:
        return False, f"has TLSA records at {tlsas.owner} that DNSSEC does not secure"
    if not tlsas.usable:
        return False, f"has no usable TLSA record at {tlsas.owner}"
    if facts.leaf is None:
        shown = "showed a certificate that cannot be read" if facts.unreadable else "showed no certificate"
        return False, f"{shown}, but there are TLSA records at {tlsas.owner}"
    for record in tlsas.usable:
        if record.usage == OWN_KEY and _matches(record, facts.leaf):
            what = "certificate" if record.selector == CERTIFICATE else "key"
            return True, f"the {what} of TLSA record {record} at {tlsas.owner}"
    anchored = tuple(record for record in tlsas.usable if record.usage == TRUST_ANCHOR)
    if not anchored:
        return False, f"showed a certificate that matches no TLSA record at {tlsas.owner} ({_shown(tlsas.usable)})"
    return _judge_anchored(tlsas, anchored, facts, names, now)


def _judge_anchored(
    tlsas: Tlsas, records: tuple[Tlsa, ...], facts: TlsFacts, names: tuple[str, ...], now: datetime
) -> tuple[bool, str]:
    assert facts.leaf is not None
    certificates = [r.data for r in records if r.matching == FULL and r.selector == CERTIFICATE]
    keys = [r.data for r in records if r.matching == FULL and r.selector == PUBLIC_KEY]
    anchors = Anchors(lambda cert: any(_matches(record, cert) for record in records), certificates, keys)
    problem = find_path(facts.leaf, facts.chain, anchors, now)
    if problem:
        return (
            False,
            f"showed a certificate that matches no TLSA record at {tlsas.owner}: {problem} ({_shown(records)})",
        )
    if not name_matches(facts.leaf, names):
        wanted = " or ".join(names) or "a name, and no name applies here"
        shown = shown_names(facts.leaf)
        return False, f"showed a certificate for {shown}, but the TLSA records at {tlsas.owner} demand one for {wanted}"
    return True, f"issued by the CA of a TLSA record at {tlsas.owner}, for {' or '.join(names)}"


def _matches(record: Tlsa, cert: x509.Certificate) -> bool:
    try:
        if record.selector == CERTIFICATE:
            data = cert.public_bytes(Encoding.DER)
        else:
            data = subject_public_key_info(cert.tbs_certificate_bytes)
    except (ValueError, IndexError):
        return False
    if record.matching != FULL:
        data = _DIGESTS[record.matching][1](data).digest()
    return data == record.data


def _shown(records: tuple[Tlsa, ...]) -> str:
    more = f" and {len(records) - MAX_SHOWN} more" if len(records) > MAX_SHOWN else ""
    return ", ".join(map(str, records[:MAX_SHOWN])) + more
