"""`tlssenders`: which senders' mail must come over TLS, or with a certificate of theirs.

    a.example    tls
    .b.example   cert=alice@b.example,spki:BASE64,dn:"CN=gate,O=B Ltd"

A line that cannot be used is a problem, never passed over: without it mail would be taken that it forbids.
"""

from __future__ import annotations

from qmtls.access import SenderRule
from qmtls.control.clientrules import read_identity
from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.scopes import split_entries, split_words
from qmtls.control.values import domain_or_parent

FILE = "tlssenders"
MEND = "write: a.example tls, or: a.example cert=RULE,RULE with rules as in tlsclients"


def read_senders(files: ControlFiles) -> dict[str, SenderRule]:
    """By domain. A domain has one line: of two nobody could say which was meant."""
    found: dict[str, SenderRule] = {}
    for line in files.lines(FILE) or ():
        with files.collecting(line.origin):
            rule = sender_rule(line)
            if rule.domain in found:
                what = f"{rule.domain} is here for the second time"
                raise BadValueError(what, f"make one line of it and {found[rule.domain].origin}")
            found[rule.domain] = rule
    return found


def sender_rule(line: Line) -> SenderRule:
    """One line. Raises BadValueError."""
    words = split_words(line.text)
    if len(words) != 2 or line.text[0] in " \t":
        raise BadValueError(f"{quote(line.text)} is not a domain with what it demands", MEND)
    domain, demand = words
    if demand == "tls":
        return SenderRule(domain_or_parent(domain), frozenset(), line.origin)
    key, equals, rules = demand.partition("=")
    if key != "cert" or not equals:
        raise BadValueError(f"{quote(demand)} is no demand", MEND)
    identities = frozenset(read_identity(text) for text in split_entries(rules))
    return SenderRule(domain_or_parent(domain), identities, line.origin)
