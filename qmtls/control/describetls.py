"""What `qmtls check` says of outbound TLS: what each pin file is, which rules never apply or soon end, and where two
rules contradict each other. Pure, like describe."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from qmtls.control.findings import AHEAD, Finding, FindingLevel, day_of, expiry
from qmtls.control.settings import Settings
from qmtls.tls.demand import Origin
from qmtls.tls.names import name_matches, shown_dn
from qmtls.tls.pin import is_ca, key_pin_text
from qmtls.tls.policy import PinFile, PolicyLine, PolicyRules, without_line
from qmtls.wording import counted


def describe_outbound(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Every finding."""
    rules = settings.tls
    for name in sorted(rules.pins):
        yield from _pin(rules.pins[name], now)
    yield from expiry(rules.default.origin, rules.default.anchors or (), now)
    for line in sorted(rules.lines.values(), key=lambda line: line.policy.origin.line):
        yield from _line(rules, line, now)
    yield from _flags(rules)
    for name, credential in sorted(settings.client_credentials.items()):
        if credential is None:
            origin = Origin(f"control/clientcerts/{name}.pem")
            yield Finding(FindingLevel.NOTE, origin, f"no certificate of ours is shown to {name}")
        else:
            text = f"shown to {name} as our certificate, until {day_of(credential.chain[0])}"
            yield Finding(FindingLevel.NOTE, credential.origin, text)
            yield from expiry(credential.origin, credential.chain, now)


# ---------------------------------------------------------------- pin files


def _pin(pin: PinFile, now: datetime) -> Iterator[Finding]:
    if pin.problem:
        text = f"this pin file cannot be used: {pin.problem}; mail for {pin.name} waits until it is mended or removed"
        yield Finding(FindingLevel.ERROR, pin.origin, text)
        return
    leaves = [certificate for certificate in pin.certificates if not is_ca(certificate)]
    if not leaves:
        yield Finding(FindingLevel.NOTE, pin.origin, _anchors(pin))
        # A chain to an expired CA does not verify, so here the date is asked for.
        yield from expiry(pin.origin, pin.certificates, now)
        return
    backups = len(pin.pins.keys) - 1
    text = f"pins the key of {pin.name}, {key_pin_text(leaves[0])}"
    if backups:
        text += f", and {counted(backups, 'backup key')}"
    ignored = len(pin.certificates) - len(leaves)
    if ignored:
        text += f"; {counted(ignored, 'CA certificate')} beside it not used"
    yield Finding(FindingLevel.NOTE, pin.origin, f"{text}; neither name nor date is asked")
    yield from _renewal(pin, now)


def _renewal(pin: PinFile, now: datetime) -> Iterator[Finding]:
    """The date of a pinned key's certificate is not asked for, but says when the host may show another key."""
    ends = max(certificate.not_valid_after_utc for certificate in pin.certificates if not is_ca(certificate))
    mend = f"if {pin.name} gets a new key with it, add that key to this file before"
    if ends <= now:
        text = f"the certificate of the pinned key ended {ends:%Y-%m-%d}: the pin holds, but it will be renewed; {mend}"
        yield Finding(FindingLevel.WARNING, pin.origin, text)
    elif ends <= now + AHEAD:
        text = f"the certificate of the pinned key ends {ends:%Y-%m-%d} and will be renewed; {mend}"
        yield Finding(FindingLevel.WARNING, pin.origin, text)


def _anchors(pin: PinFile) -> str:
    ends = min(certificate.not_valid_after_utc for certificate in pin.certificates)
    count = len(pin.certificates)
    what = "a CA" if count == 1 else f"{count} CAs"
    name = shown_dn(pin.certificates[0].subject)
    names = f"{name}, …" if count > 1 else name
    text = f"trusts {what} for {pin.name} ({names}), until {ends:%Y-%m-%d}, or one of these very keys"
    if any(name_matches(certificate, (pin.name,)) for certificate in pin.certificates):
        return text  # the usual self-signed certificate, which calls itself a CA
    return f"{text}; if only the host's own key is meant, put its own certificate here instead"


# ---------------------------------------------------------------- lines


def _line(rules: PolicyRules, line: PolicyLine, now: datetime) -> Iterator[Finding]:
    origin, anchors = line.policy.origin, line.policy.anchors or ()
    yield from expiry(origin, anchors, now)
    for certificate in anchors:
        if not is_ca(certificate):
            text = f"tafile= holds {shown_dn(certificate.subject)}, which is no CA: it is believed only as it stands"
            yield Finding(FindingLevel.WARNING, origin, f"{text}; take level pin, or the CA that issued it")
    pin = rules.pins.get(line.domain) or rules.pins.get(line.domain.partition("]")[0].removeprefix("["))
    if pin is not None:
        text = f"is never used: {pin.origin} goes before it; remove one of the two"
        yield Finding(FindingLevel.WARNING, origin, text)
    yield from _until(rules, line, now)


def _until(rules: PolicyRules, line: PolicyLine, now: datetime) -> Iterator[Finding]:
    if line.until is None:
        return
    origin = line.policy.origin
    note = "".join(f", {word} {text}" for word, text in (("owner", line.owner), ("reason:", line.reason)) if text)
    if line.until < now.date():
        after = without_line(rules, line, now.date())
        passed = f"until={line.until} has passed{note}"
        if after is None:
            why = f"the line stays in force, because mail to {line.domain} would be protected less without it"
            yield Finding(FindingLevel.WARNING, origin, f"{passed}; {why}: remove it, or set a new date")
        else:
            text = f"{passed}; the line has ended, {after.why or after.origin} applies: remove it"
            yield Finding(FindingLevel.NOTE, origin, text)
    elif line.until <= (now + AHEAD).date():
        text = f"until={line.until} is near{note}; remove the line, or set a new date"
        yield Finding(FindingLevel.WARNING, origin, text)


# ---------------------------------------------------------------- flags


def _flags(rules: PolicyRules) -> Iterator[Finding]:
    if rules.exhaustive is None:
        return
    for host, origin in sorted(rules.no_tls.items()):
        text = f"says of {host} what {rules.exhaustive} says of every host that is not pinned; remove one of the two"
        yield Finding(FindingLevel.NOTE, origin, text)
    if rules.default.origin.line:  # it was written, so something was expected of it
        text = f"is used for relays by address only: {rules.exhaustive} goes before it for every host with a name"
        yield Finding(FindingLevel.WARNING, rules.default.origin, f"{text}; remove one of the two")
    if not rules.pins and not rules.lines:
        text = "no host is pinned and tlspolicy is empty: all mail to hosts with a name goes in plaintext"
        yield Finding(FindingLevel.WARNING, rules.exhaustive, f"{text}; remove this file, or add pin files")
