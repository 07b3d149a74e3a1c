"""The verdict on one connection: does what the handshake showed meet what the policy demands?

The table of docs/tls.md, cell by cell. A verdict always comes with one sentence that names the host, what was seen, the
rule with its file and line, and what mends it: log, queue listing and failure report show that very sentence. Whatever
is missing or unknown counts as not met, and an unmet demand delays mail (4.7.x), never more and never less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from qmtls.tls.complaints import worst_words
from qmtls.tls.dane import judge_dane
from qmtls.tls.demand import Level, Policy
from qmtls.tls.facts import TlsFacts
from qmtls.tls.fallback import NoTls, Then, then
from qmtls.tls.groups import is_hybrid
from qmtls.tls.names import name_matches, shown_names
from qmtls.tls.pin import certificate_digest, key_digest, key_pin_text

CRYPTOGRAPHIC_FAILURE = "4.7.5"  # RFC 3463 section 3.8: there is TLS, and what it shows does not do

_NO_TIME = datetime(1, 1, 1, tzinfo=UTC)  # before any certificate is valid

_ODD = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`: content may go over this connection. `status` is RFC 3463's for the report, "" if ok.

    `summary` is short, for the log: "pin", "may (unverified)", "plain", "secure failed".
    """

    ok: bool
    sentence: str
    status: str
    summary: str


def judge(policy: Policy, facts: TlsFacts | NoTls, host: str, now: datetime | None = None) -> Verdict:
    """NoTls = the connection is plaintext, or would have to be. `now` is asked for only where TLSA records name a CA,
    whose path depends on it; without it none is good."""
    if policy.broken or policy.skip:
        return Verdict(False, policy.broken or policy.skip, CRYPTOGRAPHIC_FAILURE, f"{policy.level.value} failed")
    if isinstance(facts, NoTls):
        return _judge_plaintext(policy, host, facts)
    verdict = _judge_identity(policy, facts, host, now)
    if policy.pq and verdict.ok and not is_hybrid(facts.group):
        what = f"{host} agreed on the group {facts.group or '(unknown)'}, which is no hybrid post-quantum one"
        return _unmet(policy, f"{what}, but {_rule(policy)} has pq=require", "its administrator must offer one")
    return verdict


def _judge_identity(policy: Policy, facts: TlsFacts, host: str, now: datetime | None) -> Verdict:
    match policy.level:
        case Level.NONE | Level.MAY | Level.ENCRYPT:
            return _met(policy, host, facts, "certificate not asked for", f"{policy.level.value} (unverified)")
        case Level.VERIFY | Level.SECURE | Level.STS:
            return _judge_chain(policy, facts, host)
        case Level.DANE | Level.DANE_ONLY:
            return _judge_dane(policy, facts, host, now or _NO_TIME)
        case Level.PIN:
            return _judge_pin(policy, facts, host)


def _judge_plaintext(policy: Policy, host: str, no_tls: NoTls) -> Verdict:
    seen = _ODD.sub("?", no_tls.words) or "there is no TLS"
    if then(policy.level, no_tls.trouble) is not Then.NEXT_HOST:
        return Verdict(True, f"{host}: plaintext ({seen}), as {_rule(policy)} permits", "", "plain")
    mend = "its administrator must mend that, or that rule must go"
    if no_tls.mend:
        mend += f"; {_ODD.sub('?', no_tls.mend)}"
    return _unmet(policy, f"{host}: {seen}, but {_rule(policy)} demands TLS", mend, no_tls.status)


def _judge_dane(policy: Policy, facts: TlsFacts, host: str, now: datetime) -> Verdict:
    if policy.tlsas is None:
        return _unmet(policy, f"{host}: its TLSA records are not known, but {_rule(policy)} demands DANE", _MEND_HOST)
    met, words = judge_dane(policy.tlsas, facts, policy.names, now)
    if met:
        return _met(policy, host, facts, words, policy.level.value)
    return _unmet(policy, f"{host} {words}, as {_rule(policy)} demands", "its administrator must mend that")


def _judge_chain(policy: Policy, facts: TlsFacts, host: str) -> Verdict:
    if facts.leaf is None:
        return _unmet(policy, f"{host} showed no certificate, but {_rule(policy)} demands one", _MEND_HOST)
    if not facts.verified:
        what = f"{host} showed a certificate that cannot be trusted ({chain_problem(facts)})"
        return _unmet(policy, f"{what}, but {_rule(policy)} demands a verified one", _MEND_HOST)
    if not name_matches(facts.leaf, policy.names):
        return _wrong_name(policy, facts.leaf, host)
    return _met(policy, host, facts, f"certificate verified for {_or(policy.names)}", policy.level.value)


def _judge_pin(policy: Policy, facts: TlsFacts, host: str) -> Verdict:
    leaf, pins = facts.leaf, policy.pins
    if leaf is None:
        return _unmet(policy, f"{host} showed no certificate, but {_rule(policy)} pins one", _MEND_HOST)
    if _is_pinned(policy, leaf):
        return _met(policy, host, facts, "the pinned key", "pin")
    if not pins.anchors:
        what = f"{host} showed a key that {_rule(policy)} does not pin ({_shown_key(leaf)})"
        return _unmet(policy, what, f"if that key is genuine, add it to {policy.origin}")
    if not facts.verified:
        what = f"{host} showed a certificate that is neither in {_rule(policy)} nor issued by a CA in it"
        mend = f"if it is genuine ({_shown_key(leaf)}), put it or its CA into {policy.origin}"
        return _unmet(policy, f"{what} ({chain_problem(facts)})", mend)
    if not name_matches(leaf, policy.names):
        return _wrong_name(policy, leaf, host)
    return _met(policy, host, facts, f"issued by a pinned CA for {_or(policy.names)}", "pin (CA)")


def _is_pinned(policy: Policy, leaf: x509.Certificate) -> bool:
    pins = policy.pins
    try:
        return (bool(pins.keys) and key_digest(leaf) in pins.keys) or (
            bool(pins.certificates) and certificate_digest(leaf) in pins.certificates
        )
    except (ValueError, IndexError):
        return False


def chain_problem(facts: TlsFacts) -> str:
    """The most telling complaint of the verifier, in words."""
    if not facts.errors:
        return "the chain was not checked"
    return worst_words(facts.errors)


def _wrong_name(policy: Policy, leaf: x509.Certificate, host: str) -> Verdict:
    what = f"{host} showed a certificate for {shown_names(leaf)}, but {_rule(policy)} demands {_or(policy.names)}"
    return _unmet(policy, what, _MEND_HOST)


def _met(policy: Policy, host: str, facts: TlsFacts, what: str, summary: str) -> Verdict:
    return Verdict(True, f"{host}: {facts.version}, {what}, by {_rule(policy)}", "", summary)


def _unmet(policy: Policy, what: str, mend: str, status: str = CRYPTOGRAPHIC_FAILURE) -> Verdict:
    return Verdict(False, f"{what}; {mend}; mail waits until then", status, f"{policy.level.value} failed")


_MEND_HOST = "its administrator must mend that, or that rule must change"


def _rule(policy: Policy) -> str:
    return policy.why or f"{policy.origin} ({policy.level.value})"


def _shown_key(leaf: x509.Certificate) -> str:
    try:
        return key_pin_text(leaf)
    except (ValueError, IndexError):
        return "a key that cannot be read"


def _or(names: tuple[str, ...]) -> str:
    shown = [f"a name below {name[1:]}" if name.startswith(".") else name for name in names]
    return " or ".join(shown) or "a name, and no name applies here"
