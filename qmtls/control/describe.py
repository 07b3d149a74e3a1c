"""What `qmtls check` says: every problem with its mend, what each pin file is, and what expires when.

Pure: the compiled directory (or its error) and the time go in, findings come out. A finding of level ERROR makes the
check fail; WARNING is worth a look; NOTE is only told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from math import inf

from cryptography import x509

from qmtls.control.settings import ControlError, Credential, Problem, Settings
from qmtls.tls.crls import signed_by
from qmtls.tls.names import shown_dn, shown_names
from qmtls.tls.pin import is_ca, key_pin_text
from qmtls.tls.policy import Origin, PinFile, PolicyLine

AHEAD = timedelta(days=14)  # how long before an end it is warned of


class FindingLevel(Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check's output."""

    level: FindingLevel
    origin: Origin
    text: str

    def __str__(self) -> str:
        return f"{self.level.value}: {self.origin}: {self.text}"


def describe(compiled: Settings | ControlError, now: float) -> list[Finding]:
    """Every finding, errors first. `now` in Unix seconds."""
    if isinstance(compiled, ControlError):
        return [_of_problem(FindingLevel.ERROR, problem) for problem in compiled.problems]
    time = datetime.fromtimestamp(now, UTC)
    found = [_of_problem(FindingLevel.WARNING, warning) for warning in compiled.warnings]
    found += _server(compiled, time)
    found += _client_trust(compiled, time)
    found += _client_rules(compiled, time)
    found += _dkim_keys(compiled)
    found += _reports(compiled)
    for name in sorted(compiled.tls.pins):
        found += _pin(compiled.tls.pins[name], time)
    for line in sorted(compiled.tls.lines.values(), key=lambda line: line.policy.origin.line):
        found += _policy_line(line, time)
    return ordered(found)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, notes last; else as they are."""
    order = list(FindingLevel)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _of_problem(level: FindingLevel, problem: Problem) -> Finding:
    return Finding(level, problem.origin, f"{problem.what}; {problem.mend}")


def _server(settings: Settings, now: datetime) -> Iterator[Finding]:
    if settings.server_credential is None:
        origin = Origin("control/servercert.pem")
        yield Finding(
            FindingLevel.NOTE, origin, "does not exist: STARTTLS is not offered, no certificate can open the relay"
        )
    named = settings.named_credentials.values()
    for credential in (settings.server_credential, *named, settings.client_credential):
        if credential is not None:
            yield _credential(credential)
            yield from _expiry(credential.origin, credential.chain, now)


def _credential(credential: Credential) -> Finding:
    leaf = credential.chain[0]
    more = len(credential.chain) - 1
    chain = f", with {more} certificate{'s' if more > 1 else ''} of its chain" if more else ""
    text = f"our certificate for {shown_names(leaf)}{chain}, until {_day(leaf)}"
    return Finding(FindingLevel.NOTE, credential.origin, text)


def _client_trust(settings: Settings, now: datetime) -> Iterator[Finding]:
    trust = settings.client_trust
    if trust is None:
        return
    yield from _expiry(Origin("control/clientca.pem"), trust.authorities, now)
    if trust.crls is None:
        return
    origin = Origin("control/clientcrl.pem")
    rest = list(trust.crls)
    for authority in filter(is_ca, trust.authorities):
        own = [crl for crl in trust.crls if signed_by(crl, authority)]
        rest = [crl for crl in rest if not signed_by(crl, authority)]
        if own:
            yield from _list_expiry(origin, own, now)
        else:
            text = f"has no revocation list of {shown_dn(authority.subject)}: its clients get nothing; add the list"
            yield Finding(FindingLevel.ERROR, origin, text)
    for crl in rest:  # of CAs that stand between those and the clients
        yield from _list_expiry(origin, [crl], now)


def _list_expiry(origin: Origin, lists: Sequence[x509.CertificateRevocationList], now: datetime) -> Iterator[Finding]:
    """All of one CA: as long as one of them is current its clients are let in."""
    name = shown_dn(lists[0].issuer)
    begun = [crl for crl in lists if crl.last_update_utc <= now]
    if not begun:
        first = min(crl.last_update_utc for crl in lists)
        text = (
            f"the revocation list of {name} begins {first:%Y-%m-%d %H:%M} UTC: its clients get nothing; set the clock"
        )
        yield Finding(FindingLevel.ERROR, origin, text)
        return
    ends = [crl.next_update_utc for crl in begun if crl.next_update_utc is not None]
    if len(ends) < len(begun):
        return  # one has no end
    end = max(ends)
    mend = "`qmtls cert revoke` renews that of the local CA"
    if end <= now:
        text = f"the revocation list of {name} ended {end:%Y-%m-%d}: its clients get nothing; renew it ({mend})"
        yield Finding(FindingLevel.ERROR, origin, text)
    elif end <= now + AHEAD:
        text = f"the revocation list of {name} ends {end:%Y-%m-%d}; renew it before ({mend})"
        yield Finding(FindingLevel.WARNING, origin, text)


def _client_rules(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Lines of `tlsclients` and `users` whose time is over, or soon will be."""
    for rule in (*settings.access.clients.rules, *(user.rule for user in settings.users.values())):
        if rule.scope.until == inf:
            continue
        end = datetime.fromtimestamp(rule.scope.until, UTC)
        last = f"until={end - timedelta(seconds=1):%Y-%m-%d}"
        what = f"{rule.name} is permitted nothing by this line"
        if end <= now:
            text = f"{last} has passed: {what}; remove it, or set a new date"
            yield Finding(FindingLevel.WARNING, rule.origin, text)
        elif end <= now + AHEAD:
            yield Finding(FindingLevel.WARNING, rule.origin, f"{last} is near: {what} after it; set a new date")


def _dkim_keys(settings: Settings) -> Iterator[Finding]:
    for domain in sorted(settings.dkim):
        for key in settings.dkim[domain]:
            text = f"signs mail of {domain} ({key.kind}); its TXT record is {key.record[0]}"
            yield Finding(FindingLevel.NOTE, key.origin, text)


def _reports(settings: Settings) -> Iterator[Finding]:
    if settings.tls_reports is not None:
        text = f"TLS reports are sent each day to the domains that ask for them, from {settings.tls_reports.sender}"
        yield Finding(FindingLevel.NOTE, Origin("control/tlsrpt"), text)


def _pin(pin: PinFile, now: datetime) -> Iterator[Finding]:
    if pin.problem:
        text = f"this pin file cannot be used: {pin.problem}; mail for {pin.name} waits until it is mended or removed"
        yield Finding(FindingLevel.ERROR, pin.origin, text)
        return
    leaves = [certificate for certificate in pin.certificates if not is_ca(certificate)]
    if not leaves:
        yield Finding(FindingLevel.NOTE, pin.origin, _anchors(pin))
        # A chain to an expired CA does not verify, so here the date is asked for.
        yield from _expiry(pin.origin, pin.certificates, now)
        return
    backups = len(pin.pins.keys) - 1
    text = f"pins the key of {pin.name}, {key_pin_text(leaves[0])}"
    if backups:
        text += f", and {backups} backup key{'s' if backups > 1 else ''}"
    ignored = len(pin.certificates) - len(leaves)
    if ignored:
        text += f"; {ignored} CA certificate{'s' if ignored > 1 else ''} beside it not used"
    yield Finding(FindingLevel.NOTE, pin.origin, f"{text}; neither name nor date is asked")


def _anchors(pin: PinFile) -> str:
    ends = min(certificate.not_valid_after_utc for certificate in pin.certificates)
    count = len(pin.certificates)
    what = "a CA" if count == 1 else f"{count} CAs"
    name = shown_dn(pin.certificates[0].subject)
    names = f"{name}, …" if count > 1 else name
    return f"trusts {what} for {pin.name} ({names}), until {ends:%Y-%m-%d}, or one of these very keys"


def _policy_line(line: PolicyLine, now: datetime) -> Iterator[Finding]:
    origin = line.policy.origin
    yield from _expiry(origin, line.policy.anchors or (), now)
    if line.until is None:
        return
    note = "".join(f", {word} {text}" for word, text in (("owner", line.owner), ("reason:", line.reason)) if text)
    if line.until < now.date():
        text = f"until={line.until} has passed{note}; the line stays in force: remove it, or set a new date"
        yield Finding(FindingLevel.WARNING, origin, text)
    elif line.until <= (now + AHEAD).date():
        yield Finding(
            FindingLevel.WARNING, origin, f"until={line.until} is near{note}; remove the line, or set a new date"
        )


def _expiry(origin: Origin, certificates: Iterable[x509.Certificate], now: datetime) -> Iterator[Finding]:
    for certificate in certificates:
        name = shown_dn(certificate.subject)
        if certificate.not_valid_after_utc <= now:
            text = f"the certificate {name} expired {_day(certificate)}; renew it"
            yield Finding(FindingLevel.ERROR, origin, text)
        elif certificate.not_valid_after_utc <= now + AHEAD:
            text = f"the certificate {name} expires {_day(certificate)}; renew it before"
            yield Finding(FindingLevel.WARNING, origin, text)
        elif certificate.not_valid_before_utc > now:
            text = f"the certificate {name} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}"
            yield Finding(FindingLevel.WARNING, origin, f"{text}; use the present one until then, or set the clock")


def _day(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
