"""Which TLS a destination demands: the rules as data, and the first match as a pure function.

Order (docs/tls.md): pin file of the recipient's domain, pin file of the host, `tlspolicy`,
`exhaustivelist` and `notlshosts`, then `tlsdefault`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from cryptography import x509


class Level(Enum):
    """What must be true of the connection before content goes over it; weakest first."""

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    VERIFY = "verify"
    SECURE = "secure"
    PIN = "pin"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule was written: `file` as shown to people ("control/tlspolicy"), `line` 0 for a whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class PinSet:
    """What may be shown: any one suffices. Digests are SHA-256, raw octets."""

    certificates: frozenset[bytes] = frozenset()  # of the DER certificate
    keys: frozenset[bytes] = frozenset()  # of the DER SubjectPublicKeyInfo
    anchors: tuple[x509.Certificate, ...] = ()  # CA certificates: chain and name decide


@dataclass(frozen=True, slots=True)
class Policy:
    """The demand towards one host.

    `names` are the names that the server's certificate must carry one of (levels verify, secure and an anchored
    pin); a leading dot means any name below. `anchors` None = the system's authorities.
    `broken` is the sentence of a rule that cannot be used (an empty pin file): mail waits.
    `skip` is the sentence why this host is passed over (another host of the domain is pinned).
    """

    level: Level
    origin: Origin
    pins: PinSet = field(default_factory=PinSet)
    names: tuple[str, ...] = ()
    anchors: tuple[x509.Certificate, ...] | None = None
    min_version: str = ""  # "TLSv1.3"; "" = the default floor, TLSv1.2
    ciphers: str = ""
    broken: str = ""
    why: str = ""  # for people: "pin file control/mx.example.pem"


@dataclass(frozen=True, slots=True)
class PinFile:
    """One NAME.pem, compiled. `problem` makes it unusable: mail for `name` waits."""

    name: str
    origin: Origin
    pins: PinSet = field(default_factory=PinSet)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One line of `tlspolicy`, compiled; `domain` as key: "example.org", ".example.org" or "[host]:port"."""

    domain: str
    policy: Policy
    match: tuple[str, ...] = ()  # "hostname", "nexthop", "dot-nexthop" or literal names, in the file's order


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """Everything that decides about outbound TLS, from one snapshot of the control directory."""

    default: Policy
    pins: Mapping[str, PinFile] = field(default_factory=dict)  # by lower-case name
    lines: Mapping[str, PolicyLine] = field(default_factory=dict)  # by PolicyLine.domain
    exhaustive: Origin | None = None
    no_tls: Mapping[str, Origin] = field(default_factory=dict)  # by lower-case host name
