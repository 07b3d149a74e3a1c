"""The verdict on one connection: does what the handshake showed meet what the policy demands?

The table of docs/tls.md, cell by cell. A verdict always comes with one sentence that names the host, what was seen, the
rule with its file and line, and what mends it: log, queue listing and failure report show that very sentence. Whatever
is missing or unknown counts as not met, and an unmet demand delays mail (4.7.x), never more and never less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509

from qmtls.tls.complaints import worst_words
from qmtls.tls.facts import TlsFacts
from qmtls.tls.names import name_matches, shown_names
from qmtls.tls.pin import certificate_digest, key_digest, key_pin_text
from qmtls.tls.policy import Level, Policy

# RFC 3463 section 3.8
NOT_SUPPORTED = "4.7.4"  # the host offers no TLS
CRYPTOGRAPHIC_FAILURE = "4.7.5"  # it does, and what it shows does not do

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


def judge(policy: Policy, facts: TlsFacts | None, host: str, no_tls: str = "") -> Verdict:
    """`facts` None = the connection is plaintext, and `no_tls` says why: "STARTTLS is not offered"."""
    if policy.broken or policy.skip:
        return Verdict(False, policy.broken or policy.skip, CRYPTOGRAPHIC_FAILURE, f"{policy.level.value} failed")
    if facts is None:
        return _judge_plaintext(policy, host, no_tls)
    match policy.level:
        case Level.NONE | Level.MAY | Level.ENCRYPT:
            return _met(policy, host, facts, "TLS, certificate not asked for", f"{policy.level.value} (unverified)")
        case Level.VERIFY | Level.SECURE:
            return _judge_chain(policy, facts, host)
        case Level.PIN:
            return _judge_pin(policy, facts, host)


def _judge_plaintext(policy: Policy, host: str, no_tls: str) -> Verdict:
    seen = _ODD.sub("?", no_tls) or "there is no TLS"
    if policy.level in (Level.NONE, Level.MAY):
        return Verdict(True, f"{host}: plaintext ({seen}), as {_rule(policy)} permits", "", "plain")
    # A host that offers TLS and then breaks it is another finding than one that has none.
    status = CRYPTOGRAPHIC_FAILURE if "handshake" in seen else NOT_SUPPORTED
    mend = "its administrator must mend that, or that rule must go"
    return _unmet(policy, f"{host}: {seen}, but {_rule(policy)} demands TLS", mend, status)


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
