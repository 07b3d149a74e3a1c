"""What a certificate says about its holder, as pairs of kind and value that rules can name.

Values are normalised so that equal means the same: digests in lower-case hex, e-mails and host names in lower case,
addresses as `ipaddress` writes them, subjects as qmtls.tls.dn does. Whatever cannot be read, or could be read in two
ways, gives no identity.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from qmtls.tls.dn import subject_key
from qmtls.tls.pin import certificate_digest, key_digest

Identity = tuple[str, str]

REMEMBERED = 256  # certificates: a client that comes again shows the same one

# An address that a rule may name: printable ASCII, no blanks. NUL and line ends are outside of it, so an address cut
# short by one in another parser never looks equal here.
EMAIL = re.compile(r"[!-?A-~]+@[!-?A-~]+\Z")
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+\Z")  # RFC 3986; compared as written
_VISIBLE = re.compile(r"[!-~]+\Z")


@lru_cache(maxsize=REMEMBERED)
def own_identities(cert: x509.Certificate) -> frozenset[Identity]:
    """What holds of the certificate and key themselves, whoever signed it."""
    found = {("sha256", certificate_digest(cert).hex())}
    try:
        found.add(("spki", key_digest(cert).hex()))
    except (ValueError, IndexError):
        pass
    return frozenset(found)


@lru_cache(maxsize=REMEMBERED)
def chained_identities(cert: x509.Certificate) -> frozenset[Identity]:
    """What its CA vouches for: only for a certificate whose chain was verified."""
    found = {("email", email.lower()) for email in certificate_emails(cert)}
    found.update(_san_identities(cert))
    try:
        found.add(("dn", subject_key(cert.subject)))
    except Exception:  # the parser's errors are many; none of them may become an identity
        pass
    found.discard(("dn", ""))  # an empty subject names nobody
    return frozenset(found)


def certificate_emails(cert: x509.Certificate) -> tuple[str, ...]:
    """The addresses that the certificate vouches for, as written in it: its SAN rfc822Names if it has any, else its one
    subject emailAddress; several there are ambiguous and give none, as does anything that cannot be read."""
    try:
        names = _san_emails(cert)
        if names is None:
            names = _subject_emails(cert)
            names = names if len(names) == 1 else []
    except Exception:
        # The parser's errors for malformed extensions and names are many; none of them may become an identity.
        return ()
    return tuple(name for name in names if EMAIL.match(name))


def email_problem(cert: x509.Certificate) -> str:
    """Why the certificate vouches for no address; "" if it does for one."""
    if certificate_emails(cert):
        return ""
    try:
        names = _san_emails(cert)
        in_subject = _subject_emails(cert)
    except Exception:
        return "its names cannot be read"
    if names is None and len(in_subject) > 1:
        return "several email addresses in its subject"
    if not (names or in_subject):
        return "contains no email address"
    odd = any(not name.isascii() for name in names or in_subject)
    return "its email address is not in ASCII" if odd else "its email address is malformed"


def _subject_emails(cert: x509.Certificate) -> list[str]:
    return [str(attribute.value) for attribute in cert.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)]


def _san_emails(cert: x509.Certificate) -> list[str] | None:
    """None = there is no rfc822Name."""
    san = _san(cert)
    return (san.get_values_for_type(x509.RFC822Name) or None) if san is not None else None


def _san(cert: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _san_identities(cert: x509.Certificate) -> set[Identity]:
    try:
        san = _san(cert)
        if san is None:
            return set()
        found = {("san:email", name.lower()) for name in san.get_values_for_type(x509.RFC822Name) if EMAIL.match(name)}
        found.update(("san:dns", n.lower()) for n in san.get_values_for_type(x509.DNSName) if _VISIBLE.match(n))
        found.update(("san:uri", n) for n in san.get_values_for_type(x509.UniformResourceIdentifier) if URI.match(n))
        found.update(("san:ip", str(address)) for address in san.get_values_for_type(x509.IPAddress))
    except Exception:  # as above
        return set()
    return found
