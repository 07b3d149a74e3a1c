"""What is demanded of one connection to another host, as data: the outcome of every rule and of all evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from cryptography import x509

from qmtls.tls.dane import Tlsas
from qmtls.tls.pin import PinSet


class Level(Enum):
    """What must be true of the connection before content goes over it.

    DANE and STS in a rule ask for evidence (qmtls.tls.evidence); in a demand that is decided they are met by TLSA
    records, or by an MTA-STS policy.
    """

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    DANE = "dane"
    DANE_ONLY = "dane-only"
    VERIFY = "verify"
    SECURE = "secure"
    STS = "sts"
    PIN = "pin"


# The levels that say nothing about who the host is.
UNVERIFIED = frozenset({Level.NONE, Level.MAY, Level.ENCRYPT})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule was written: `file` as shown to people ("control/tlspolicy"), `line` 0 for a whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Policy:
    """The demand towards one host.

    `names` are the names that the server's certificate must carry one of (levels verify, secure, sts, an anchored pin,
    TLSA records of usage 2); a leading dot means any name below. `anchors` None = the system's authorities.
    `broken` is the sentence of a rule that cannot be used, or of evidence that cannot be had: mail waits.
    `skip` is the sentence why this host is passed over (another host of the domain is pinned).
    `discovers`: DANE and MTA-STS go before this rule, if there is any (it is the default, not a rule for this peer).
    """

    level: Level
    origin: Origin
    pins: PinSet = field(default_factory=PinSet)
    names: tuple[str, ...] = ()
    anchors: tuple[x509.Certificate, ...] | None = None
    min_version: str = ""  # "TLSv1.3"; "" = the default floor, TLSv1.2
    max_version: str = ""  # "TLSv1.2"; "" = the newest there is
    ciphers: str = ""  # an OpenSSL cipher list, "" = that of control/tlsclientciphers
    exclude: str = ""  # ":!3DES", what is taken from it
    groups: str = ""  # an OpenSSL list of groups, "" = the library's, hybrid ones first
    pq: bool = False  # the group must be a hybrid post-quantum one
    server_name: str = ""  # to send as SNI; "" = the host's name
    reuse: bool = True  # several messages may go over one connection
    identity: str = ""  # whose file in clientcerts/ we show, "" = clientcert.pem
    tlsas: Tlsas | None = None  # levels dane and dane-only, decided: what the certificate must match
    discovers: bool = False
    broken: str = ""
    why: str = ""  # for people: "pin file control/mx.example.pem"
    skip: str = ""
    wish: Policy | None = None  # of an MTA-STS policy in testing: failing it is told, and mail goes all the same

    @property
    def asks_dane(self) -> bool:
        """TLSA records may decide."""
        return self.level in (Level.DANE, Level.DANE_ONLY) or self.discovers

    @property
    def asks_sts(self) -> bool:
        """An MTA-STS policy may decide."""
        return self.level in (Level.DANE, Level.STS) or self.discovers
