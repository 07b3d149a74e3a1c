"""Client identities as files name them: the rules of `tlsclients`, and those that `tlssenders` asks for.

A rule is never read as something weaker than it says: a kind that is unknown, or a scope that cannot be used, makes the
line a problem.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from qmtls.control.lists import BadValueError, Line, quote
from qmtls.control.scopes import read_scope, split_words
from qmtls.control.values import host, sha256_digest, spki_digest
from qmtls.tls.clients import ClientRule
from qmtls.tls.dn import DnError, parse_subject
from qmtls.tls.identities import EMAIL, URI, Identity
from qmtls.tls.names import canonical, is_ip

KINDS = "an e-mail address, sha256:HEX, spki:BASE64, dn:SUBJECT or san:email:, san:dns:, san:uri:, san:ip:"
DN_MEND = (
    'take it from: openssl x509 -in CERT -noout -subject -nameopt RFC2253, and write it as dn:"CN=alice,O=Example Ltd"'
)


def client_rule(line: Line) -> ClientRule:
    """One line of `tlsclients`: an identity and its scope. Raises BadValueError."""
    if line.text[0] in " \t":
        raise BadValueError("begins with a blank", "write the rule at the beginning of the line")
    text, *scope = split_words(line.text)
    kind, value = read_identity(text)
    return ClientRule(kind, value, line.origin, text, read_scope(scope))


def read_identity(text: str) -> Identity:
    """Kind and value of one rule, as certificates give them (qmtls.tls.identities). Raises BadValueError."""
    kind, colon, value = text.partition(":")
    # An address may have a colon only in quotes, which no rule needs: so before an "@" it always ends a kind.
    if not colon or "@" in kind:
        return "email", _email(text)
    kind = kind.lower()
    if kind == "san":
        inner, colon, value = value.partition(":")
        kind = f"san:{inner.lower()}" if colon else text
    read = _READERS.get(kind)
    if read is None:
        raise BadValueError(f"{quote(kind)} is no kind of rule", f"write {KINDS}")
    if not value:
        raise BadValueError(f"{kind}: has no value", f"write {KINDS}")
    return kind, read(value)


def _email(text: str) -> str:
    local_part, _, domain = text.rpartition("@")
    # Certificates carry the domain as A-labels (RFC 5280 section 7.5).
    address = text if domain.isascii() else f"{local_part}@{canonical(domain)}"
    if not EMAIL.match(address):
        what = "has characters that no certificate's address has" if not address.isascii() else "is no e-mail address"
        raise BadValueError(f"{quote(text)} {what}", f"write {KINDS}")
    return address.lower()


def _subject(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    try:
        return parse_subject(text)
    except DnError as problem:
        raise BadValueError(f"{quote(text)} is no subject: {problem}", DN_MEND) from None


def _dns(text: str) -> str:
    """A certificate may name a wildcard, and then the rule does too: it is compared, not expanded."""
    return f"*.{host(text[2:])}" if text.startswith("*.") else host(text)


def _uri(text: str) -> str:
    if not URI.match(text):
        raise BadValueError(f"{quote(text)} is no URI", "write it as the certificate has it, as spiffe://a.example/b")
    return text


def _ip(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not is_ip(bare) or "%" in bare:
        raise BadValueError(f"{quote(text)} is no IP address", "write an address such as 192.0.2.1 or 2001:db8::1")
    return str(ip_address(bare))


_READERS: dict[str, Callable[[str], str]] = {
    "sha256": lambda text: sha256_digest(text).hex(),
    "spki": lambda text: spki_digest(text).hex(),
    "dn": _subject,
    "san:email": _email,
    "san:dns": _dns,
    "san:uri": _uri,
    "san:ip": _ip,
}
