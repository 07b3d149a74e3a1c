"""Everything the control directory says, compiled: one frozen value that sessions keep for their lifetime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from qmtls.access import AccessRules
from qmtls.delivery.dkim import DkimKeys
from qmtls.delivery.holds import Holds
from qmtls.delivery.routes import Routing
from qmtls.delivery.terms import TermRules
from qmtls.delivery.tlsreport import Reporting
from qmtls.limits import LimitRules
from qmtls.recipients import Recipients
from qmtls.smtp.login import Logins
from qmtls.tls.clients import ClientRule
from qmtls.tls.policy import Origin, PolicyRules


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the control directory: where, what, and how to mend it."""

    origin: Origin
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.what}; {self.mend}"


class ControlError(Exception):
    """The control directory cannot be used. `problems` has at least one entry; str() is the first. `outside` are the
    files elsewhere that it names, as in Settings."""

    def __init__(self, problems: tuple[Problem, ...], outside: tuple[Path, ...] = ()) -> None:
        super().__init__(str(problems[0]))
        self.problems = problems
        self.outside = outside


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key with its certificate chain, leaf first, from one PEM file."""

    origin: Origin
    key: PrivateKeyTypes
    chain: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class ClientTrust:
    """`clientca.pem` and `clientcrl.pem`: whom to believe about client certificates."""

    authorities: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] | None  # None = no clientcrl.pem


@dataclass(frozen=True, slots=True)
class Listener:
    """One line of `listen` (or one option): role smtp, smtps, submission or admin, and a Twisted endpoint string."""

    role: str
    endpoint: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class User:
    """One line of `users`: argon2's encoded hash of the password, and the identity that it proves."""

    hash: str = field(repr=False)  # never shown, never logged
    rule: ClientRule


@dataclass(frozen=True, slots=True)
class Settings:
    """One snapshot. Names and defaults are those of the files (docs/control.md); times in seconds."""

    control: Path
    me: str
    greeting: str
    helo_host: str
    access: AccessRules
    tls: PolicyRules
    recipients: Recipients
    routing: Routing
    client_trust: ClientTrust | None
    server_credential: Credential | None  # None = STARTTLS is not offered
    named_credentials: Mapping[str, Credential]  # servercerts/, by the name asked for or ".parent"
    client_credential: Credential | None
    server_ciphers: str
    client_ciphers: str
    data_bytes: int  # 0 = no limit
    timeout_smtpd: float
    timeout_remote: float
    timeout_connect: float
    concurrency_remote: int  # connections per next hop; 0 = hold remote mail
    concurrency_local: int
    queue_lifetime: float
    policy_lifetime: float  # of mail that waits for a TLS demand
    policy_retest: float  # until the first probe of a next hop that met no TLS demand; 0 = no probes
    delay_warn: float  # 0 = no warnings
    bounce_style: str  # "dsn" or "qsbmf"
    bounce_from: str
    bounce_host: str
    double_bounce_to: str
    double_bounce_host: str
    dns_servers: tuple[tuple[str, int], ...]  # () = the system's
    listeners: tuple[Listener, ...]  # () = the default
    limits: LimitRules = field(default_factory=LimitRules)
    users: Mapping[str, User] = field(default_factory=dict)  # by name; {} = no AUTH with a password
    logins: Logins = field(default_factory=dict)  # at relays of `smtproutes`
    holds: Holds = field(default_factory=Holds)  # mail that stays in the queue
    terms: TermRules = field(default_factory=TermRules)  # what next hops bear
    tls_reports: Reporting | None = None  # None = no TLS reports are sent
    dkim: DkimKeys = field(default_factory=dict)  # {} = nothing is signed
    client_credentials: Mapping[str, Credential | None] = field(default_factory=dict)  # clientcerts/; None = none shown
    dns_trusted: frozenset[str] = frozenset()  # of dns_servers, beside those on this host: their word on DNSSEC counts
    dns_check: tuple[str, str] | None = None  # a signed name, and one with a bad signature; None = no check
    outside: tuple[Path, ...] = ()  # files elsewhere that count: a change of them is a change of the directory
    warnings: tuple[Problem, ...] = ()  # what `qmtls check` says although the directory can be used
