"""Host names: one canonical form for looking up, and the check of a certificate against names.

The check is service-identity's (RFC 6125, RFC 9525): subjectAltName only, never the commonName, a wildcard
stands for one whole left-most label. Whatever goes wrong in it, for whatever reason, is "no match".
"""

from __future__ import annotations

import re
from ipaddress import ip_address

import idna
from cryptography import x509
from cryptography.x509.oid import NameOID
from service_identity.cryptography import (
    extract_patterns,
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from service_identity.hazmat import DNSPattern

MAX_NAME = 253  # RFC 1035 section 2.3.4, in text form without the final dot
MAX_SHOWN = 3  # names of a certificate that a sentence quotes

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")


def canonical(name: str) -> str:
    """Lower case, no final dot, A-labels. A name that has no A-label form is only lowered: it matches no rule."""
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            pass
    return name.lower().removesuffix(".")


def is_host_name(name: str) -> bool:
    """True for a canonical name as DNS and files may carry it: no '/', NUL, blank, or empty label."""
    return len(name) <= MAX_NAME and _HOST.match(name) is not None


def is_ip(name: str) -> bool:
    """True if `name` is an IP address, without brackets."""
    if not name or not (name[-1].isdigit() or ":" in name):
        return False
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def name_matches(cert: x509.Certificate, names: tuple[str, ...]) -> bool:
    """True if the certificate names one of `names`. ".example.org" is any name below example.org; an IP address must
    be there as iPAddress."""
    return any(_matches(cert, name) for name in names)


def _matches(cert: x509.Certificate, name: str) -> bool:
    try:
        if name.startswith("."):
            return _has_name_below(cert, name)
        if is_ip(name):
            verify_certificate_ip_address(cert, name)
        else:
            verify_certificate_hostname(cert, name)
    except Exception:
        # CertificateError, VerificationError, ValueError, parser errors: doubt is never a match.
        return False
    return True


def _has_name_below(cert: x509.Certificate, suffix: str) -> bool:
    suffix = suffix.lower()
    if not is_host_name(suffix[1:]):
        return False
    return any(name.endswith(suffix) for name in _dns_names(cert))


def _dns_names(cert: x509.Certificate) -> list[str]:
    """Well-formed dNSName entries, lower case, wildcards included; raises what the parser raises."""
    patterns = [p.pattern.decode("ascii", "replace") for p in extract_patterns(cert) if isinstance(p, DNSPattern)]
    return [p for p in patterns if len(p) <= MAX_NAME and _PATTERN.match(p)]


def shown_names(cert: x509.Certificate) -> str:
    """The names in the certificate, for a sentence: never more than a few, never odd characters."""
    try:
        names = _dns_names(cert)
        san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += [str(ip) for ip in san.get_values_for_type(x509.IPAddress)]
    except Exception:
        return "no usable name"
    if not names:
        return "no usable name"
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def shown_dn(name: x509.Name) -> str:
    """A distinguished name for people: printable, in one line, with the names of attributes that OpenSSL shows."""
    try:
        text = name.rfc4514_string({NameOID.EMAIL_ADDRESS: "emailAddress"})
    except ValueError:
        return "(a name that cannot be read)"
    return "".join(c if c.isprintable() else "?" for c in text) or "(no name)"
