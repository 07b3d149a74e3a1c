"""What `qmtls check` says: every problem with its mend, what each pin file is, and what expires when.

Pure: the compiled directory (or its error) and the time go in, findings come out. A finding of level ERROR makes the
check fail; WARNING is worth a look; NOTE is only told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import inf

from cryptography import x509

from qmtls.control.describelogins import describe_logins
from qmtls.control.describetls import describe_outbound
from qmtls.control.findings import AHEAD, Finding, FindingLevel, day_of, expiry
from qmtls.control.settings import ControlError, Credential, Problem, Settings
from qmtls.tls.crls import signed_by
from qmtls.tls.names import shown_dn, shown_names
from qmtls.tls.pin import is_ca
from qmtls.tls.policy import Origin
from qmtls.wording import counted


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
    found += describe_outbound(compiled, time)
    found += describe_logins(compiled, time)
    found += _holds(compiled, now)
    return ordered(found)


def _holds(settings: Settings, now: float) -> Iterator[Finding]:
    """What keeps mail in the queue is easily forgotten."""
    for rule in settings.holds.rules:
        if rule.until <= now:
            yield Finding(FindingLevel.WARNING, rule.origin, f"{rule.text}: that day has passed; remove the line")
        else:
            yield Finding(FindingLevel.NOTE, rule.origin, f"{rule.text}: such mail stays in the queue")


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
            yield from expiry(credential.origin, credential.chain, now)


def _credential(credential: Credential) -> Finding:
    leaf = credential.chain[0]
    more = len(credential.chain) - 1
    chain = f", with {counted(more, 'certificate')} of its chain" if more else ""
    text = f"our certificate for {shown_names(leaf)}{chain}, until {day_of(leaf)}"
    return Finding(FindingLevel.NOTE, credential.origin, text)


def _client_trust(settings: Settings, now: datetime) -> Iterator[Finding]:
    trust = settings.client_trust
    if trust is None:
        return
    yield from expiry(Origin("control/clientca.pem"), trust.authorities, now)
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
